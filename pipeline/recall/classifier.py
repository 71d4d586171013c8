"""The judge of pages: a fastText classifier, trained on one thread so that the same examples give the same bytes.

fastText (arXiv 1607.01759) is a linear model over the mean of word and n-gram vectors. With several threads it trains
without locks, and no two models agree.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from infra.errors import UserError
from pipeline.recall.section import ClassifierOptions
from pipeline.text.words import WORDS

__all__ = ["Judge", "line_of", "train"]

IN, OUT = "__label__in", "__label__out"
END = "</s>"
"""fastText's word for the end of a line."""
NUMBER = re.compile(r"\d+")


def line_of(text: str, characters: int) -> str:
    """A page as fastText reads it: its words and marks in lower case on one line, numbers as 0."""
    return " ".join(WORDS.word_tokenize(NUMBER.sub("0", text[:characters].lower()))).replace("__label__", "label")


def train(examples: Iterable[tuple[str, bool]], options: ClassifierOptions, work: Path, model: Path) -> None:
    """Write a model that tells the lines that are of the field from those that are not to `model`.

    Raises:
        UserError: the examples have no word that is frequent enough, or training diverges.
    """
    import fasttext

    text = work / "examples.txt"
    with text.open("w", encoding="utf-8") as handle:
        for line, is_in in examples:
            handle.write(f"{IN if is_in else OUT} {line}\n")
    try:
        trained = fasttext.train_supervised(
            str(text),
            dim=options.dim,
            lr=options.learning_rate,
            wordNgrams=options.word_n_grams,
            minCount=options.min_count,
            epoch=options.epochs,
            bucket=options.buckets,
            loss="softmax",
            thread=1,
            verbose=0,
        )
    except RuntimeError as error:
        raise UserError(f"recall: fastText cannot learn ({error}); lower recall.classifier.learning_rate") from None
    if set(trained.words) <= {END}:
        raise UserError(
            "recall: no word of the examples is frequent enough; lower recall.classifier.min_count or add seeds"
        )
    partial = model.with_suffix(".partial")
    trained.save_model(str(partial))
    partial.replace(model)
    text.unlink()


class Judge:
    """A trained model."""

    def __init__(self, model: Path) -> None:
        import fasttext

        self.model: Any = fasttext.load_model(str(model))

    def scores(self, lines: Sequence[str]) -> np.ndarray:
        """The probability that each line is of the field, float32 [N]."""
        labels, probabilities = self.model.predict(list(lines), k=2)
        pairs = (dict(zip(names, values, strict=True)) for names, values in zip(labels, probabilities, strict=True))
        return np.fromiter((min(pair.get(IN, 0.0), 1.0) for pair in pairs), dtype=np.float32, count=len(lines))
