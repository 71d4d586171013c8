"""Recipe sections of the corpus stages. Light on purpose: the command line loads them to plan."""

from __future__ import annotations

from infra.section import Section

__all__ = ["CleanConfig", "DecontaminateConfig", "DedupConfig", "ExtractConfig", "ReasoningConfig", "ShardsConfig", "TokenizerConfig"]


class ExtractConfig(Section):
    """Which raw files are read, and how."""


class CleanConfig(Section):
    """Which documents are good enough to learn from."""


class DedupConfig(Section):
    """Which documents are copies of others."""


class ReasoningConfig(Section):
    """Which verifiable reasoning tasks are generated."""


class DecontaminateConfig(Section):
    """How overlap with the evaluation sets is found."""


class TokenizerConfig(Section):
    """How text becomes tokens."""


class ShardsConfig(Section):
    """How tokens are packed into Parquet rows."""
