"""Which evaluation questions were removed from the training text: what `decontaminate` leaves, and who asks for it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.reasoning.problems import question_key
from pipeline.tasks.ledger import DocumentMetrics

__all__ = ["REMOVED", "DecontaminateMetrics", "RemovedSet", "what_was_removed"]

REMOVED = "evaluation_texts.json"
"""Among the files of `decontaminate`: by set, digests of the questions that were looked for."""


class DecontaminateMetrics(DocumentMetrics):
    """Of `decontaminate`."""

    evaluation_texts: int = 0
    """That were looked for."""


@dataclass(frozen=True)
class RemovedSet:
    """What is known of one set of problems and the training data."""

    problems: int
    removed_from_text: bool | None
    """Whether documents with one of them were removed; None where it is not known."""
    in_training_questions: int
    """How many are training questions themselves."""


def what_was_removed(
    sets: Mapping[str, Iterable[str]], training: Iterable[str], artifact: Path | None
) -> dict[str, RemovedSet]:
    """Whether the questions of each set can have been seen in training.

    Args:
        sets: questions, by the set's name.
        training: the questions that were trained on.
        artifact: of the stage `decontaminate`.
    """
    looked_for: set[str] | None = None
    if artifact is not None and (artifact / REMOVED).exists():
        found = json.loads((artifact / REMOVED).read_text(encoding="utf-8"))
        looked_for = {key for keys in found.values() for key in keys}
    trained = set(map(question_key, training))
    report = {}
    for name, questions in sets.items():
        keys = list(map(question_key, questions))
        digests = {hashlib.blake2b(key.encode(), digest_size=8).hexdigest() for key in keys}
        report[name] = RemovedSet(
            len(keys), None if looked_for is None else digests <= looked_for, sum(key in trained for key in keys)
        )
    return report
