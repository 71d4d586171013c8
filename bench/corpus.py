"""The corpus against plain datatrove and Hugging Face: ``python -m bench.corpus [--quick] [--json FILE]``.

One core, the same input for everybody, in turns within one run; the time is the processor's, so that a busy machine
distorts it little. Inputs from `DEEPMILL_CORPORA` (default ``../shared/corpora``): web crawls, books and source code.
Peers: ``pip install 'deepmill[bench]'``; one that is missing is named and not guessed.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import itertools
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

for _variable in ("RAYON_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[_variable] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["DEEPMILL_EXECUTION"] = json.dumps({"workers": 1})

from bench.corpora import corpora  # noqa: E402
from bench.table import Row, bench_parser, row, show  # noqa: E402  # after the threads were limited

DOCUMENT = 5_000
"""Characters of a document that is cut out of a book."""


def main() -> None:
    """Run the benches named, or all, and print the table."""
    parser = bench_parser(__doc__, "a tenth of the input")
    parser.add_argument("--only", choices=sorted(BENCHES), action="append", help="these benches alone")
    chosen = parser.parse_args()
    corpora("web", "book", "code")  # before anything is measured
    size = 300_000 if chosen.quick else 3_000_000
    rows: list[Row] = []
    for name in chosen.only or BENCHES:
        with tempfile.TemporaryDirectory() as folder, _quiet():
            rows += BENCHES[name](size, Path(folder))
    show(rows, chosen.json)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps back what datatrove logs, thousands of lines, unless the bench fails."""
    kept = io.StringIO()
    try:
        with contextlib.redirect_stderr(kept):
            yield
    except BaseException:
        sys.stderr.write(kept.getvalue())
        raise


def seconds(work: Callable[[], Any]) -> float:
    """Processor time of this process and of its children, whether they have ended or not."""
    before = _processor_time()
    work()
    return _processor_time() - before


def _processor_time() -> float:
    import psutil

    alive = 0.0
    for child in psutil.Process().children(recursive=True):  # ours extracts in a guarded process that it keeps
        with contextlib.suppress(psutil.NoSuchProcess):
            alive += sum(child.cpu_times()[:4])
    return alive + time.process_time() + sum(os.times()[2:4])


