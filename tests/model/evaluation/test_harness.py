"""lm-eval on our models: its numbers and ours on the same file, stop strings and windows, and what it may not do."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from tokenizers import Tokenizer

from infra.errors import UserError
from model.architecture.checkpoint import load_model
from model.evaluation.evaluate import evaluate
from model.evaluation.harness import RENDERED, Harness, HarnessModel
from model.evaluation.sections import EvaluateConfig
from model.generation.generate import Sampling
from model.generation.reasoning import split_reasoning
from model.generation.solve import solve
from tests.model.artifacts import shared_artifacts

CHOICES = [
    {
        "question": f"What follows {number}, 'so to say'?",
        "choices": [str(number + 1), f"not {number}", "the “same” again, once more", "-1.5"][: 2 + number % 3],
        "answer": number % 2,
    }
    for number in range(24)
]
SUMS = [{"question": f"{number} + 1 =", "answer": str(number + 1)} for number in range(5)]
TASKS: dict[str, dict[str, Any]] = {
    "plain": {
        "data": CHOICES,
        "output_type": "multiple_choice",
        "doc_to_text": "Question: {{question}}\nAnswer:",
        "doc_to_choice": "choices",
        "doc_to_target": "answer",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_bytes"}],
    },
    "sums": {
        "data": SUMS,
        "output_type": "generate_until",
        "doc_to_text": "{{question}}",
        "doc_to_target": "answer",
        "generation_kwargs": {"until": ["\n\n"], "max_gen_toks": 8, "do_sample": False},
        "metric_list": [{"metric": "exact_match"}],
    },
    "text": {
        "data": [{"text": "a longer text\nthat is read " * 20}],
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "text",
        "metric_list": [{"metric": "bits_per_byte"}],
    },
}
TASKS["asked"] = TASKS["plain"] | {"doc_to_text": "{{question}}"}
"""What a model that speaks the chat format is asked."""


@pytest.fixture(scope="module")
def inputs() -> dict[str, Path]:
    return shared_artifacts()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Task files whose data are named from the folder itself."""
    found = tmp_path_factory.mktemp("tasks")
    for name, task in TASKS.items():
        write_task(found, name, task)
    return found


def write_task(folder: Path, name: str, task: dict[str, Any]) -> None:
    settings = {key: value for key, value in task.items() if key != "data"}
    data = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": f"{name}.jsonl"}}}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump({"task": name, "test_split": "test"} | data | settings))
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in task.get("data", ())))


def model_of(inputs: dict[str, Path], name: str) -> tuple[Any, Tokenizer]:
    return load_model(inputs[name] / "model"), Tokenizer.from_file(str(inputs["tokenizer"] / "tokenizer.json"))


