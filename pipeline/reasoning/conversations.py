"""The stage `conversations`: chats of several turns from the user's files, for fine-tuning to go on reading.

JSONL or Parquet, a conversation to a record, in the form of OpenAI's API and of Hugging Face's data sets::

    {"messages": [{"role": "system", "content": "..."}, {"role": "user", "content": "Hello"},
                  {"role": "assistant", "content": "Hi!", "reasoning_content": "A greeting."}, ...]}

Roles are system (or developer), user, assistant and tool. Reasoning is `reasoning_content` (DeepSeek's API) or
`reasoning` (vLLM's), or stands in ``<think>`` at the beginning of the content. A conversation is taken up to its last
answer; where a tool is called it ends before that, for what tools say is not the model's to learn. A conversation that
asks a held-out question of `reasoning` is rejected.

Artifact: ``train.jsonl`` and ``validation.jsonl``, rows ``{"id", "file", "messages"}`` of messages with role, content
and, if there is any, reasoning; ``rejects.jsonl``.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NotRequired

from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from infra import events
from infra.errors import UserError
from infra.facts import StageMetrics
from pipeline.reasoning.problem_files import read_records
from pipeline.reasoning.problems import RejectedRecord, question_key, read_tasks
from pipeline.sections import ConversationsConfig

__all__ = ["Conversation", "ConversationsMetrics", "Message", "conversations", "read_conversations"]

ROLES = ("system", "developer", "user", "assistant", "tool")
SEEN, HELD_OUT = "conversation seen before", "asks a held-out question"
HARMLESS = (SEEN, HELD_OUT)
"""Rules that say nothing against the files."""


class Message(TypedDict):
    """One turn."""

    role: str
    content: str
    reasoning: NotRequired[str]


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


def conversations(config: ConversationsConfig, inputs: Mapping[str, Path], out_dir: Path) -> ConversationsMetrics:
    """Read the files and deal the conversations out.

    Raises:
        UserError: too many unusable records, too few conversations, a file that cannot be read.
    """
    held_out = {
        question_key(row["question"])
        for split in ("validation", "test")
        for row in read_tasks(inputs["reasoning"] / f"{split}.jsonl")
    }
    rows, rejects = _read(config, held_out)
    if len(rows) <= config.validation:
        raise UserError(
            f"conversations.files: {len(rows)} conversations, of which {config.validation} are to be held out; add "
            "files, or lower conversations.validation"
        )
    by_chance = sorted(rows, key=lambda row: hashlib.blake2b(f"{config.seed} {row['id']}".encode()).digest())
    validation, train = by_chance[: config.validation], by_chance[config.validation :]
    random.Random(config.seed).shuffle(train)
    for name, part in (("train", train), ("validation", validation), ("rejects", rejects)):
        _write(out_dir / f"{name}.jsonl", part)
    answers = [[turn for turn in row["messages"] if turn["role"] == "assistant"] for row in rows]
    events.note(f"{len(rows)} conversations, {sum(map(len, answers))} answers")
    return ConversationsMetrics(
        train_conversations=len(train),
        validation_conversations=len(validation),
        answers=sum(map(len, answers)),
        answers_later=sum(len(turns) - 1 for turns in answers),
        answers_with_reasoning=sum("reasoning" in turn for turns in answers for turn in turns),
        rejected=len(rejects),
        rejected_by=dict(sorted(Counter(reject["rule"] for reject in rejects).items())),
    )


def read_conversations(path: Path) -> list[Conversation]:
    """The rows of a split."""
    with path.open(encoding="utf-8") as handle:
        return [json.loads(line) for line in handle]


def _read(config: ConversationsConfig, held_out: set[str]) -> tuple[list[Conversation], list[RejectedRecord]]:
    """Good rows and rejected records, of all files in the order of their names.

    Raises:
        UserError: too many are unusable.
    """
    rows: dict[str, Conversation] = {}
    rejects: list[RejectedRecord] = []
    example, broken = "", 0
    for name, number, given in read_records(config.files):
        found = _messages(given)
        if not isinstance(found, str):
            digest = hashlib.blake2b(json.dumps(found, sort_keys=True).encode(), digest_size=8).hexdigest()
            asked = {question_key(turn["content"]) for turn in found if turn["role"] == "user"}
            if asked.isdisjoint(held_out) and digest not in rows:
                rows[digest] = {"id": digest, "file": name, "messages": found}
                continue
            found = SEEN if digest in rows else HELD_OUT
        if found not in HARMLESS:
            broken += 1
            example = example or f"{name}: record {number}: {found}"
        text = given if isinstance(given, str) else json.dumps(given, default=str)
        rejects.append({"file": name, "record": number, "rule": found, "text": text.strip()})
    if broken > config.max_failures * (len(rows) + broken):
        raise UserError(
            f"{example}; {broken} of {len(rows) + broken} records are unusable, each wants an object with messages "
            "(role, content), or raise conversations.max_failures"
        )
    return list(rows.values()), rejects


def _messages(given: Any) -> list[Message] | str:
    """The messages of a record up to the last answer, or what is wrong with it."""
    if isinstance(given, str):
        return "no JSON"
    raw = given.get("messages") if isinstance(given, Mapping) else None
    if not isinstance(raw, Sequence) or isinstance(raw, str) or not raw:
        return "no list of messages"
    found: list[Message] = []
    for turn in raw:
        role = turn.get("role") if isinstance(turn, Mapping) else None
        if role not in ROLES:
            return "a message without a role that is known" if role is None else f"a message of the role {role!r:.40}"
        if role == "tool" or turn.get("tool_calls") or turn.get("function_call"):
            break
        read = _message(role, turn)
        if isinstance(read, str):
            return read
        if role == "assistant" and all(each["role"] != "user" for each in found):
            return "an answer before any question"
        found.append(read)
    while found and found[-1]["role"] != "assistant":
        found.pop()
    return found or "no answer"


def _message(role: str, turn: Mapping[str, Any]) -> Message | str:
    """One message, or what is wrong with it."""
    content = turn.get("content")
    if isinstance(content, Sequence) and not isinstance(content, str):  # OpenAI's parts
        texts = [part.get("text") if isinstance(part, Mapping) else None for part in content]
        content = None if any(not isinstance(text, str) for text in texts) else "".join(map(str, texts))
    if not isinstance(content, str):
        return "content that is no text"
    reasoning = turn.get("reasoning_content") or turn.get("reasoning") or ""
    if not isinstance(reasoning, str):
        return "reasoning that is no text"
    if role == "assistant":
        begun, mark, rest = content.partition("</think>")
        if mark and begun.lstrip().startswith("<think>"):
            reasoning, content = reasoning or begun.lstrip().removeprefix("<think>"), rest
    content, reasoning = _whole(content), _whole(reasoning)
    if not content:
        return f"an empty message of the {role}"
    kept: Message = {"role": "system" if role == "developer" else role, "content": content}
    if reasoning and role == "assistant":
        kept["reasoning"] = reasoning
    return kept


def _whole(text: str) -> str:
    """`text` without white space around it and half characters, which JSON can hold and UTF-8 cannot."""
    return text.strip().encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, sort_keys=True) + "\n" for row in rows), encoding="utf-8")