def turns(works: dict[str, Callable[[], Any]], rounds: int = 3) -> dict[str, float]:
    """The least time of each, all of them once per round."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            taken[name].append(seconds(work))
    return {name: min(times) for name, times in taken.items()}


def prose(size: int) -> list[str]:
    """Documents of books and of source code, half and half, of some `size` bytes in all."""
    books = itertools.chain.from_iterable(
        [text[i : i + DOCUMENT] for i in range(0, len(text), DOCUMENT)]
        for text in (file.read_text(encoding="utf-8") for file in sorted((corpora() / "book").glob("*.txt")))
    )
    return [*_take(books, size // 2), *_take(_code(), size // 2)]


def _code() -> Iterator[str]:
    for file in sorted((corpora() / "code").glob("*.jsonl.gz")):
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            for line in lines:
                record = json.loads(line)
                yield record.get("text") or record["content"]


def _take(texts: Iterator[str], size: int) -> Iterator[str]:
    for text in texts:
        if size <= 0:
            return
        yield text[:50_000]
        size -= len(text[:50_000])


def rate(texts: list[str], taken: float) -> float:
    """MB/s."""
    return sum(len(text.encode()) for text in texts) / taken / 1e6


def bench_signatures(size: int, folder: Path) -> list[Row]:
    """MinHash signatures: speed, and the pairs against datatrove's and against exact Jaccard."""
    from datatrove.data import Document
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets, MinhashDedupSignature

    from pipeline.dedup.minhash import FastMinhashBuckets, FastMinhashSignature, pairs
    from pipeline.dedup.shingles import folded_words, shingles
    from pipeline.text.folding import FINEWEB
    from pipeline.text.words import WORDS

    config = MinhashConfig()
    texts, source = prose(size), random.Random(0)
    planted = [_edited(text, share, source) for text in texts[::4] for share in (0.0, 0.005, 0.02)]
    texts += planted

    def run(step: Any, some: list[str]) -> Callable[[], None]:
        return lambda: step.run((Document(text=text, id="") for text in some), 0, 1)

    few = texts[: max(40, len(texts) // 10)]
    ours = FastMinhashSignature(folder / "ours", config)
    run(ours, texts[:2])()
    taken = turns(
        {
            "ours": run(ours, texts),
            "datatrove, our words": run(MinhashDedupSignature(str(folder / "same"), config, language=WORDS), few),
        }
    )
    ours_rate = rate(texts, taken["ours"])
    same_words = rate(few, taken["datatrove, our words"])
    plain: float | None = None
    with contextlib.suppress(ImportError):
        step = MinhashDedupSignature(str(folder / "spacy"), config)
        run(step, texts[:2])()
        plain = rate(few, turns({"": run(step, few)}, 2)[""])
    rows = [
        row("signatures", "MB/s", ours_rate, {"datatrove": plain}, 30),
        row("signatures, given the same words", "MB/s", ours_rate, {"datatrove, our words": same_words}, None),
    ]

    run(MinhashDedupSignature(str(folder / "theirs"), config, language=WORDS), texts)()
    for bucket in range(config.num_buckets):
        FastMinhashBuckets(folder / "ours", folder / "our-pairs", config).run(None, bucket, config.num_buckets)
        MinhashDedupBuckets(str(folder / "theirs"), str(folder / "their-pairs"), config=config).run(
            None, bucket, config.num_buckets
        )
    found = {(a[1], b[1]) for a, b in pairs(folder / "our-pairs")}
    theirs = {(a[1], b[1]) for a, b in pairs(folder / "their-pairs")}
    same = len(found & theirs)
    rows += [
        row("pairs: precision to datatrove's", "share", same / len(found), {}, 1.0),
        row("pairs: recall of datatrove's", "share", same / len(theirs), {}, 1.0),
    ]
    sets = [frozenset(shingles(folded_words(text, FINEWEB), config.n_grams).tolist()) for text in texts]
    similar = dict(_jaccards(sets))
    close = {pair for pair, jaccard in similar.items() if jaccard >= 0.85}
    joined = _joined(found, len(texts))
    rows += [
        row("pairs at Jaccard >= 0.85 found", "share", sum(joined(*p) for p in close) / max(1, len(close)), {}, 0.97),
        row(
            "found pairs at Jaccard >= 0.5",
            "share",
            sum(similar.get(pair, 0.0) >= 0.5 for pair in found) / len(found),
            {},
            0.99,
        ),
    ]
    return rows


def _edited(text: str, share: float, source: random.Random) -> str:
    return " ".join("edited" if source.random() < share else word for word in text.split(" "))


def _jaccards(sets: list[frozenset[int]]) -> Iterator[tuple[tuple[int, int], float]]:
    """Exact similarity of every pair of documents that share a shingle."""
    owners: dict[int, list[int]] = {}
    for number, hashes in enumerate(sets):
        for hashed in hashes:
            owners.setdefault(hashed, []).append(number)
    shared: dict[tuple[int, int], int] = {}
    for documents in owners.values():
        if len(documents) < 50:  # a licence header at the top of every file makes nobody a copy
            for pair in itertools.combinations(documents, 2):
                shared[pair] = shared.get(pair, 0) + 1
    for (a, b), count in shared.items():
        yield (a, b), count / (len(sets[a]) + len(sets[b]) - count)


def _joined(found: set[tuple[int, int]], count: int) -> Callable[[int, int], bool]:
    """Whether two documents are in one cluster of the pairs."""
    root = list(range(count))

    def top(node: int) -> int:
        while root[node] != node:
            root[node] = node = root[root[node]]
        return node

    for a, b in found:
        root[top(a)] = top(b)
    return lambda a, b: top(a) == top(b)


def bench_tokenization(size: int, folder: Path) -> list[Row]:
    """Text to ids, every one compared."""
    import numpy as np

    from pipeline.sections import TokenizerConfig
    from pipeline.tokens.encoder import Encoder
    from pipeline.tokens.tokenizer import train_tokenizer

    texts = prose(3 * size)
    train_tokenizer(TokenizerConfig(vocabulary=32_000), iter(texts[::3])).save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"eos_token": "<|eos|>"}')
    few = texts[:: max(1, len(texts) // 200)]
    library = Encoder(folder, plain=True)

    def cold() -> None:
        Encoder(folder)(texts)

    cold_time = turns({"": cold}, 2)[""] - seconds(lambda: Encoder(folder))
    warm = Encoder(folder)
    ids = warm(texts)
    assert all(map(np.array_equal, ids, library.slowly(texts))), "an id differs"
    works: dict[str, Callable[[], Any]] = {
        "ours": lambda: warm(texts),
        "HF": lambda: library.tokenizer.encode_batch(few, add_special_tokens=False),
    }
    with contextlib.suppress(ImportError):
        import fastokens

        fast = fastokens.Tokenizer.from_file(str(folder / "tokenizer.json"))
        works["fastokens"] = lambda: [fast.encode(text) for text in few]
    with contextlib.suppress(ImportError):
        import kitoken

        kit = kitoken.Kitoken.from_file(str(folder / "tokenizer.json"))
        works["kitoken"] = lambda: [kit.encode(text) for text in few]
    taken = turns(works)
    rates = {name: rate(few, taken[name]) if name in taken else None for name in ("HF", "fastokens", "kitoken")}
    hf, ours_rate = {"HF": rates.pop("HF")}, rate(texts, taken["ours"])
    return [
        row("tokenization, pieces met before", "MB/s", ours_rate, hf, 10),
        row("tokenization, from an empty table", "MB/s", rate(texts, cold_time), hf, 10),
        row("tokenization beside other libraries", "MB/s", ours_rate, rates, None),
        row("tokenization: documents with equal ids", "share", 1.0, {}, 1.0),
    ]


def bench_reader(size: int, folder: Path) -> list[Row]:
    """Tokens read in training order, and opening at a far step."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from pipeline.sections import ShardsConfig, TokenizerConfig
    from pipeline.tasks.documents import SCHEMA
    from pipeline.tokens.reader import ShardReader
    from pipeline.tokens.shards import shards
    from pipeline.tokens.tokenizer import train_tokenizer

    texts = prose(6 * size)
    inputs = {"tokenizer": folder / "tokenizer", "decontaminate": folder / "documents"}
    (folder / "tokenizer").mkdir()
    (folder / "documents" / "documents").mkdir(parents=True)
    (folder / "shards").mkdir()
    train_tokenizer(TokenizerConfig(vocabulary=8_000), iter(texts[::9])).save(str(folder / "tokenizer/tokenizer.json"))
    (folder / "tokenizer/tokenizer_config.json").write_text('{"eos_token": "<|eos|>"}')
    rows = [{"id": str(n), "text": t, "source": "web", "url": "", "metadata": "{}"} for n, t in enumerate(texts)]
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), folder / "documents/documents/00000.parquet")
    shards(ShardsConfig(sequence_length=4096, rows_per_file=256), inputs, folder / "shards")
    reader = ShardReader(folder / "shards", "train", global_batch=32)
    steps = 60

    def read() -> None:
        for step in range(steps):
            reader.batch(step)

    read()
    tokens = steps * 32 * 4096
    opened = []
    for step in (0, 1_000, 10**6, 10**12):
        begun = time.perf_counter()
        ShardReader(folder / "shards", "train", global_batch=32).batch(step)
        opened.append(1000 * (time.perf_counter() - begun))
    return [
        row("reader, checksums compared", "Mtok/s", tokens / turns({"": read})[""] / 1e6, {}, 100),
        row("open and read at any step, slowest", "ms", max(opened), {}, 50, most=True),
    ]


def bench_extraction(size: int, folder: Path) -> list[Row]:
    """Web pages to text: speed, and how much of the text the other finds."""
    from fastwarc import ArchiveIterator, WarcRecordType

    from pipeline.sources.html import prepare, text_of

    prepare()
    pages: list[str] = []
    for file in sorted((corpora() / "web").glob("*.warc.gz")):
        with file.open("rb") as stream:
            for record in itertools.islice(ArchiveIterator(stream, record_types=WarcRecordType.response), 400):
                if record.http_headers and record.http_headers.status_code == 200:
                    html = record.reader.read().decode("utf-8", "replace")
                    if "<html" in html[:2000].lower() and len(html) < 200_000:
                        pages.append(html)
    pages = pages[:: max(1, sum(map(len, pages)) // size)]
    texts: dict[str, list[str]] = {}

    def run(name: str, extract: Callable[[str], str | None]) -> Callable[[], None]:
        def work() -> None:
            texts[name] = [extract(page) or "" for page in pages]

        return work

    works = {"ours": run("ours", lambda page: text_of(page, main_content=True)[1])}
    with contextlib.suppress(ImportError):
        import trafilatura

        works["trafilatura"] = run("trafilatura", lambda page: trafilatura.extract(page, favor_precision=True))
    taken = turns(works, 2)
    theirs_rate = rate(pages, taken["trafilatura"]) if "trafilatura" in taken else None
    rows = [row("extraction", "MB/s", rate(pages, taken["ours"]), {"trafilatura": theirs_rate}, 10)]
    if theirs_rate:
        ours, theirs = (_counts(texts[name]) for name in ("ours", "trafilatura"))
        common = sum((ours & theirs).values())
        rows += [
            row("extraction: of Trafilatura's words found", "share", common / sum(theirs.values()), {}, 0.9),
            row("extraction: of our words in Trafilatura's", "share", common / sum(ours.values()), {}, 0.8),
        ]
    return rows


def _counts(texts: list[str]) -> Any:
    from collections import Counter

    return Counter((number, word) for number, text in enumerate(texts) for word in text.lower().split())


def bench_chain(size: int, folder: Path) -> list[Row]:
    """A crawl to token shards: the project's stages, and the same chain of datatrove's blocks with their defaults."""
    from bench.chain import ours, theirs

    crawl = _small_crawl(corpora() / "web" / "deb_postgresql-00000.warc.gz", folder / "crawl.warc.gz", 4 * size)
    works: dict[str, Callable[[], Any]] = {"ours": lambda: ours(crawl, folder / "ours")}
    if all(map(find_spec, ("spacy", "trafilatura", "lxml_html_clean", "magic", "cchardet"))):
        works["datatrove"] = lambda: theirs(crawl, folder / "theirs")
    ours(_small_crawl(crawl, folder / "first.warc.gz", 100_000), folder / "first")  # what a process pays once
    shutil.rmtree(folder / "first")
    taken = turns(works, 1)
    mb = _decoded(crawl) / 1e6
    peers = {"datatrove": mb / taken["datatrove"] if "datatrove" in taken else None}
    return [row("chain, crawl to shards", "MB/s", mb / taken["ours"], peers, 20)]


def _small_crawl(file: Path, to: Path, size: int) -> Path:
    """The first responses of a crawl, of `size` bytes in all."""
    from warcio.archiveiterator import ArchiveIterator
    from warcio.warcwriter import WARCWriter

    with file.open("rb") as stream, to.open("wb") as out:
        writer = WARCWriter(out, gzip=True)
        for record in ArchiveIterator(stream):
            if record.rec_type == "response":
                size -= int(record.rec_headers.get_header("Content-Length"))
                record.rec_headers.add_header("WARC-Identified-Payload-Type", "text/html")  # else datatrove sniffs
                writer.write_record(record)
                if size <= 0:
                    break
    return to


def _decoded(file: Path) -> int:
    with gzip.open(file, "rb") as stream:
        return sum(len(chunk) for chunk in iter(lambda: stream.read(1 << 20), b""))


BENCHES: dict[str, Callable[[int, Path], list[Row]]] = {
    "extraction": bench_extraction,
    "signatures": bench_signatures,
    "tokenization": bench_tokenization,
    "reader": bench_reader,
    "chain": bench_chain,
}

if __name__ == "__main__":
    sys.exit(main())
