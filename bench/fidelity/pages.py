"""Articles out of whole pages: trafilatura's evaluation pages, and the articles of article-extraction-benchmark.

trafilatura's are some 990 pages, each with pieces of text that belong to the article and pieces that do not; a piece
counts where it is in the text, white space apart (its own ``tests/eval_common.py``). The others are 181 articles whose
whole text is known; they are compared by shingles of four words (the benchmark's own `evaluate.py`).

Both halves of the pages are shown (by the parity of a hash of the address): rules were tuned on the even one alone.
"""

from __future__ import annotations

import gzip
import json
import re
import statistics
import time
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from bench.fidelity.extractors import Extractor, extractors_of, safely
from bench.fidelity.needs import Missing, folder
from bench.table import Row, row
from pipeline.sources.charset import decode

Scores = tuple[float, float, float]
"""F1, precision, recall."""
__all__ = ["half_of", "rows", "snippet_pages"]

TRAFILATURA = "git clone https://github.com/adbar/trafilatura"
ARTICLES = "git clone https://github.com/scrapinghub/article-extraction-benchmark"
SHINGLE = 4
"""Words."""
TURN = 50
"""Pages that one extractor reads before it is the next one's turn."""
_WORD = re.compile(r"\w+")


def rows(data: Path | None, quick: bool) -> Iterable[Row]:
    """F1, precision and recall of both collections, and how many times trafilatura's speed ours is."""
    extractors, missing = extractors_of()
    rows: list[Row] = []
    wanting: list[str] = []
    for name, measure in (("pages", _snippets), ("articles", _articles)):
        try:
            rows += measure(data, quick, extractors, missing)
        except Missing as missing_folder:
            wanting.append(f"{name}: {missing_folder}")
    if wanting and not rows:
        raise Missing("; ".join(wanting))
    for what in wanting:
        print(f"pages: not measured: {what}")
    return rows


def _snippets(data: Path | None, quick: bool, extractors: dict[str, Extractor], missing: list[str]) -> Iterator[Row]:
    pages = snippet_pages(data, quick)
    texts = _timed(extractors, [html for _, html, _ in pages])
    for half in ("even half", "odd half", "all"):
        chosen = [number for number, page in enumerate(pages) if half in ("all", half_of(page[0]))]
        scores = {
            name: _count([(pages[number][2], found[number]) for number in chosen]) for name, (found, _) in texts.items()
        }
        yield from _told(
            f"trafilatura's {len(chosen)} pages ({half})", scores, missing, 93.0 if half == "all" else None
        )
    yield _speed("trafilatura's pages", texts, missing)


def snippet_pages(data: Path | None, quick: bool) -> list[tuple[str, str, dict[str, Any]]]:
    """Trafilatura's pages: address, HTML, and pieces `with` and `without`.

    Raises:
        Missing: they are not there.
    """
    place = folder(data, "trafilatura", TRAFILATURA, "tests/evaldata.json", "tests/cache", "tests/eval") / "tests"
    known = json.loads((place / "evaldata.json").read_text(encoding="utf-8"))
    pages = []
    for url in sorted(known)[:: 10 if quick else 1]:
        files = [place / name / known[url]["file"] for name in ("cache", "eval")]
        body = next(file for file in files if file.is_file()).read_bytes()
        pages.append((url, decode(body, html=True)[0], known[url]))
    return pages


def half_of(key: str) -> str:
    """Which half of the pages this one belongs to, by its address."""
    return "odd half" if zlib.crc32(key.encode()) % 2 else "even half"


def _timed(extractors: dict[str, Extractor], pages: list[str]) -> dict[str, tuple[list[str], float]]:
    """The texts of each, "" where it breaks down, and the processor's seconds without what only a first page takes.

    They take turns, so that whatever else the machine does costs each the same.
    """
    texts: dict[str, list[str]] = {name: [] for name in extractors}
    seconds = dict.fromkeys(extractors, 0.0)
    for extract in extractors.values():
        safely(extract, pages[0])
    for first in range(0, len(pages), TURN):
        for name, extract in extractors.items():
            begin = time.process_time()
            texts[name] += [safely(extract, page) for page in pages[first : first + TURN]]
            seconds[name] += time.process_time() - begin
    return {name: (found, seconds[name]) for name, found in texts.items()}


def _count(results: Iterable[tuple[dict[str, Any], str]]) -> Scores:
    right = wrong = missed = 0
    for known, text in results:
        text = " ".join(text.split())
        found = sum(" ".join(piece.split()) in text for piece in known["with"])
        right, missed = right + found, missed + len(known["with"]) - found
        wrong += sum(" ".join(piece.split()) in text for piece in known["without"])
    return 2 * right / (2 * right + wrong + missed), right / (right + wrong), right / (right + missed)


def _articles(data: Path | None, quick: bool, extractors: dict[str, Extractor], missing: list[str]) -> Iterator[Row]:
    place = folder(data, "article-extraction-benchmark", ARTICLES, "ground-truth.json", "html")
    known = json.loads((place / "ground-truth.json").read_text(encoding="utf-8"))
    names = sorted(known)[:: 10 if quick else 1]
    pages = [decode(gzip.decompress((place / "html" / f"{name}.html.gz").read_bytes()), html=True)[0] for name in names]
    texts = _timed(extractors, pages)
    scores = {
        name: _shingle_scores([(known[key]["articleBody"], text) for key, text in zip(names, found, strict=True)])
        for name, (found, _) in texts.items()
    }
    yield from _told(f"{len(names)} articles", scores, missing, None)
    yield _speed("articles", texts, missing)


def _shingle_scores(results: Iterable[tuple[str, str]]) -> Scores:
    precisions, recalls = [], []
    for truth, text in results:
        known, found = _shingles(truth), _shingles(text)
        both = sum((known & found).values())
        if found:
            precisions.append(both / found.total())
        if known:
            recalls.append(both / known.total())
    precision, recall = statistics.mean(precisions), statistics.mean(recalls)
    return 2 * precision * recall / (precision + recall), precision, recall


def _shingles(text: str) -> Counter[tuple[str, ...]]:
    words = _WORD.findall(text)
    return Counter(tuple(words[at : at + SHINGLE]) for at in range(max(1, len(words) - SHINGLE + 1)) if words)


def _told(what: str, scores: dict[str, Scores], missing: list[str], target: float | None) -> Iterator[Row]:
    for place, measure in enumerate(("F1", "precision", "recall")):
        peers: dict[str, float | None] = {name: 100 * found[place] for name, found in scores.items() if name != "ours"}
        entry = row(f"{what}: {measure}", "%", 100 * scores["ours"][place], peers | dict.fromkeys(missing), None)
        if target and measure == "F1":
            entry |= {"target": target, "holds": entry["ours"] >= target}
        yield entry


def _speed(what: str, texts: dict[str, tuple[list[str], float]], missing: list[str]) -> Row:
    """Pages per second; the ratio is to trafilatura's, the target too."""
    rates = {name: len(found) / seconds for name, (found, seconds) in texts.items()}
    entry = row(f"{what}: speed", "pages/s", rates["ours"], {"trafilatura": rates.get("trafilatura")}, 15)
    entry["peers"] |= {name: round(rate, 1) for name, rate in rates.items() if name != "ours"} | dict.fromkeys(missing)
    return entry
