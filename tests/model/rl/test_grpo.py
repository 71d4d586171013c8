"""The stage `grpo` on a tiny model: the same bytes twice, killed in between or not; a collapse is told."""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

from infra.errors import UserError
from infra.execution import ENVIRONMENT_KEY
from model.architecture.checkpoint import load_model
from model.facts.training import LayoutFacts
from model.finetune_sections import GrpoConfig
from model.rl.grpo import grpo
from model.rl.rewards import Reward
from model.rl.rollout import roll_out
from model.training.engine import SingleEngine
from pipeline.reasoning.problems import read_tasks
from tests.model.artifacts import is_start_with_adapter, shared_artifacts
from tests.pipeline.corpus import published

RUNNING = """
import json, sys
from pathlib import Path
from model.rl.grpo import grpo
from model.facts.training import LayoutFacts
from model.finetune_sections import GrpoConfig
config, inputs = json.loads(sys.argv[1])
grpo(GrpoConfig.model_validate(config), {name: Path(path) for name, path in inputs.items()}, Path(sys.argv[2]))
"""
DYING = f"""
import itertools, os, signal
import torch
from model.training.engine import SingleEngine
torch.set_num_threads(1)
whole, steps = SingleEngine.step, itertools.count()
def step(engine, rate):
    if next(steps) == 7:  # in the third rollout's updates
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(engine, rate)
SingleEngine.step = step
{RUNNING}"""


@pytest.fixture(autouse=True, scope="module")
def _a_checkpoint_every_step() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(ENVIRONMENT_KEY, json.dumps({"checkpoints": {"seconds": 0}}))
        yield


@pytest.fixture(scope="module")
def inputs() -> dict[str, Path]:
    made = shared_artifacts()
    return {name: made[name] for name in ("tokenizer", "reasoning", "shards")} | {"start": made["sft"]}


def config(**changes: Any) -> GrpoConfig:
    fields: dict[str, Any] = {
        "steps": 4,
        "questions": 3,
        "group_size": 4,
        "max_new_tokens": 12,
        "accuracy_tasks": 4,
        "learning_rate": 1e-3,
        "minibatches": 3,
    }
    return GrpoConfig.model_validate(fields | changes)


