"""More dumps, more removed: ``python -m bench.dumps [--quick] [--json FILE]``.

DeepSeek-LLM (arXiv 2401.02954, table 1) deduplicates across 1 to 91 dumps of Common Crawl and removes 22.2 to 89.8 %.
Here dumps are made of the wiki articles in DEEPMILL_CORPORA as crawls are: each has a share of all pages, a part of
which were edited since, and some have copies within the dump. The corpora are other than theirs, so the shares are
not to be compared; that they grow with every dump is.
"""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

from bench.corpora import corpora
from bench.table import Row, bench_parser, print_table, row, write_rows
from pipeline.dedup.section import DedupConfig
from pipeline.dedup.stage import dedup
from pipeline.extract import extract
from pipeline.sections import ExtractConfig
from pipeline.tasks.documents import Document, DocumentWriter, read_documents

PUBLISHED = {1: 22.2, 2: 46.7, 6: 55.7, 12: 69.9, 16: 75.7, 22: 76.3, 41: 81.6, 91: 89.8}
"""Dumps to the percentage removed."""
SHARE, EDITED, MIRRORED = 0.5, 0.3, 0.15
"""Of all pages in a dump; of these changed since the last crawl; of these found at a second address as well."""


def make_dump(pages: list[Document], number: int) -> list[Document]:
    """What one crawl found."""
    source = random.Random(number)
    dump = []
    for page in source.sample(pages, int(SHARE * len(pages))):
        words = page.text.split(" ")
        if source.random() < EDITED:
            for _ in range(max(1, len(words) // 200)):
                words[source.randrange(len(words))] = f"edit{source.randrange(10**6)}"
        for copy in range(2 if source.random() < MIRRORED else 1):
            metadata = {"source": "web", "url": page.metadata["url"]}
            dump.append(Document(text=" ".join(words), id=f"{number}/{page.id}/{copy}", metadata=metadata))
    return dump


def removed(dumps: list[list[Document]]) -> float:
    """Percentage of the documents of all dumps that deduplication removes."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "out").mkdir()
        for number, dump in enumerate(dumps):
            for _ in DocumentWriter(Path(folder) / "in").run(dump, number):
                pass
        metrics = dedup(DedupConfig(), {"clean": Path(folder) / "in"}, Path(folder) / "out")
    return float(100 * (1 - metrics.documents_out / metrics.documents_in))


def measure(pages: list[Document], counts: list[int]) -> list[Row]:
    """A row per number of dumps."""
    rows = []
    for count in counts:
        share = removed([make_dump(pages, number) for number in range(count)])
        rows.append(row(f"removed across {count} dumps", "%", share, {}, None) | {"published": PUBLISHED.get(count)})
    return rows


def main() -> None:
    """Measure, print, write."""
    arguments = bench_parser(__doc__, "up to 6 dumps, not 16").parse_args()
    sources = {"wiki": {"kind": "wiki", "paths": [str(corpora("wiki") / "wiki" / "enwiki*.bz2")]}}
    with tempfile.TemporaryDirectory() as folder:
        extract(ExtractConfig.model_validate({"sources": sources}), {}, Path(folder))
        pages = list(read_documents(Path(folder)))
    rows = measure(pages, [1, 2, 6] if arguments.quick else [1, 2, 6, 12, 16])
    shares = [entry["ours"] for entry in rows]
    rows.append(row("each step removes more", "bool", float(shares == sorted(set(shares))), {}, 1))
    print_table(rows)
    print("published by DeepSeek-LLM for Common Crawl:", PUBLISHED)
    write_rows(rows, arguments.json)


if __name__ == "__main__":
    main()
