"""What the rounds of a search found, as ``recall.json`` keeps it, and what the stage reports."""

from __future__ import annotations

from pydantic import Field

from infra.facts import Facts
from pipeline.tasks.ledger import DocumentMetrics

__all__ = ["ExampleCounts", "RecallMetrics", "Round"]


class ExampleCounts(Facts):
    """Pages that a round learned from."""

    inside: int = Field(alias="in")
    """Of the field,"""
    outside: int = Field(alias="out")
    """and others."""


class Round(Facts):
    """One round of the search for a field."""

    folder: str
    """In the work folder."""
    examples: ExampleCounts
    candidates: int
    """Pages that were judged,"""
    pages: int
    """and recalled."""
    bytes: int
    threshold: float
    """Least score that is recalled."""
    known: float
    """Share of the recalled that the round before had recalled."""
    hosts: dict[str, tuple[int, int]]
    """Pages recalled of a host, and all of it, where that is a large share."""
    paths: list[str]
    """Where the next round looks for examples."""


class RecallMetrics(DocumentMetrics):
    """Of `recall`."""

    recalled: dict[str, int] = Field(default_factory=dict)
    """Pages by field,"""
    rounds: dict[str, int] = Field(default_factory=dict)
    """and rounds that it took."""
