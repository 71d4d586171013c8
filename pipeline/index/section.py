"""Recipe section of the stage `index`. Light on purpose, as `pipeline.sections` is."""

from __future__ import annotations

from pydantic import Field

from infra.section import Section

__all__ = ["IndexConfig"]


class IndexConfig(Section):
    """A suffix array over the training tokens, for `deepmill trace --text`: which documents a text stands in."""

    piece_tokens: int = Field(1 << 24, ge=1, le=1 << 29)
    """Tokens sorted together, more where a document is longer. Each task holds one piece (some 22 bytes per token, 36
    of a vocabulary above 65,536), and a search goes through all of them."""
