"""The weights of `pipeline.html.weights`: ``python -m bench.fidelity.fit --data FOLDER``.

A logistic regression on the features of the blocks (`pipeline.html.features`) of half of Trafilatura's evaluation
pages; the other half is for measuring (`bench.fidelity.pages`). A block in which a piece of text is found that belongs
to the article is content, one with a piece that does not is none; all others are not known, and not asked about. Each
piece counts once, however many blocks it lies across or is found in.
"""

from __future__ import annotations

import argparse
import html
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from resiliparse.parse.html import HTMLTree

from bench.fidelity.pages import half_of, snippet_pages
from pipeline.html import columns as c
from pipeline.html import weights
from pipeline.html.columns import Page
from pipeline.html.features import NAMES, features, inherited
from pipeline.html.scan import scan

STRENGTH = 0.1
"""Inverse of the regularisation, chosen on the fitted half alone."""
LEAST = 0.004
"""Standardised weight below which a feature is left out."""
SPREAD = 1e-6

Labels = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
"""Of blocks: content (1), none (0) or not known (-1), and how much each counts."""


def main() -> None:
    """Fit, and write the module."""
    from sklearn.linear_model import LogisticRegression

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with trafilatura/ in it")
    tables, labels, counts = (np.concatenate(parts) for parts in zip(*_examples(parser.parse_args().data), strict=True))
    mean, spread = tables.mean(0), tables.std(0) + SPREAD
    model = LogisticRegression(C=STRENGTH, max_iter=3000).fit((tables - mean) / spread, labels, counts)
    scaled = model.coef_[0] / spread
    bias = float(model.intercept_[0] - scaled @ mean)
    chosen = {name: w for name, w, size in zip(NAMES, scaled, model.coef_[0], strict=True) if abs(size) > LEAST}
    Path(weights.__file__).write_text(_module(bias, chosen), encoding="utf-8")
    print(f"{len(labels)} blocks, {len(chosen)} of {len(NAMES)} features")


def _examples(data: Path) -> Iterator[tuple[npt.NDArray[np.float64], ...]]:
    for url, text, known in snippet_pages(data, quick=False):
        if half_of(url) == "even half":
            tree = HTMLTree.parse(text)
            page = scan(tree.body.outer_html if tree.body else str(tree))
            labels, counts = _labels(_texts(page), known["with"], known["without"])
            table = features(page, *inherited(page)).astype(np.float64)
            yield table[labels >= 0], labels[labels >= 0], counts[labels >= 0]


def _texts(page: Page) -> list[str]:
    """Of the blocks, white space apart."""
    data, texts = page.markup.tobytes(), []
    ends = [*page.blocks[1:, c.PIECE], len(page.pieces)]
    for begin, end in zip(page.blocks[:, c.PIECE], ends, strict=bool(len(page.blocks))):
        parts = [
            "\n" if kind in (c.BREAK, c.SOFT) else data[i:j].decode()
            for kind, i, j, _ in page.pieces[begin:end].tolist()
        ]
        texts.append(" ".join(html.unescape("".join(parts)).split()))
    return texts


def _labels(texts: list[str], wanted: list[str], unwanted: list[str]) -> Labels:
    labels, counts = np.full(len(texts), -1.0), np.zeros(len(texts))
    for piece in unwanted:
        found = _found(texts, piece)
        for first, last in found:
            labels[first : last + 1] = 0
            counts[first : last + 1] += 1 / len(found)
    for piece in wanted:
        if found := _found(texts, piece):
            first, last = max(found, key=lambda place: sum(map(len, texts[place[0] : place[1] + 1])))
            for block in range(first, last + 1):
                if texts[block]:
                    labels[block], counts[block] = 1, 1 / (last - first + 1)
    return labels, counts


def _found(texts: list[str], piece: str) -> list[tuple[int, int]]:
    """First and last block of each place where a piece is found."""
    piece, whole = " ".join(piece.split()), " ".join(texts)
    begins = np.cumsum([0, *(len(text) + 1 for text in texts)])
    places: list[tuple[int, int]] = []
    at = whole.find(piece)
    while at >= 0 and len(places) < 20:
        ends = np.searchsorted(begins, [at, at + len(piece) - 1], "right") - 1
        places.append((int(ends[0]), int(ends[1])))
        at = whole.find(piece, at + 1)
    return places


def _module(bias: float, chosen: dict[str, float]) -> str:
    lines = "".join(f'    "{name}": {value:.3f},\n' for name, value in chosen.items())
    return f'''"""Weights of the features of a block, made by ``python -m bench.fidelity.fit``."""

from __future__ import annotations

__all__ = ["BIAS", "WEIGHTS"]

BIAS = {bias:.3f}
WEIGHTS = {{
{lines}}}
'''


if __name__ == "__main__":
    main()