@pytest.mark.parametrize(("task", "chat"), [("plain", False), ("asked", True)])
def test_its_choices_are_ours(
    inputs: dict[str, Path], folder: Path, tmp_path: Path, task: str, chat: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On untrained models, whose choices are as good as drawn by lot: agreement on all of 24 is no accident."""
    monkeypatch.setattr("model.evaluation.evaluate.CHAT_SHARE", 0.0 if chat else 2.0)
    suites = {
        "ours": {"kind": "choice", "paths": [str(folder / f"{task}.jsonl")]},
        "theirs": {"kind": "lm_eval", "paths": [str(folder)], "tasks": [task]},
    }
    config = EvaluateConfig(problems=2, max_new_tokens=4, sequences=1, samples=0, continuation_tokens=1)
    metrics = evaluate(
        EvaluateConfig.model_validate(config.model_dump() | {"suites": suites}), inputs, tmp_path
    ).written()
    found = json.loads((tmp_path / "evaluation.json").read_text())
    assert found["decontamination"]["theirs"] == found["decontamination"]["ours"]
    seen = set()
    for name in ("pretrain", "sft", "grpo"):
        ours, theirs = (found["checkpoints"][name]["suites"][suite] for suite in ("ours", "theirs"))
        for key in ("accuracy", "accuracy_low", "accuracy_high", "problems"):
            assert theirs[key] == pytest.approx(ours[key])
        assert theirs["tasks"][task]["acc_bytes"] == pytest.approx(ours["accuracy_normalised"])
        assert metrics[f"acc_{name}_theirs_{task}"] == metrics[f"accuracy_{name}_ours"]
        seen |= {ours["accuracy"], ours["accuracy_normalised"]}
    assert len(seen) > 1


def test_its_answers_are_ours(inputs: dict[str, Path], folder: Path) -> None:
    model, words = model_of(inputs, "sft")
    rows = [{"question": row["question"], "answer": row["answer"], "task": "mine"} for row in SUMS]
    ours = solve(model, words, rows, Sampling(8), programs=False)
    asked = HarnessModel(model, words, chat=True, max_new_tokens=8)
    prompts = [asked.apply_chat_template([{"role": "user", "content": row["question"]}]) for row in SUMS]
    said = asked.generate_until([SimpleNamespace(args=(prompt, {"until": []})) for prompt in prompts])
    assert any(said)
    assert said == [split_reasoning(words.decode(solution.completion.tokens))[1] for solution in ours]
    (whole, place) = next((text, place) for place, text in enumerate(said) if len(text) > 2)
    (cut,) = asked.generate_until([SimpleNamespace(args=(prompts[place], {"until": whole[2]}))])
    assert cut == whole.partition(whole[2])[0]
    marks = Harness(str(folder), ["sums"], 3, "here").measure(
        model, words, chat=True, max_new_tokens=8, batch_size=2, seed=0
    )
    assert marks.tasks is not None
    task = marks.tasks["sums"]
    assert marks.problems == task["problems"] == 3
    assert marks.accuracy == task["exact_match"]


def test_text_in_windows_has_each_token_once(inputs: dict[str, Path], folder: Path) -> None:
    model, words = model_of(inputs, "pretrain")
    asked = HarnessModel(model, words, chat=False)
    text = TASKS["text"]["data"][0]["text"]
    tokens = [asked.prefix_token_id, *asked.tok_encode(text, add_special_tokens=False)]
    with torch.no_grad():
        logprobs_TV = model(torch.tensor([tokens]))[0].double().log_softmax(-1)
    whole = sum(float(logprobs_TV[place, token]) for place, token in enumerate(tokens[1:]))
    assert asked.loglikelihood_rolling([SimpleNamespace(args=(text,))]) == [pytest.approx(whole, rel=1e-5)]
    marks = Harness(str(folder), ["text"], 9, "here").measure(
        model, words, chat=False, max_new_tokens=8, batch_size=2, seed=0
    )
    assert marks.accuracy is None
    assert marks.tasks is not None
    assert marks.tasks["text"]["bits_per_byte"] == pytest.approx(-whole / 0.6931472 / len(text.encode()), rel=1e-5)
    asked.longest = 16
    assert asked.loglikelihood_rolling([SimpleNamespace(args=(text,))])[0] < 0
    ((_, context, continuation),) = [(0, list(range(1, 40)), [5, 6])]
    assert asked._loglikelihood_tokens([("", context, continuation)]) == asked._loglikelihood_tokens(
        [("", context[-14:], continuation)]
    )


def test_examples_and_code_of_the_folder(inputs: dict[str, Path], tmp_path: Path) -> None:
    """Few-shot examples from another split, and a function that prepares the problems: many task files have both."""
    write_task(tmp_path, "plain", TASKS["plain"])
    file = tmp_path / "plain.yaml"
    split = {"dataset_kwargs": {"data_files": dict.fromkeys(("test", "train"), "plain.jsonl")}, "num_fewshot": 2}
    settings = yaml.safe_load(file.read_text()) | split | {"fewshot_split": "train"}
    file.write_text(yaml.safe_dump(settings) + "process_docs: !function prepare.halve\n")
    (tmp_path / "prepare.py").write_text(
        "def halve(docs):\n    return docs.filter(lambda doc: doc['answer'] == 0).map(lambda doc: doc | {'more': 1})\n"
    )
    model, words = model_of(inputs, "sft")
    harness = Harness(str(tmp_path), (), 100, "here")
    assert len(harness.questions()) == 12
    marks, again = (harness.measure(model, words, chat=False, max_new_tokens=8, batch_size=8, seed=0) for _ in range(2))
    assert marks == again
    assert marks.problems == 12
    seen = harness.tasks["plain"].instances[0].args[0]
    assert seen.count("Question: ") == 3
    assert not list(tmp_path.glob("**/*.arrow"))


def test_examples_and_beginnings_in_the_chat_format(inputs: dict[str, Path]) -> None:
    asked = HarnessModel(*model_of(inputs, "sft"), chat=True)
    turns = [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}]
    assert asked.apply_chat_template(turns) == f"{RENDERED}<|bos|>S<|user|>U<|assistant|>"
    answer = {"role": "assistant", "content": "A"}
    begun = asked.apply_chat_template([*turns, answer], add_generation_prompt=False)
    assert begun == f"{RENDERED}<|bos|>S<|user|>U<|assistant|><think></think>A"
    more = asked.apply_chat_template([*turns, answer, turns[1]])
    assert more == f"{RENDERED}<|bos|>S<|user|>U<|assistant|><think></think>A<|eos|><|user|>U<|assistant|>"


@pytest.mark.parametrize(
    ("task", "names", "message"),
    [
        (None, (), r"name one local folder"),
        ({"task": "x"}, ("y",), r"has no task y; there are x"),
        ({"task": "x", "dataset_path": "some/hub", "test_split": "test"}, (), r"dataset_path must be json or parquet"),
        ({"task": "x", "dataset_kwargs": {"data_files": "no.jsonl"}}, (), r"no\.jsonl.*dataset_path must be json"),
        (TASKS["sums"] | {"generation_kwargs": {"num_beams": 3}}, (), r"sums.*num_beams; understood are do_sample"),
    ],
)
def test_what_cannot_be_taken_is_said(
    tmp_path: Path, task: dict[str, Any] | None, names: tuple[str, ...], message: str
) -> None:
    if task is not None:
        write_task(tmp_path, "sums" if "data" in task else "x", task)
    with pytest.raises(UserError, match=message):
        Harness(str(tmp_path if task is not None else tmp_path / "no"), names, 5, "evaluate.suites.mine")


def test_without_the_extra_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "model.evaluation.harness")
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    monkeypatch.setitem(sys.modules, "lm_eval.api.model", None)
    with pytest.raises(UserError, match=r"lm_eval.* is not installed; pip install"):
        import model.evaluation.harness  # noqa: F401
