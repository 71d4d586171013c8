"""Recipe section of the stage `dedup`. Light on purpose, as `pipeline.sections` is."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from infra.section import Added
from pipeline.sections import LossLimits

__all__ = ["DedupConfig"]


class DedupConfig(LossLimits):
    """Which documents are copies of others."""

    OF_MANY: ClassVar[float] = 0.9
    max_loss: Annotated[float | None, Added] = Field(None, ge=0, le=1)
    """Most share of a source's characters that may be lost. When left out, 0.9 of a source of 1,000 documents or more:
    copies are no fault of a source, but one that is nothing else deserves a look."""
    precedence: tuple[str, ...] = ("wiki", "book", "web")
    """Of two copies, the one whose source comes first here stays; unnamed sources come last."""
    exact: bool = True
    """Remove documents that agree in every word once case, punctuation and numbers are set aside."""
    minhash: bool = True
    """Remove near copies by MinHash-LSH."""
    n_grams: int = Field(5, ge=1)
    """Words in a shingle (FineWeb)."""
    buckets: int = Field(14, ge=1)
    """Bands of the signature (FineWeb); with 8 hashes each, copies of similarity 0.75 are found with 77 %."""
    hashes_per_bucket: int = Field(8, ge=1)
    """Hashes in a band (FineWeb)."""
    seed: int = 1
    """Seed of the hash permutations."""
    sentences: bool = False
    """Remove repeated spans of sentences as well, all but one of each (C4, arXiv 1910.10683, section 2.2)."""
    sentence_span: int = Field(3, ge=1)
    """Sentences in a span (C4)."""
    sentence_min_words: int = Field(50, ge=0)
    """Least words that must be left of a document that lost sentences (Gopher's least document)."""
