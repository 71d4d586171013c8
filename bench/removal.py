"""Requests for removal: which copies of removed documents are found, which strangers go with them, and what it costs.

    python -m bench.removal ARTIFACT [--removed 200] [--overlap 0.6] [--json FILE]

ARTIFACT is the folder of one with documents, best that of `decontaminate`, which has no copies. Some of its documents
are removed; what is left must stay, and altered copies must go: with words replaced, within other text, in part. Times
are processor seconds of one process.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from pathlib import Path

from bench.table import Row, row, show
from pipeline.removal.asks import Ask, Kind, Removals, sign
from pipeline.sections import ExtractConfig
from pipeline.tasks.documents import read_documents

LEAST_WORDS = 60
"""Of a document that is removed."""
MARKS = {"folded": 1.0, "2 % of words": 0.99, "5 % of words": 0.95, "within other text": 1.0, "half of it": 1.0}
"""Least share of copies of a kind that must go."""
MOST_STRANGERS = 0.01
"""Most share of other documents that may go."""


def replaced(share: float) -> Callable[[str, random.Random, str], str]:
    """What replaces a share of the words by others."""

    def change(text: str, chance: random.Random, other: str) -> str:
        theirs = other.split()
        return " ".join(chance.choice(theirs) if chance.random() < share else word for word in text.split())

    return change


COPIES: dict[str, Callable[[str, random.Random, str], str]] = {
    "folded": lambda text, chance, other: text.upper().replace(",", " ").replace(" ", "\n"),
    "2 % of words": replaced(0.02),
    "5 % of words": replaced(0.05),
    "10 % of words": replaced(0.10),
    "within other text": lambda text, chance, other: f"{other}\n{text}\n{other}",
    "half of it": lambda text, chance, other: " ".join(text.split()[len(text.split()) // 2 :]),
}


def main() -> None:
    """Measure, print, and write the rows."""
    parser = argparse.ArgumentParser()
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--removed", type=int, default=200)
    parser.add_argument("--overlap", type=float, default=ExtractConfig().removed_overlap)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = measure(options.artifact, options.removed, options.overlap)
    show(rows, options.json)


def measure(artifact: Path, removed: int, overlap: float) -> list[Row]:
    """All of it."""
    chance = random.Random(20)
    texts = [document.text for document in read_documents(artifact)]
    chance.shuffle(texts)
    long = [text for text in texts if len(text.split()) >= LEAST_WORDS]
    gone, others = long[:removed], long[removed:]
    clock = time.process_time()
    signatures = [signature for text in gone if (signature := sign(text))]
    signing = time.process_time() - clock
    removals = Removals([("all", Ask(kind=Kind.FILE, texts=tuple(signatures)))], overlap)
    rows = [
        row(
            f"copies found: {name}",
            "share",
            sum(bool(removals.match_text(copy(text, chance, chance.choice(others)))) for text in gone) / len(gone),
            {},
            MARKS.get(name),
        )
        for name, copy in COPIES.items()
    ]
    clock = time.process_time()
    strangers = [match for text in others if (match := removals.match_text(text))]
    matching = time.process_time() - clock
    megabytes = sum(len(text.encode()) for text in others) / 1e6
    size = sum(len(each.model_dump_json()) for each in signatures) / len(signatures)
    return [
        *rows,
        row("other documents that go", "share", len(strangers) / len(others), {}, MOST_STRANGERS, most=True),
        row("other documents", "count", len(others), {}, None),
        row("to look at text", "MB/s", megabytes / matching, {}, None),
        row("to sign a document", "ms", 1000 * signing / len(signatures), {}, None),
        row("a signature", "bytes", size, {}, None),
    ]


if __name__ == "__main__":
    main()
