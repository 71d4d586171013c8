"""Texts to their sources: how large an index is, what it costs, and how soon and how fully spans are found.

    python -m bench.trace [--megabytes 4 16] [--planted 1000] [--laptop FOLDER]

The corpus is Python source files of this interpreter's packages, a document each; with `--laptop` the text, books, code
and wikis of DEEPMILL_CORPORA, through the data stages of the preset `laptop` (some two minutes of a processor, kept in
FOLDER). Spans of words of random documents are planted among words that stand nowhere; each must be found whole, and
everything found must stand in the documents that are named for it. Times are processor seconds of one process, and
memory is what is not mapped from files. What an object store would be asked is counted where the index is read by an
address, each text by a process that knows nothing yet, and then by one that goes on.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.corpora import corpora
from flows.recipe.recipe import load_recipe
from flows.recipe.stages import graph
from infra.ranges import RemoteFolder
from pipeline.index.section import IndexConfig
from pipeline.index.spans import MOST_CHARACTERS, WORD, Sources
from pipeline.index.stage import index
from pipeline.sections import ShardsConfig, TokenizerConfig
from pipeline.tasks.documents import SCHEMA, read_documents
from pipeline.tokens.shards import shards
from pipeline.tokens.tokenizer import train_tokenizer

PER_FILE = 1000
LAPTOP = ("extract", "clean", "dedup", "reasoning", "decontaminate", "tokenizer", "shards")


def main() -> None:
    """Measure and print, a line of JSON per size."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--megabytes", type=float, nargs="+", default=[4, 16])
    parser.add_argument("--planted", type=int, default=1000)
    parser.add_argument("--laptop", type=Path, help="a folder, in place of sizes")
    options = parser.parse_args()
    if options.laptop:
        texts = make_laptop(options.laptop)
        print(json.dumps(measure(options.laptop, texts, options.planted)), flush=True)
        return
    for megabytes in options.megabytes:
        with tempfile.TemporaryDirectory() as folder:
            texts = make_shards(Path(folder), int(megabytes * 1e6))
            print(json.dumps(measure(Path(folder), texts, options.planted)), flush=True)


def measure(folder: Path, texts: dict[str, str], planted: int) -> dict[str, float]:
    """All of it for the shards of `texts` in a folder."""
    shutil.rmtree(folder / "index", ignore_errors=True)
    (folder / "index").mkdir()
    began = time.process_time()
    metrics = index(IndexConfig(), {"shards": folder / "shards"}, folder / "index")
    built = time.process_time() - began
    assert metrics.tokens
    assert metrics.index_bytes
    began = time.process_time()
    sources = Sources(folder / "index", folder / "shards", folder / "tokenizer")
    opened, before = time.process_time() - began, anonymous_bytes()
    found, seconds = plant(sources, texts, planted)
    grown = anonymous_bytes() - before
    whole = [timed(sources, text[:20_000]) for text in random.Random(1).sample(sorted(texts.values()), 20)]
    return {
        "text_bytes": sum(len(text.encode()) for text in texts.values()),
        "tokens": metrics.tokens,
        "index_bytes": metrics.index_bytes,
        "bytes_per_token": round(metrics.index_bytes / metrics.tokens, 2),
        "build_seconds_per_million_tokens": round(built / metrics.tokens * 1e6, 2),
        "open_seconds": round(opened, 3),
        "planted": planted,
        "found": found,
        "query_ms_median": round(1e3 * float(np.median(seconds)), 1),
        "query_ms_most": round(1e3 * max(seconds), 1),
        "whole_document_ms_most": round(1e3 * max(whole), 1),
        "memory_grown_mb": round(grown / 1e6, 1),
        **asked(folder, texts),
    }


def asked(folder: Path, texts: dict[str, str], queries: int = 40) -> dict[str, float]:
    """What an object store is asked for a text: blocks and their bytes, in the median and at most."""
    sizes: list[int] = []
    ranges = RemoteFolder.ranges

    def counted(self: RemoteFolder, wanted: Sequence[tuple[str, int, int]]) -> list[bytes]:
        sizes.extend(size for *_, size in wanted)
        return ranges(self, wanted)

    found: dict[str, float] = {}
    places = (f"file://{folder.resolve()}/index", str(folder / "shards"), folder / "tokenizer")
    kept = Sources(*places)
    RemoteFolder.ranges = counted  # type: ignore[method-assign]
    try:
        for name in ("first", "going_on"):
            numbers = []
            for text, *_ in planted_texts(kept, texts, queries, seed=len(name)):
                sizes.clear()
                (Sources(*places) if name == "first" else kept).find(text)
                numbers.append((len(sizes), sum(sizes)))
            (requests, read), (most, most_read) = np.median(numbers, axis=0), np.max(numbers, axis=0)
            found |= {f"{name}_requests": requests, f"{name}_requests_most": int(most)}
            found |= {f"{name}_kb": round(read / 1e3), f"{name}_kb_most": round(most_read / 1e3)}
    finally:
        RemoteFolder.ranges = ranges  # type: ignore[method-assign]
    return found


