"""Rows of tokens for calibration and for judging: packed text; solved tasks and conversations in the chat format."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from infra.errors import UserError
from model.sections import QuantizeConfig

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from model.training.chats import Chat

__all__ = [
    "CalibrationBatch",
    "apart",
    "conversation_rows",
    "cut",
    "joined",
    "kinds_of_rows",
    "sequence_length",
    "task_rows",
    "text_rows",
]


TALKS = 32
"""Conversations that are read for each row, which holds a few."""


@dataclass(frozen=True)
class CalibrationBatch:
    """Rows that go through the model together: B of them, of T tokens."""

    tokens_BT: Tensor
    documents_BT: Tensor
    """Number of the document of each token: a token sees its own document only."""
    valid_BT: Tensor
    """False for padding, which counts for nothing."""

    def __getitem__(self, rows: slice | list[int]) -> CalibrationBatch:
        return CalibrationBatch(self.tokens_BT[rows], self.documents_BT[rows], self.valid_BT[rows])


def sequence_length(shards: Path) -> int:
    """Tokens in a row."""
    from pipeline.tokens.reader import ShardReader

    return ShardReader(shards, "train", global_batch=1, verify=False).sequence_length


def text_rows(shards: Path, split: str, count: int, seed: int, source: str | None = None) -> CalibrationBatch:
    """At most `count` different rows of packed text, of one source where it is named.

    Raises:
        UserError: there are none.
    """
    from pipeline.tokens.reader import ShardReader

    mixture = None if source is None else {source: 1.0}
    try:
        reader = ShardReader(shards, split, global_batch=1)
        rows = reader.rows if source is None else reader.source_rows[source]
        batch = ShardReader(
            shards, split, global_batch=min(count, rows), seed=seed, verify=False, mixture=mixture
        ).batch(0)
    except ValueError as error:
        raise UserError(f"quantize: {error}") from None
    return CalibrationBatch(batch.tokens, batch.documents, torch.ones_like(batch.tokens, dtype=torch.bool))


def task_rows(file: Path, tokenizer: Tokenizer, length: int, count: int, seed: int) -> CalibrationBatch:
    """At most `count` rows of packed solved tasks.

    Raises:
        UserError: none fits into a row.
    """
    from model.training.chats import encode_chats
    from pipeline.reasoning.problems import read_tasks

    return _packed(encode_chats(tokenizer, read_tasks(file)), file, length, count, seed)


def conversation_rows(file: Path, tokenizer: Tokenizer, length: int, count: int, seed: int) -> CalibrationBatch:
    """At most `count` rows of packed conversations, taken from all over the file.

    Raises:
        UserError: none fits into a row.
    """
    from model.training.chats import encode_conversation
    from pipeline.reasoning.chats import read_conversations, turns_of

    talks = read_conversations(file)
    chats = [
        chat
        for talk in talks[:: max(1, len(talks) // (count * TALKS))]
        for chat in encode_conversation(
            tokenizer,
            turns_of(talk),
            length,
        )
    ]
    return _packed(chats, file, length, count, seed)


def _packed(chats: Sequence[Chat], file: Path, length: int, count: int, seed: int) -> CalibrationBatch:
    from model.training.chats import ChatBatches

    pad = -1  # no token: what fills the rows of some tokenizers is the end of answers, which counts
    try:
        packed = ChatBatches(chats, length, 1, pad, seed)
    except ValueError as error:
        raise UserError(f"{file}: {error}") from None
    chosen = [packed.batch(step, 0, 1) for step in range(min(count, packed.rows))]
    tokens_BT = torch.cat([row.tokens_BT for row in chosen])
    documents_BT = torch.cat([row.documents_BT for row in chosen if row.documents_BT is not None])
    return CalibrationBatch(tokens_BT.clamp(min=0), documents_BT, tokens_BT != pad)


def apart(rows: CalibrationBatch, most: int) -> tuple[CalibrationBatch, CalibrationBatch]:
    """At most `most` rows, and the others: at least one of each, but the same row twice where there is one alone."""
    total = len(rows.tokens_BT)
    first = max(1, min(most, total - 1))
    return rows[:first], rows[min(first, total - 1) :]


def cut(rows: CalibrationBatch, size: int) -> Iterator[CalibrationBatch]:
    """Batches of `size` rows."""
    return (rows[start : start + size] for start in range(0, len(rows.tokens_BT), size))


def joined(batches: Sequence[CalibrationBatch]) -> CalibrationBatch:
    """Batches of rows of one length as one."""
    columns = ((batch.tokens_BT, batch.documents_BT, batch.valid_BT) for batch in batches)
    return CalibrationBatch(*(torch.cat(parts) for parts in zip(*columns, strict=True)))


def kinds_of_rows(
    config: QuantizeConfig, inputs: Mapping[str, Path], tokenizer: Tokenizer, rows: int, seed: int
) -> Iterator[tuple[int, Callable[[int], CalibrationBatch]]]:
    """How many of so many training rows are of each kind, and what reads so many of them."""
    tasks = round(rows * config.reasoning_share)
    talks = tasks // 2 if "conversations" in inputs else 0
    length = sequence_length(inputs["shards"])

    def of(read: Callable[..., CalibrationBatch], stage: str) -> Callable[[int], CalibrationBatch]:
        return lambda count: read(inputs[stage] / "train.jsonl", tokenizer, length, count, seed)

    for count, rows_of in (
        (rows - tasks, lambda count: text_rows(inputs["shards"], "train", count, seed)),
        (talks, of(conversation_rows, "conversations")),
        (tasks - talks, of(task_rows, "reasoning")),
    ):
        if count:
            yield count, rows_of
