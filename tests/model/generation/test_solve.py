"""What is said of tasks before a model is asked to solve them."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer

from infra.events import ENVIRONMENT_KEY, EventReader, Noted
from model.generation.solve import note_what_is_cut
from pipeline.reasoning.problems import read_tasks
from pipeline.tokens.chat import chat_format
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
