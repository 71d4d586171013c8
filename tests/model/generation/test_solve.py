"""What is said of tasks before a model is asked to solve them: by itself, and by every stage that asks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from infra.events import ENVIRONMENT_KEY, EventReader, Noted
from model.architecture.checkpoint import load_model
from model.finetune_sections import DpoConfig, GrpoConfig, OnPolicyConfig
from model.generation.solve import note_what_is_cut
from model.release.quality import Judge
from model.rl.dpo import dpo
from model.rl.grpo import grpo
from model.rl.on_policy import on_policy
from model.sections import QuantizeConfig
from pipeline.reasoning.problems import read_tasks
from pipeline.tokens.chat import chat_format, read_tokenizer
from tests.model.artifacts import shared_artifacts


def test_solutions_that_no_answer_has_room_for_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = shared_artifacts()
    words = Tokenizer.from_file(str(made["tokenizer"] / "tokenizer.json"))
    rows = read_tasks(made["reasoning"] / "train.jsonl")
    lengths = sorted(len(chat_format(words).response(row["reasoning"], row["answer"])) for row in rows)
    assert lengths[0] < lengths[-1]
    monkeypatch.setenv(ENVIRONMENT_KEY, str(tmp_path / "events.jsonl"))
    events = EventReader(tmp_path / "events.jsonl")
    assert note_what_is_cut(words, rows, "sft.max_new_tokens", lengths[-1]) == 0
    assert not list(events.new())
    cut = note_what_is_cut(words, rows, "sft.max_new_tokens", lengths[-1] - 1)
    assert cut == lengths.count(lengths[-1])
    (told,) = events.new()
    assert isinstance(told, Noted)
    assert told.text.startswith(f"{cut} of {len(rows)} worked solutions have more than {lengths[-1] - 1} tokens")
    assert told.text.endswith(f"set sft.max_new_tokens to {lengths[-1]} or more")


def _dpo(made: dict[str, Path], out: Path) -> None:
    pairs = out / "pairs.jsonl"
    pairs.write_text(json.dumps({"prompt": "1 + 1?", "chosen": "2", "rejected": "3"}) + "\n")
    kept = {"text": 0.0, "validation_sequences": 0}
    fields = {"files": (str(pairs),), "steps": 1, "batch_size": 1, "max_new_tokens": 2, "accuracy_tasks": 4}
    dpo(DpoConfig.model_validate(fields | {"replay": kept}), made, out)


def _reinforcement(made: dict[str, Path], out: Path, stage: str) -> None:
    fields = {"steps": 1, "questions": 1, "group_size": 2, "max_new_tokens": 2, "accuracy_tasks": 4}
    fields |= {"replay": {"text": 0.0, "validation_sequences": 0}}
    if stage == "grpo":
        grpo(GrpoConfig.model_validate(fields), made, out)
    else:
        on_policy(OnPolicyConfig.model_validate(fields), made | {"teacher": made["grpo"]}, out)


def _quantize(made: dict[str, Path], out: Path) -> None:
    model = load_model(made["start"] / "model").requires_grad_(False)
    config = QuantizeConfig(max_new_tokens=2, accuracy_problems=4, evaluation_sequences=1)
    Judge(config, model, made, read_tokenizer(made["tokenizer"]))


@pytest.mark.parametrize(
    ("stage", "ask"),
    [
        ("dpo", _dpo),
        ("grpo", lambda made, out: _reinforcement(made, out, "grpo")),
        ("on_policy", lambda made, out: _reinforcement(made, out, "on_policy")),
        ("quantize", _quantize),
    ],
)
def test_every_stage_that_asks_held_out_problems_says_it(
    stage: str, ask: Callable[[dict[str, Path], Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = shared_artifacts()
    monkeypatch.setenv(ENVIRONMENT_KEY, str(tmp_path / "events.jsonl"))
    ask(made | {"start": made["sft"]}, tmp_path)
    told = [event.text for event in EventReader(tmp_path / "events.jsonl").new() if isinstance(event, Noted)]
    (cut,) = (text for text in told if "worked solutions" in text)
    assert cut.startswith("4 of 4 worked solutions have more than 2 tokens")
    assert f"set {stage}.max_new_tokens to" in cut
