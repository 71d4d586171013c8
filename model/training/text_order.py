"""Which rows of the token shards the steps of a stage read: the same readers as in training, made from its section."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from infra.section import Section
from model.finetune_sections import ContinuedConfig, DpoConfig, GrpoConfig, SftConfig
from model.sections import PretrainConfig
from model.training.replay_sources import replayed_text
from pipeline.tokens.reader import ShardReader

__all__ = ["TextOrder", "text_order"]


@dataclass(frozen=True)
class TextOrder:
    """The text of a training."""

    reader: ShardReader
    steps: int
    """Of the training."""
    per_step: int = 1
    """Batches of the reader that a step reads; of reinforcement one for each update, of which a step whose answers
    teach little makes fewer."""

    def steps_of(self, row: int) -> list[int]:
        """The steps, from 0, that read a row of the training split."""
        batches = self.reader.steps_of(row, self.steps * self.per_step)
        return sorted({batch // self.per_step for batch in batches})


def text_order(config: Section, shards: Path | str, conversations: bool) -> TextOrder | None:
    """What a stage with this section reads of `shards` as training text; None where that is nothing.

    Args:
        shards: folder or address.
        conversations: whether the stage has some, which leave text a smaller share.

    Raises:
        UserError: the shards are damaged.
        ValueError: they are not those of the section.
    """
    if isinstance(config, PretrainConfig | ContinuedConfig):
        reader = ShardReader(shards, "train", global_batch=config.batch_size, seed=config.seed, mixture=config.mixture)
        return TextOrder(reader, config.steps)
    if not isinstance(config, SftConfig | DpoConfig | GrpoConfig):
        return None
    tokens = config.batch_size * config.sequence_length if isinstance(config, SftConfig) else 0
    replayed = replayed_text(config.replay, shards, conversations, seed=config.seed, tokens=tokens)
    if replayed is None:
        return None
    per_step = config.minibatches * config.passes if isinstance(config, GrpoConfig) else 1
    return TextOrder(replayed, config.steps, per_step)
