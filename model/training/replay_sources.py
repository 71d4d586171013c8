"""What fine-tuning stages replay, and the measure of what they forget: from a section and the inputs of a stage.

Text comes from the training split of the token shards, conversations from the artifact `conversations`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from infra.errors import UserError
from infra.hashing import file_digest
from model.finetune_sections import ReplayConfig
from model.training.chats import Chat, ChatBatches, encode_conversation
from model.training.engine import Engine
from model.training.journal import Row
from model.training.reading import Reading
from model.training.replay import Replay, Stream
from model.training.sources import ShardBatches
from model.training.text_loss import text_losses
from pipeline.reasoning.chats import read_conversations, turns_of
from pipeline.tokens.chat import chat_format
from pipeline.tokens.reader import ShardReader

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["ReplaySources", "Retention", "replayed_text"]


CONVERSATION = 1024
"""Tokens of a row of conversations where nothing else has rows."""


class ReplaySources:
    """What one stage reads besides.

    Args:
        inputs: of the stage; without shards there is no text, without conversations there are none.
        at_once: tokens that a rank may put through the model together.
        tokens: of the stage's own data in an update, which decide how many rows there are unless `config.rows` does.
        length: of a row of conversations; by default that of text.

    Raises:
        ValueError: no text, a mixture that does not fit it, conversations that fit into no row.
    """

    def __init__(
        self,
        config: ReplayConfig,
        inputs: Mapping[str, Path],
        tokenizer: Tokenizer,
        *,
        at_once: int,
        seed: int,
        tokens: int = 0,
        length: int = 0,
    ) -> None:
        self._config, self._tokens, self._at_once, self._seed = config, tokens, at_once, seed
        shards, talks = inputs.get("shards"), inputs.get("conversations")
        shares = _shares(config, shards is not None, talks is not None)
        self._own = 1 - sum(shares.values())
        self._pad = chat_format(tokenizer).pad
        self.answers_too_long: int | None = None
        """Of conversations, that fit into no row."""
        streams = []
        text = (
            replayed_text(config, shards, talks is not None, seed=seed, tokens=tokens) if shards is not None else None
        )
        if shards is not None and text is not None:
            streams.append(self._text(text, shares["text"], shards))
        held_out: list[Chat] = []
        if talks is not None and shares["conversations"]:
            length = length or min(at_once, _row_length(shards) if shards is not None else CONVERSATION)
            train, self.answers_too_long = _chats(tokenizer, talks / "train.jsonl", length)
            if not train:
                raise ValueError(f"no answer of the conversations fits into {length} tokens; longer rows are wanted")
            held_out, _ = _chats(tokenizer, talks / "validation.jsonl", length)
            streams.append(self._conversations(train, length, shares["conversations"]))
        self.replay = Replay(streams)
        reading = None
        if shards is not None and config.validation_sequences:
            reading = Reading(shards, inputs["tokenizer"], config.validation_sequences)
        self.retention = Retention(reading, held_out, length, max(1, at_once // max(length, 1)), self._pad)

    def _text(self, reader: ShardReader, share: float, shards: Path) -> Stream:
        rows, length = reader.global_batch, reader.sequence_length
        at_once = max(1, self._at_once // length)
        digest = file_digest(shards / "shards.json")
        return Stream("text", ShardBatches(reader), rows, length, share / self._own, at_once, digest)

    def _conversations(self, chats: list[Chat], length: int, share: float) -> Stream:
        weight = share / self._own
        rows = _rows(self._config, weight, self._tokens, length)
        source = ChatBatches(chats, length, rows, self._pad, self._seed)
        return Stream("conversations", source, rows, length, weight, max(1, self._at_once // length), source.identity)


class Retention:
    """Measures what a model in training has kept: bits per byte of every source, the loss of held-out conversations.

    Args:
        reading: of the text, where there is any.
        chats: held-out conversations.
        length: of a row of them.
        at_once: rows of a rank that go through the model together.
    """

    def __init__(self, reading: Reading | None, chats: list[Chat], length: int, at_once: int, pad: int) -> None:
        self._reading = reading
        self._chats, self._length, self._at_once, self._pad = chats, length, at_once, pad

    def __call__(self, engine: Engine, done: int) -> Row:
        """``bits_per_byte_SOURCE``, and ``conversations_loss`` in nats per token; every rank calls it."""
        found = dict(self._reading(engine, done)) if self._reading is not None else {}
        if self._chats:
            found["conversations_loss"] = self._talk(engine)
        return found

    def _talk(self, engine: Engine) -> float:
        source = ChatBatches(self._chats, self._length, self._at_once * engine.world, self._pad, None)
        batches = (source.batch(number, engine.rank, engine.world) for number in range(source.batches))
        (found,) = text_losses(engine, [batches])
        return found.per_token


def replayed_text(
    config: ReplayConfig, shards: Path | str, conversations: bool, *, seed: int, tokens: int = 0
) -> ShardReader | None:
    """The text that is replayed, a batch for each update; None where there is none.

    Args:
        shards: folder or address.
        conversations: whether the stage has some.
        tokens: of the stage's own data in an update.

    Raises:
        ValueError: no text, or a mixture that does not fit it.
    """
    shares = _shares(config, True, conversations)
    if not shares["text"]:
        return None
    weight = shares["text"] / (1 - sum(shares.values()))
    rows = _rows(config, weight, tokens, _row_length(shards))
    return ShardReader(shards, "train", global_batch=rows, seed=seed, mixture=config.mixture)


def _shares(config: ReplayConfig, text: bool, conversations: bool) -> dict[str, float]:
    """Of what there is."""
    return {
        "text": config.text if text else 0.0,
        "conversations": config.conversations if conversations else 0.0,
    }


def _rows(config: ReplayConfig, weight: float, tokens: int, length: int) -> int:
    """Of an update."""
    return config.rows or max(1, round(tokens * weight / length))


def _row_length(shards: Path | str) -> int:
    return ShardReader(shards, "train", global_batch=1).sequence_length


def _chats(tokenizer: Tokenizer, path: Path, length: int) -> tuple[list[Chat], int]:
    """The conversations of a split in tokens, and how many of their answers do not fit into rows of `length`.

    Raises:
        UserError: the chat template refuses one.
    """
    chats: list[Chat] = []
    answers = 0
    for row in read_conversations(path):
        turns = turns_of(row)
        answers += sum(turn.role == "assistant" and turn.is_learned for turn in turns)
        try:
            chats += encode_conversation(tokenizer, turns, length)
        except UserError as error:
            raise UserError(f"conversations: {row['file']}: {turns[0].content[:40]!r}: {error}") from None
    return chats, answers - sum(1 + len(chat.earlier) for chat in chats)
