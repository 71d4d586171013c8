"""Rejection sampling: which answers are kept, and the artifact of a model that can only say one thing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer

import model.generation.solve as solving
from infra.errors import UserError
from infra.events import ENVIRONMENT_KEY as EVENTS
from infra.execution import ENVIRONMENT_KEY
from model.architecture.checkpoint import load_model, save_model
from model.finetune_sections import RejectionConfig
from model.rl.rejection import rejection, shortest_answers
from pipeline.reasoning.problems import read_tasks
from tests.model.artifacts import shared_artifacts
from tests.pipeline.corpus import published

CONFIG = RejectionConfig(samples=12, kept=1, max_new_tokens=12, general_share=0.5)


def test_the_shortest_different_ones_are_kept() -> None:
    answers = [("a long way", "4"), ("short", "4"), ("short", "4"), ("middle one", "4")]
    assert shortest_answers(answers, 2) == [("short", "4"), ("a long way", "4")]
    assert shortest_answers(answers, 9) == [("short", "4"), ("a long way", "4"), ("middle one", "4")]


@pytest.fixture(scope="module")
def made() -> dict[str, Path]:
    return shared_artifacts()


@pytest.fixture(scope="module")
def inputs(made: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model that answers "<think>7</think>7<|eos|>", or goes on, to whatever it is asked: each token follows from the
    one before."""
    words = Tokenizer.from_file(str(made["tokenizer"] / "tokenizer.json"))
    model = load_model(made["sft"] / "model")
    first, seven, last, end = (words.token_to_id(token) for token in ("<think>", "7", "</think>", "<|eos|>"))
    start = words.token_to_id("<|assistant|>")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.model.norm.weight.fill_(1.0)
        for place, (before, after) in enumerate(((start, first), (first, seven), (last, seven))):
            model.model.embed_tokens.weight[before, place] = 1.0
            model.lm_head.weight[after, place] = 100.0
        model.model.embed_tokens.weight[seven, 4] = 1.0
        model.lm_head.weight[last, 4] = model.lm_head.weight[end, 4] = 50.0  # one or the other
    sevens = tmp_path_factory.mktemp("sevens")
    save_model(model, sevens / "model", made["tokenizer"])
    return {name: made[name] for name in ("tokenizer", "reasoning")} | {"start": sevens}


@pytest.fixture(scope="module")
def once(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The artifact and its metrics, of one rank."""
    out = tmp_path_factory.mktemp("once")
    return out, rejection(CONFIG, inputs, out)


def test_no_right_answer_is_told(made: dict[str, Path], tmp_path: Path) -> None:
    inputs = {name: made[name] for name in ("tokenizer", "reasoning")} | {"start": made["sft"]}
    config = RejectionConfig(samples=3, kept=1, max_new_tokens=6, questions=20, general_share=0.5)
    with pytest.raises(UserError, match="none of 60 answers is right"):
        rejection(config, inputs, tmp_path)


def test_the_artifact(inputs: dict[str, Path], once: tuple[Path, dict[str, Any]]) -> None:
    out, metrics = once
    tasks = read_tasks(inputs["reasoning"] / "train.jsonl")
    rows = read_tasks(out / "train.jsonl")
    own = [row for row in rows if row["id"].endswith("-0")]
    assert {row["answer"] for row in own} == {"7"}
    assert {row["reasoning"] for row in own} == {"7"}
    assert metrics.questions_solved == len(own) == metrics.rows_sampled
    assert 0 < len(own) <= sum(task["answer"] == "7" for task in tasks)
    assert metrics.rows_general == len(own)
    assert json.loads((out / "test.jsonl").read_text().splitlines()[0])["question"]


def test_a_run_that_was_killed_asks_only_what_is_missing(
    inputs: dict[str, Path], once: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(once[0], tmp_path, dirs_exist_ok=True)
    (last,) = (tmp_path / ".work" / "chunks").glob("*/000001.json")  # of the sixty questions those after the 32nd
    last.unlink()
    asked: list[int] = []
    whole = solving.solve
    monkeypatch.setattr(solving, "solve", lambda *given, **how: (asked.append(len(given[2])), whole(*given, **how))[1])
    assert rejection(CONFIG, inputs, tmp_path) == once[1]
    assert asked == [12 * 28]
    assert published(tmp_path) == published(once[0])


def test_two_ranks_keep_what_one_does(
    inputs: dict[str, Path], once: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENVIRONMENT_KEY, json.dumps({"ranks": 2}))
    monkeypatch.setenv(EVENTS, str(tmp_path / "events"))
    (tmp_path / "out").mkdir()
    assert rejection(CONFIG, inputs, tmp_path / "out") == once[1]
    assert published(tmp_path / "out") == published(once[0])
    said = [json.loads(line) for line in (tmp_path / "events").read_text().splitlines()]
    assert sorted(event["amount"] for event in said if event["event"] == "advance") == [28, 32]  # a chunk each
