"""DPO: the loss against the paper's equation, its gradient through the model, and the stage."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from infra.errors import UserError
from infra.execution import ENVIRONMENT_KEY
from model.finetune_sections import DpoConfig
from model.rl.dpo import _batch, _cut, answer_log_probabilities, dpo, dpo_loss
from model.rl.pairs import Pair, _file_pairs, encode_pairs
from model.training.engine import SingleEngine
from tests.model.artifacts import is_start_with_adapter, shared_artifacts
from tests.model.conftest import tiny_model
from tests.model.serving.talker import words
from tests.pipeline.corpus import published


def test_the_loss_is_the_papers() -> None:
    policy = torch.tensor([[-3.0, -5.0], [-7.0, -2.0]], requires_grad=True)
    reference = torch.tensor([[-4.0, -4.0], [-6.0, -3.0]])
    losses, margins = dpo_loss(policy, reference, 0.1)
    for place, ((pc, pr), (rc, rr)) in enumerate(zip(policy.tolist(), reference.tolist(), strict=True)):
        margin = 0.1 * (pc - rc) - 0.1 * (pr - rr)
        assert margins[place].item() == pytest.approx(margin)
        assert losses[place].item() == pytest.approx(-math.log(1 / (1 + math.exp(-margin))), rel=1e-5)
    losses.sum().backward()
    assert policy.grad is not None
    weight = 1 / (1 + math.exp(0.2))  # sigma of the negative margin, Eq 8
    assert policy.grad[0].tolist() == pytest.approx([-0.1 * weight, 0.1 * weight])


def test_answers_in_batches_have_the_likelihoods_they_have_alone() -> None:
    model = tiny_model()
    pairs = [Pair([1, 2, 3], [4, 5], [6]), Pair([7], [8, 9, 10, 11], [12, 13])]
    with torch.no_grad():
        found = answer_log_probabilities(_batch(pairs, torch.device("cpu")), model, pairs)
        for place, pair in enumerate(pairs):
            for column, answer in enumerate((pair.chosen, pair.rejected)):
                logprobs_TV = model(torch.tensor([pair.prompt + answer]))[0].log_softmax(-1)
                alone = sum(float(logprobs_TV[len(pair.prompt) - 1 + n, token]) for n, token in enumerate(answer))
                assert found[place, column].item() == pytest.approx(alone, abs=1e-4)


def test_micro_batches_hold_every_pair_once() -> None:
    pairs = [Pair([1] * n, [2], [3]) for n in (5, 1, 9, 2, 7)]
    parts = _cut(range(5), pairs, 40)
    assert sorted(place for part in parts for place in part) == list(range(5))
    assert all(len(part) == 1 or len(part) * len(pairs[part[0]]) <= 40 for part in parts)


@pytest.fixture(scope="module")
def inputs() -> dict[str, Path]:
    made = shared_artifacts()
    return {name: made[name] for name in ("tokenizer", "reasoning", "shards")} | {"start": made["sft"]}


def _config(tmp_path: Path, **changes: Any) -> DpoConfig:
    file = tmp_path / "pairs.jsonl"
    rows = [{"prompt": f"{n} + 1?", "chosen": f"<think>{n}</think>{n + 1}", "rejected": "no\ud800"} for n in range(8)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    fields: dict[str, Any] = {
        "files": (str(file),), "steps": 12, "batch_size": 4, "learning_rate": 1e-3, "warmup_steps": 0,
        "max_new_tokens": 4, "accuracy_tasks": 2,
    }  # fmt: skip
    return DpoConfig.model_validate(fields | changes)


@pytest.mark.parametrize("lora", [None, {"rank": 4}])
def test_the_stage_learns_to_prefer_and_goes_on_to_the_same_bytes(
    lora: dict[str, Any] | None, inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENVIRONMENT_KEY, json.dumps({"checkpoints": {"seconds": 0}}))
    config = _config(tmp_path, lora=lora, learning_rate=1e-2 if lora else 1e-3)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    metrics = dpo(config, inputs, tmp_path / "a")
    whole, steps = SingleEngine.step, itertools.count()

    def step(engine: SingleEngine, rate: float) -> torch.Tensor:
        if next(steps) == 7:
            raise KeyboardInterrupt
        return whole(engine, rate)

    monkeypatch.setattr(SingleEngine, "step", step)
    with pytest.raises(KeyboardInterrupt):
        dpo(config, inputs, tmp_path / "b")
    dpo(config, inputs, tmp_path / "b")
    assert next(steps) == 13  # the twelve, and the one that was cut short
    assert metrics.pairs == 8
    assert metrics.train_loss_first == pytest.approx(math.log(2), abs=1e-4)
    assert metrics.train_loss_last < 0.6
    assert metrics.preferred_last > 0.8
    assert published(tmp_path / "a") == published(tmp_path / "b")
    if lora is not None:
        assert metrics.trained_parameters == is_start_with_adapter(tmp_path / "a", inputs["start"], lora)


def test_without_anything_to_prefer(inputs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no question got both a right and a wrong answer"):
        dpo(_config(tmp_path, files=(), questions=2, samples=2), inputs, tmp_path)


ASKED, GOOD, BAD = (
    {"role": role, "content": text} for role, text in (("user", "x"), ("assistant", "y"), ("assistant", "z"))
)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "x", "chosen": [ASKED, GOOD], "rejected": [ASKED, BAD], "score": 1},
        {"prompt": [ASKED], "chosen": [GOOD], "rejected": [BAD]},
        {"chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]},
    ],
)
def test_pairs_of_messages(row: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "pairs.json").write_text(json.dumps([row]))
    config = DpoConfig(files=(str(tmp_path / "pairs.json"),))
    assert _file_pairs(config) == [{"prompt": "x", "chosen": "y", "rejected": "z"}]
    for wrong in ({"chosen": [*row["chosen"], ASKED, GOOD]}, {"rejected": [{**ASKED, "content": "?"}, BAD]}):
        (tmp_path / "pairs.json").write_text(json.dumps([row | wrong]))
        with pytest.raises(UserError, match=r"record 1: not an object with prompt, .*it has .*chosen.*; correct it"):
            _file_pairs(config)


def test_texts_with_line_ends_of_unicode_are_whole(tmp_path: Path) -> None:
    row = {"prompt": "x\u2028y", "chosen": "<think>a\x85</think>b", "rejected": "c\x0cd\u2029e"}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(row, ensure_ascii=False) + "\n")
    (pair,) = encode_pairs(tmp_path / "pairs.jsonl", words())
    assert words().decode(pair.rejected) == row["rejected"]


def test_a_file_of_another_kind(inputs: dict[str, Path], tmp_path: Path) -> None:
    config = _config(tmp_path)
    Path(config.files[0]).write_text('{"prompt": "x", "chosen": "y"}\n')
    with pytest.raises(UserError, match=r"pairs\.jsonl: record 1: not an object"):
        dpo(config, inputs, tmp_path)