def make_laptop(folder: Path) -> dict[str, str]:
    """Shards and a tokenizer of the corpora by the preset `laptop`; the texts by id."""
    corpus = corpora("web", "wiki", "book", "code")
    sources = {
        "wiki": {"kind": "wiki", "paths": [str(corpus / "wiki")]},
        "book": {"kind": "book", "paths": [str(corpus / "book")]},
        "web": {"kind": "web", "paths": [str(corpus / "web")], "profile": "reference"},
        "code": {"kind": "jsonl", "paths": [str(corpus / "code")], "profile": "code"},
    }
    recipe = load_recipe("laptop", [f"extract.sources={json.dumps(sources)}", "reasoning.exclude=[]"])
    for node in graph(lambda stage: recipe.has(stage) and stage in LAPTOP):
        out = folder / node.stage.name
        if out.exists():
            continue
        half = folder / f".{node.stage.name}"
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir(parents=True)
        module, function = node.stage.entrypoint.split(":")
        make = getattr(import_module(module), function)
        make(getattr(recipe, node.stage.name), {role: folder / name for role, name in node.inputs.items()}, half)
        half.rename(out)
    return {document.id: document.text for document in read_documents(folder / "decontaminate")}


def make_shards(folder: Path, size: int) -> dict[str, str]:
    """Shards and a tokenizer of `size` bytes of source files; the texts by id."""
    texts = dict(sources_of(size))
    (folder / "documents" / "documents").mkdir(parents=True)
    rows = [
        {"id": name, "text": text, "source": "code", "url": f"file:///{name}", "metadata": "{}"}
        for name, text in texts.items()
    ]
    for number, first in enumerate(range(0, len(rows), PER_FILE)):
        table = pa.Table.from_pylist(rows[first : first + PER_FILE], SCHEMA)
        pq.write_table(table, folder / "documents" / "documents" / f"{number:05d}.parquet")
    tokenizer = train_tokenizer(TokenizerConfig(vocabulary=8192), iter(list(texts.values())[:200]))
    (folder / "tokenizer").mkdir()
    tokenizer.save(str(folder / "tokenizer" / "tokenizer.json"))
    (folder / "tokenizer" / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|eos|>"}))
    (folder / "shards").mkdir()
    inputs = {"decontaminate": folder / "documents", "tokenizer": folder / "tokenizer"}
    shards(ShardsConfig(sequence_length=1024, validation_fraction=0), inputs, folder / "shards")
    shutil.rmtree(folder / "shards" / ".work")
    return texts


def sources_of(size: int) -> Iterator[tuple[str, str]]:
    """Source files by name, in a mixed order, until they are so many bytes."""
    root = Path(sysconfig.get_paths()["purelib"])
    files = sorted(root.rglob("*.py"))
    random.Random(0).shuffle(files)
    for file in files:
        try:
            text = file.read_text(encoding="utf-8")
        except (UnicodeDecodeError, OSError):
            continue
        if 500 < len(text) < 100_000:
            yield str(file.relative_to(root)), text
            size -= len(text.encode())
        if size < 0:
            return


def plant(sources: Sources, texts: dict[str, str], count: int) -> tuple[int, list[float]]:
    """How many of `count` planted spans are found with their document, and the seconds of each search."""
    found = 0
    seconds: list[float] = []
    for text, planted, name in planted_texts(sources, texts, count, seed=2):
        began = time.process_time()
        spans = sources.find(text, documents=100)
        seconds.append(time.process_time() - began)
        begin = text.index(planted)
        hits = [span for span in spans if span.begin <= begin and span.end >= begin + len(planted)]
        if hits and (hits[0].places > 100 or name in {document["id"] for document in hits[0].documents}):
            found += 1
        else:
            print(f"missed: {name} {planted!r}", file=sys.stderr)
        for span in spans:
            assert all(span.text in texts[document["id"]] for document in span.documents), "invented"
    return found, seconds


def planted_texts(sources: Sources, texts: dict[str, str], count: int, seed: int) -> Iterator[tuple[str, str, str]]:
    """Texts with what is planted in each, and the document that has it, whole in the rows."""
    random_ = random.Random(seed)
    names = []
    for piece in sources.pieces:
        in_rows = piece.documents.take(np.arange(len(piece.documents))).tolist()
        names += [
            sources.names[index]["id"] for index in in_rows[:-1]
        ]  # the last may be cut at the end of the last row
    names.sort()
    while count:
        name = random_.choice(names)
        words = [match.span() for match in WORD.finditer(texts[name])]
        if len(words) < 10:
            continue
        first = random_.randrange(len(words) - 9)
        end = min(len(words), first + random_.randrange(8, 60))
        planted = texts[name][words[first][0] : words[end - 1][1]]
        if words[end - 1][1] - words[first][0] < MOST_CHARACTERS // 2:
            yield f"{nonsense(random_)} {planted} {nonsense(random_)}", planted, name
            count -= 1


def nonsense(random_: random.Random) -> str:
    """Ten words that stand nowhere."""
    return " ".join("".join(random_.choices("bcdfghjklmnpqrstvwxz", k=9)) for _ in range(10))


def timed(sources: Sources, text: str) -> float:
    """Seconds of a search for a text that stands there as a whole."""
    began = time.process_time()
    sources.find(text)
    return time.process_time() - began


def anonymous_bytes() -> int:
    """Memory of this process that is not mapped from files."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("RssAnon")).split()[1])


if __name__ == "__main__":
    main()
