"""A conversation that fine-tuning goes on reading: the rows of the artifact `conversations`."""

from __future__ import annotations

import json
from pathlib import Path

from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from infra.facts import StageMetrics
from pipeline.reasoning.chat_records import Message
from pipeline.tokens.chat import Turn

__all__ = ["Conversation", "ConversationsMetrics", "read_conversations", "turns_of"]


class Conversation(TypedDict):
    """A row of a split; the last message is an assistant's."""

    id: str
    file: str
    messages: list[Message]


class ConversationsMetrics(StageMetrics):
    """Of the stage `conversations`."""

    train_conversations: int | None = None
    validation_conversations: int | None = None
    answers: int | None = None
    """Messages of the assistant, in both splits,"""
    answers_later: int | None = None
    """of which so many are not the first of their conversation,"""
    answers_with_reasoning: int | None = None
    """and so many give their reasoning."""
    rejected: int | None = None
    rejected_by: dict[str, int] | None = None
    left_out: dict[str, int] | None = None
    """Of conversations that were kept: thoughts without an answer, commentary, replies beside the best."""


def read_conversations(path: Path) -> list[Conversation]:
    """The rows of a split."""
    with path.open(encoding="utf-8") as handle:
        return [json.loads(line) for line in handle]


def turns_of(row: Conversation) -> list[Turn]:
    """Its messages, as the chat format takes them."""
    return [
        Turn(turn["role"], turn["content"], turn.get("reasoning", ""), is_learned=turn.get("learned", True))
        for turn in row["messages"]
    ]
