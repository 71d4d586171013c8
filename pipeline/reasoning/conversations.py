"""The stage `conversations`: chats of several turns from the user's files, for fine-tuning to go on reading.

A conversation to a record, in the form of OpenAI's API and of Hugging Face's data sets::

    {"messages": [{"role": "system", "content": "..."}, {"role": "user", "content": "Hello"},
                  {"role": "assistant", "content": "Hi!", "reasoning_content": "A greeting."}, ...]}

Other forms are read as well (`chat_records`). Reasoning is `reasoning_content` (DeepSeek's API), `reasoning` (vLLM's)
or `thinking` (Ollama's), or stands in ``<think>`` at the beginning of the content. A conversation is taken up to its
last answer; where a tool is called it ends before that, for what tools say is not the model's to learn. One that asks a
held-out question of `reasoning` is rejected.

Artifact: ``train.jsonl`` and ``validation.jsonl``, rows ``{"id", "file", "messages"}`` of messages with role, content
and, if there is any, reasoning, and ``"learned": false`` where an answer is not to be learned; ``rejects.jsonl``.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from infra import events
from infra.errors import UserError
from pipeline.reasoning.chat_records import messages_of
from pipeline.reasoning.chats import Conversation, ConversationsMetrics
from pipeline.reasoning.message_trees import joined
from pipeline.reasoning.problems import RejectedRecord, question_key, read_tasks
from pipeline.reasoning.record_files import keys_of, read_records
from pipeline.reasoning.unread import Unread
from pipeline.sections import ConversationsConfig

__all__ = ["conversations"]

SEEN, HELD_OUT = "conversation seen before", "asks a held-out question"
HARMLESS = (SEEN, HELD_OUT)
"""Rules that say nothing against the files."""


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
    rows, rejects, left_out = _read(config, held_out)
    if not rows and not rejects:
        raise UserError("conversations.files: no record in them; leave them out, or correct the paths")
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
    answers = [
        [turn for turn in row["messages"] if turn["role"] == "assistant" and turn.get("learned", True)] for row in rows
    ]
    events.note(f"{len(rows)} conversations, {sum(map(len, answers))} answers")
    return ConversationsMetrics(
        train_conversations=len(train),
        validation_conversations=len(validation),
        answers=sum(map(len, answers)),
        answers_later=sum(len(turns) - 1 for turns in answers),
        answers_with_reasoning=sum("reasoning" in turn for turns in answers for turn in turns),
        rejected=len(rejects),
        rejected_by=dict(sorted(Counter(reject["rule"] for reject in rejects).items())),
        left_out=dict(sorted(left_out.items())) or None,
    )


def _read(
    config: ConversationsConfig, held_out: set[str]
) -> tuple[list[Conversation], list[RejectedRecord], Counter[str]]:
    """Good rows, rejected records and what was left out of good ones, of all files in the order of their names.

    Raises:
        UserError: too many are unusable.
    """
    rows: dict[str, Conversation] = {}
    rejects: list[RejectedRecord] = []
    left_out: Counter[str] = Counter()
    example, broken = "", 0
    for name, number, given in joined(read_records(config.files, listed=("role", "from"))):
        found = given.why if isinstance(given, Unread) else messages_of(given, left_out)
        if not isinstance(found, str):
            digest = hashlib.blake2b(json.dumps(found, sort_keys=True).encode(), digest_size=8).hexdigest()
            asked = {question_key(turn["content"]) for turn in found if turn["role"] == "user"}
            if asked.isdisjoint(held_out) and digest not in rows:
                rows[digest] = {"id": digest, "file": name, "messages": found}
                continue
            found = SEEN if digest in rows else HELD_OUT
        if found not in HARMLESS:
            broken += 1
            example = example or f"{name}: record {number}: {found}{keys_of(given)}"
        text = given if isinstance(given, str) else json.dumps(given, default=str)
        rejects.append({"file": name, "record": number, "rule": found, "text": text.strip()})
    if broken > config.max_failures * (len(rows) + broken):
        raise UserError(
            f"{example}; {broken} of {len(rows) + broken} records are unusable; each wants to be an object with "
            "messages (role, content), or with the texts instruction and output, or prompt and completion; correct "
            "them, or raise conversations.max_failures"
        )
    return list(rows.values()), rejects, left_out


def _write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, sort_keys=True) + "\n" for row in rows), encoding="utf-8")
