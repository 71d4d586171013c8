"""`deepmill chat`: what is asked is asked within its conversation, where the version knows conversations."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from flows.registry.files import WEIGHTS
from flows.serving import chat
from infra.settings import Settings
from tests.model.serving.talker import ANSWER, QUESTION, save_talker


class Listening(chat._OwnCode):  # what would be registered, and what it was asked
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.asked: list[dict[str, Any]] = []

    def predict(self, data: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        self.asked += data.to_dict("records")
        return super().predict(data, params)


@pytest.fixture(scope="module")
def listening(tmp_path_factory: pytest.TempPathFactory) -> Listening:
    root = tmp_path_factory.mktemp("chat")
    folder = save_talker(root / "talker")
    (root / "version" / WEIGHTS).parent.mkdir(parents=True)
    (root / "version" / WEIGHTS).symlink_to(folder)
    return Listening(root / "version")


@pytest.mark.parametrize("remembers", [True, False])
def test_the_conversation_is_remembered(listening: Listening, monkeypatch: pytest.MonkeyPatch, remembers: bool) -> None:
    listening.asked.clear()
    said = io.StringIO()
    console = Console(file=said, width=200)
    typed = iter([QUESTION, "Say it in full.", ""])
    monkeypatch.setattr(console, "input", lambda prompt: next(typed))
    monkeypatch.setattr(chat, "load_version", lambda settings, model: (listening, "1"))
    monkeypatch.setattr(chat, "_takes_conversations", lambda loaded: remembers)
    chat.converse(Settings(root="unused"), console, "talker@champion", None, 0.0)
    first, second = listening.asked
    assert first == {"question": QUESTION}
    if remembers:
        assert [turn["content"] for turn in json.loads(second["messages"])] == [QUESTION, ANSWER, "Say it in full."]
    else:
        assert second == {"question": "Say it in full."}
    assert ("remembers" in said.getvalue()) is remembers
