"""Rejection sampling: which answers are kept, and the artifact of a model that can only say one thing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

import model.solve as solving
from infra.errors import UserError
from model.checkpoint import load_model, save_model
from model.finetune_sections import RejectionConfig
from model.rl.rejection import choose_answers, rejection
from pipeline.reasoning import read_tasks
from tests.model.artifacts import make_artifacts
from tests.pipeline.corpus import published


def test_the_shortest_different_ones_are_kept() -> None:
    answers = [("a long way", "4"), ("short", "4"), ("short", "4"), ("middle one", "4")]
    assert choose_answers(answers, 2) == [("short", "4"), ("a long way", "4")]
    assert choose_answers(answers, 9) == [("short", "4"), ("a long way", "4"), ("middle one", "4")]


def _cut_short(file: Path) -> None:
    """What a run leaves that is killed while it writes down its second chunk."""
    lines = file.read_text().splitlines(keepends=True)
    assert len(lines) == 3
    file.write_text("".join(lines[:2]) + lines[2][:40])


def test_the_artifact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_artifacts(tmp_path / "made")
    inputs = {name: made[name] for name in ("tokenizer", "reasoning")} | {"start": made["sft"]}
    config = RejectionConfig(samples=3, kept=1, max_new_tokens=6, questions=20, general_share=0.5)
    with pytest.raises(UserError, match="none of 60 answers is right"):
        rejection(config, inputs, tmp_path)

    # a model that answers "<think>7</think>7<|eos|>" to whatever it is asked: each token follows from the one before
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
    save_model(model, tmp_path / "sevens" / "model", made["tokenizer"])
    inputs["start"] = tmp_path / "sevens"
    tasks = read_tasks(made["reasoning"] / "train.jsonl")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        metrics = rejection(
            RejectionConfig(samples=12, kept=1, max_new_tokens=12, general_share=0.5), inputs, tmp_path / name
        )
    assert published(tmp_path / "a") == published(tmp_path / "b")
    _cut_short(tmp_path / "b" / ".work" / "chunks.jsonl")
    asked: list[int] = []
    whole = solving.solve
    monkeypatch.setattr(solving, "solve", lambda *given, **how: (asked.append(len(given[2])), whole(*given, **how))[1])
    again = rejection(RejectionConfig(samples=12, kept=1, max_new_tokens=12, general_share=0.5), inputs, tmp_path / "b")
    assert again == metrics
    assert asked == [12 * (len(tasks) - 32)]
    assert published(tmp_path / "a") == published(tmp_path / "b")
    rows = read_tasks(tmp_path / "a" / "train.jsonl")
    own = [row for row in rows if row["id"].endswith("-0")]
    assert {row["answer"] for row in own} == {"7"}
    assert {row["reasoning"] for row in own} == {"7"}
    assert metrics["questions_solved"] == len(own) == metrics["rows_sampled"]
    assert 0 < len(own) <= sum(task["answer"] == "7" for task in tasks)
    assert metrics["rows_general"] == len(own)
    assert json.loads((tmp_path / "a" / "test.jsonl").read_text().splitlines()[0])["question"]