@pytest.fixture(scope="module")
def finished(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished")
    grpo(config(), inputs, out)
    return out


def test_the_artifact(inputs: dict[str, Path], finished: Path) -> None:
    history = json.loads((finished / "history.json").read_text())
    assert [row["step"] for row in history["steps"]] == [1, 2, 3, 4]
    assert {"reward", "accuracy", "format", "kl", "entropy", "length", "loss"} <= history["steps"][0].keys()
    assert 0 < history["steps"][0]["kl"] < 0.1  # the later of its three updates have moved
    kept = [json.loads(line) for line in (finished / "rollouts.jsonl").read_text().splitlines()]
    assert {row["step"] for row in kept} == {1, 2, 3, 4}
    assert (finished / "model" / "tokenizer.json").exists()
    before = (inputs["start"] / "model" / "model.safetensors").read_bytes()
    assert (finished / "model" / "model.safetensors").read_bytes() != before


def _arguments(wanted: GrpoConfig, inputs: dict[str, Path], out: Path) -> list[str]:
    """Of `RUNNING`."""
    return [json.dumps([wanted.model_dump(mode="json"), {name: str(path) for name, path in inputs.items()}]), str(out)]


def test_a_run_that_was_killed_ends_with_the_same_bytes(
    inputs: dict[str, Path], finished: Path, tmp_path: Path
) -> None:
    dying = subprocess.run([sys.executable, "-c", DYING, *_arguments(config(), inputs, tmp_path)], check=False)
    assert dying.returncode == -signal.SIGKILL
    assert (tmp_path / ".work").exists()
    grpo(config(), inputs, tmp_path)
    assert published(tmp_path) == published(finished)


def test_reference_renewed(inputs: dict[str, Path], tmp_path: Path) -> None:
    grpo(config(steps=2, reference_every=1, minibatches=1), inputs, tmp_path)
    steps = json.loads((tmp_path / "history.json").read_text())["steps"]
    assert steps[1]["kl"] == pytest.approx(0.0, abs=1e-3)


def test_a_tokenizer_that_does_not_fit(inputs: dict[str, Path], tmp_path: Path) -> None:
    other = tmp_path / "tokenizer"
    shutil.copytree(inputs["tokenizer"], other)
    document = json.loads((other / "tokenizer.json").read_text())
    for number in range(2000):
        document["model"]["vocab"][f"more{number}"] = len(document["model"]["vocab"]) + 10
    (other / "tokenizer.json").write_text(json.dumps(document))
    with pytest.raises(UserError, match="vocabulary is smaller than the tokenizer's"):
        grpo(config(), inputs | {"tokenizer": other}, tmp_path / "out")


TWO_STEPS: dict[str, Any] = {"steps": 2, "minibatches": 1, "reference_every": 1, "micro_tokens": 60}


@pytest.fixture(scope="module")
def two_ranks(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """An artifact of two ranks, that many of whom share the experts."""

    @cache
    def made(width: int) -> Path:
        out = tmp_path_factory.mktemp("two")
        with pytest.MonkeyPatch.context() as patch:
            _on_two_ranks(patch, width)
            metrics = grpo(config(**TWO_STEPS), inputs, out)
        assert metrics.layout == LayoutFacts(ranks=2, expert_parallel=width, zero=1)
        return out

    return made


def _on_two_ranks(patch: pytest.MonkeyPatch, width: int) -> None:
    patch.setenv(ENVIRONMENT_KEY, json.dumps({"ranks": 2, "expert_parallel": width, "checkpoints": {"seconds": 0}}))


@pytest.mark.parametrize("width", [pytest.param(1, marks=pytest.mark.nightly), 2])
def test_two_ranks_write_and_learn_what_one_does(
    inputs: dict[str, Path], two_ranks: Callable[[int], Path], tmp_path: Path, width: int
) -> None:
    grpo(config(**TWO_STEPS), inputs, tmp_path)
    one, two = (json.loads((folder / "history.json").read_text()) for folder in (tmp_path, two_ranks(width)))
    # the first update from equal weights; after it Adam has made whole steps of what rounding left of tiny gradients
    for (left, right), tolerance in zip(zip(one["steps"], two["steps"], strict=True), (1e-4, 1e-2), strict=True):
        assert left == pytest.approx(right, rel=tolerance, abs=tolerance)
    weights = [load_model(folder / "model").state_dict() for folder in (tmp_path, two_ranks(width))]
    for name, value in weights[0].items():
        assert (weights[1][name] - value).abs().mean() < 2e-4, name


def _killed_after_a_step(config: GrpoConfig, inputs: dict[str, Path], folder: Path) -> bool:
    """Whether a run was killed in `folder` between its first step and its second."""
    running = subprocess.Popen([sys.executable, "-c", RUNNING, *_arguments(config, inputs, folder)])
    snapshots = folder / ".work" / "snapshots"
    while not (snapshots / "step-00000001").exists():
        if running.poll() is not None:
            assert running.returncode == 0
            return False
        time.sleep(0.01)
    for process in [psutil.Process(running.pid), *psutil.Process(running.pid).children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    return running.wait() == -signal.SIGKILL and not (snapshots / "step-00000002").exists()


def test_two_ranks_with_split_experts_go_on_where_they_were_killed(
    inputs: dict[str, Path], two_ranks: Callable[[int], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _on_two_ranks(monkeypatch, 2)
    while not _killed_after_a_step(config(**TWO_STEPS), inputs, tmp_path):
        shutil.rmtree(tmp_path)  # this process stood still for as long as a step takes
        tmp_path.mkdir()
    grpo(config(**TWO_STEPS), inputs, tmp_path)
    assert published(tmp_path) == published(two_ranks(2))


LORA = {"rank": 4}


@pytest.fixture(scope="module")
def adapted(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An artifact of adapters, and a folder whose run was cut short in its third step."""
    made, cut = tmp_path_factory.mktemp("adapted"), tmp_path_factory.mktemp("cut")
    metrics = grpo(config(**ADAPTING), inputs, made)
    assert metrics.trained_parameters == is_start_with_adapter(made, inputs["start"], LORA)
    whole, steps = SingleEngine.step, itertools.count()

    def step(engine: SingleEngine, rate: float) -> torch.Tensor:
        if next(steps) == 2:
            raise KeyboardInterrupt
        return whole(engine, rate)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SingleEngine, "step", step)
        with pytest.raises(KeyboardInterrupt):
            grpo(config(**ADAPTING), inputs, cut)
    return made, cut


ADAPTING: dict[str, Any] = {"steps": 3, "minibatches": 1, "lora": LORA, "learning_rate": 1e-2, "reference_every": 1}


def test_adapters_that_were_cut_short_end_with_the_same_bytes(
    inputs: dict[str, Path], adapted: tuple[Path, Path], tmp_path: Path
) -> None:
    """And a renewed reference is kept as factors alone."""
    made, cut = adapted
    again = tmp_path / "again"
    shutil.copytree(cut, again)
    kept = {name for file in again.rglob("step-*2/rank-*.safetensors") for name in load_file(file)}
    assert {"weight", "reference"} <= {name.partition("/")[0] for name in kept}
    assert all(".lora_" in name for name in kept if name.startswith(("weight/", "reference/")))
    grpo(config(**ADAPTING), inputs, again)
    assert published(again) == published(made)
    steps = json.loads((made / "history.json").read_text())["steps"]
    assert [row["kl"] for row in steps] == pytest.approx([0.0] * 3, abs=1e-3)


def test_two_ranks_go_on_with_adapters_that_one_began(
    inputs: dict[str, Path], adapted: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each holds the whole model, whatever the execution says of experts, and learns from the gradients of both."""
    made, cut = adapted
    again = tmp_path / "again"
    shutil.copytree(cut, again)
    _on_two_ranks(monkeypatch, 2)
    metrics = grpo(config(**ADAPTING), inputs, again)
    assert metrics.layout == LayoutFacts(ranks=2, expert_parallel=1, zero=0)
    one, two = (json.loads((folder / "history.json").read_text())["steps"] for folder in (made, again))
    assert two[:2] == one[:2]
    assert two[2] == pytest.approx(one[2], rel=1e-4, abs=1e-4)
    for name, value in load_file(made / "adapter" / "adapter_model.safetensors").items():
        there = load_file(again / "adapter" / "adapter_model.safetensors")[name]
        assert (there - value).abs().mean() < 2e-4, name
    is_start_with_adapter(again, inputs["start"], LORA)


def test_kinds_of_tasks_that_are_not_there(inputs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"grpo\.tasks: .*there are basic_arithmetic"):
        grpo(config(tasks=("nonsense",)), inputs, tmp_path)


def test_rounds_ask_more_until_enough_questions_teach(inputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the question that a step's second round asks first, and one of the third, have answers of different
    rewards."""
    from tokenizers import Tokenizer

    tasks = read_tasks(inputs["reasoning"] / "train.jsonl")[:12]
    tokenizer = Tokenizer.from_file(str(inputs["tokenizer"] / "tokenizer.json"))

    class Alone:
        actor, rank, world = load_model(inputs["start"] / "model").eval(), 0, 1

        def gather(self, mine: Any) -> list[Any]:
            return [mine]

    asked: list[int] = []
    numbers = {task["question"]: number for number, task in enumerate(tasks)}

    def marks(solution: Any, _: GrpoConfig) -> Reward:
        question, place = divmod(len(asked), 4)
        asked.append(place)
        return Reward(0.0, 0.0, 1.0, float(question in (3, 8) and place == 0))

    monkeypatch.setattr("model.rl.rollout.reward", marks)
    wanted = config(questions=2, sampling_rounds=5, steps=1)
    rollout = roll_out(Alone(), tokenizer, tasks, wanted, 0)
    order = [numbers[row["question"]] for row in rollout.rows[::4]]
    assert len(order) == len(set(order)) == 10, "five rounds of two questions, none of them twice"
    assert [len(rollout.answers), len(rollout.learned)] == [40, 8]
    assert all(any(answer.advantage for answer in rollout.learned[start : start + 4]) for start in (0, 4))
    assert rollout.informative == pytest.approx(0.2)
    asked.clear()
    alone = roll_out(Alone(), tokenizer, tasks, config(questions=2, steps=1), 0)
    assert alone.learned == alone.answers, "else every answer is learned from, as it always was"
