"""Solved tasks as training batches: the chat format, packed into rows, with the answering part to be learned.

Whole tasks share a row and do not see each other; rows are filled best fit first, so that hardly a token is padding.
A prompt is context, unless it holds answers of a conversation; learned is all that the model has to write itself:
``<think>``, the reasoning, the answer and the end.

Shapes: B rows of a rank, T tokens.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from model.training.batches import TrainingBatch
from model.training.epochs import places_of_step
from pipeline.tokens.chat import Turn, chat_format

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from pipeline.reasoning.problems import Problem

__all__ = ["Chat", "ChatBatches", "encode_chats", "encode_conversation", "pack", "with_follow_ups"]


@dataclass(frozen=True)
class Chat:
    """One solved task in tokens."""

    prompt: list[int]
    response: list[int]
    earlier: tuple[range, ...] = ()
    """Places of the prompt that are learned as well: answers before the last one."""

    @property
    def tokens(self) -> list[int]:
        """All of it."""
        return self.prompt + self.response

    def __len__(self) -> int:
        return len(self.prompt) + len(self.response)


def encode_chats(tokenizer: Tokenizer, rows: Sequence[Problem]) -> list[Chat]:
    """The rows of a reasoning split in the chat format; nothing that a row says is a control token."""
    chat = chat_format(tokenizer)
    return [
        Chat(
            prompt=chat.question(row["question"]),
            response=chat.response(row["reasoning"], row.get("response", row["answer"])),
        )
        for row in rows
    ]


def encode_conversation(tokenizer: Tokenizer, turns: Sequence[Turn], length: int) -> list[Chat]:
    """A conversation, of which answers are learned (`Turn.is_learned`) as they are asked for: after what came before.

    One chat, unless the format shows earlier turns otherwise than they were written (without their reasoning): then as
    many as that takes.

    Args:
        length: of a row; what does not fit there with all that came before it is left out.
    """
    chat = chat_format(tokenizer)
    found: list[Chat] = []
    for place, turn in enumerate(turns):
        if turn.role != "assistant" or not turn.is_learned:
            continue
        prompt, response = chat.prompt(turns[:place]), chat.response(turn.reasoning, turn.content)
        if len(prompt) + len(response) > length:
            continue
        earlier: tuple[range, ...] = ()
        if found and prompt[: len(found[-1])] == found[-1].tokens:
            before = found.pop()
            earlier = (*before.earlier, range(len(before.prompt), len(before)))
        found.append(Chat(prompt, response, earlier))
    return found


def with_follow_ups(tokenizer: Tokenizer, rows: Sequence[Problem], share: float, length: int, seed: int) -> list[Chat]:
    """As `encode_chats`, but a share of the tasks come after another one and its answer, of which nothing is learned.

    Args:
        length: of a row; a task that would not fit there with another before it stays alone.
    """
    chat, chats = chat_format(tokenizer), encode_chats(tokenizer, rows)
    drawn = np.random.default_rng((seed, len(rows)))
    chosen = np.flatnonzero(drawn.random(len(rows)) < share).tolist()
    for place, before in zip(chosen, drawn.permutation(len(rows)).tolist(), strict=False):
        first, row = rows[before if before != place else before - 1], rows[place]
        turns = (
            Turn("user", first["question"]),
            Turn("assistant", first.get("response", first["answer"]), first["reasoning"]),
            Turn("user", row["question"]),
        )
        longer = Chat(chat.prompt(turns), chats[place].response)
        if len(longer) <= length:
            chats[place] = longer
    return chats


def pack(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Numbers of the items in each row, best fit decreasing: every item goes where it leaves the least room.

    At most 11/9 of the fewest possible rows, and in practice a per cent above. Items longer than a row are left out.
    """
    rows: list[list[int]] = []
    with_room: dict[int, list[int]] = {}
    rooms: list[int] = []  # the keys of with_room that hold a row, ascending
    for item in sorted(range(len(lengths)), key=lambda item: (-lengths[item], item)):
        length = lengths[item]
        if length > capacity:
            continue
        place = bisect_left(rooms, length)
        if place == len(rooms):
            room, row = capacity, len(rows)
            rows.append([])
        else:
            room = rooms[place]
            row = with_room[room].pop()
            if not with_room[room]:
                del rooms[place]
        rows[row].append(item)
        if left := room - length:
            if not with_room.setdefault(left, []):
                insort(rooms, left)
            with_room[left].append(row)
    return rows


class ChatBatches:
    """A `BatchSource` of packed chats.

    Args:
        batch_size: rows of a global batch.
        seed: of the order of rows, a new one for each pass over them; None keeps them in order, once, and follows them
            with rows in which nothing is learned.

    Raises:
        ValueError: no chat fits into a row.
    """

    def __init__(self, chats: Sequence[Chat], length: int, batch_size: int, pad: int, seed: int | None) -> None:
        rows = pack([len(chat) for chat in chats], length)
        if not rows:
            raise ValueError(f"no chat fits into {length} tokens: raise sequence_length")
        self.batch_size, self.seed = batch_size, seed
        self.left_out = len(chats) - sum(map(len, rows))
        # one more row, of padding alone: what an ordered source ends with
        self.tokens = np.full((len(rows) + 1, length), pad, dtype=np.int64)
        self.documents = np.zeros((len(rows) + 1, length), dtype=np.int64)
        self.learned = np.zeros((len(rows) + 1, length), dtype=bool)
        for number, row in enumerate(rows):
            end = 0
            for document, item in enumerate(row):
                chat, start = chats[item], end
                end = start + len(chat)
                self.tokens[number, start:end] = chat.tokens
                self.documents[number, start:end] = document
                for places in (*chat.earlier, range(len(chat.prompt), len(chat))):
                    self.learned[number, start + places.start : start + places.stop] = True
            self.documents[number, end:] = len(row)

    @property
    def rows(self) -> int:
        """Packed rows."""
        return len(self.tokens) - 1

    @property
    def batches(self) -> int:
        """Batches that hold each row once."""
        return -(-self.rows // self.batch_size)

    @property
    def identity(self) -> str:
        """A digest of the contents."""
        return hashlib.blake2b(self.tokens.tobytes() + self.learned.tobytes(), digest_size=16).hexdigest()

    def batch(self, step: int, rank: int, world: int) -> TrainingBatch:
        """The rows ``rank::world`` of the global batch of `step`."""
        if self.seed is None:
            first = step * self.batch_size
            chosen = [min(place, self.rows) for place in range(first, first + self.batch_size)]
        else:
            chosen = places_of_step(step, self.batch_size, self.rows, self.seed)
        columns = (self.tokens, self.documents, self.learned)
        return TrainingBatch(*(torch.from_numpy(column[chosen[rank::world]]) for column in columns))
