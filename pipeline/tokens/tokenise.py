"""The first half of making shards: a task per file of documents turns text into tokens and notes where they are.

Below the stage's work folder, for task n: `tokens/n.bin`, the tokens of its documents one after another;
`entries/n.bin`, for each document where its tokens are and the number that decides its place in the corpus, in the
order of that number within each split and source; `entries/n.json`, what is where, and counts. In the artifact:
`index/n.parquet`, the id, address, source, split and length of every document, in the order of the file.

Memory holds one batch of documents, the entries of one file, and what the encoder remembers of pieces.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datatrove.pipeline.base import PipelineStep

from infra import events
from infra.facts import Facts
from pipeline.sections import ShardsConfig
from pipeline.tasks.documents import Document
from pipeline.tokens.encoder import Encoder, kept_encoder
from pipeline.tokens.tokenizer import FIM_TOKENS

__all__ = ["ENTRY", "OUTPUTS", "SPLITS", "Tokenise", "TokenisedTask", "held_out_below", "keys", "token_dtype"]

SPLITS = ("train", "validation")
ROW_CHARACTERS = 8
"""Characters for each token of a row of held-out text, so that they fill one whatever the tokenizer."""
ROWS_HELD_OUT = 8
"""Rows of a small source that are held out where a tenth of it has them: a judgement on one row says little."""
VERY_FEW = 1000
"""Documents of a source up to which it is seen to that some are held out: chance does not always."""
ENTRY = np.dtype([("order", "<u8"), ("start", "<u8"), ("length", "<u4"), ("row", "<u4")])
"""Place in the corpus, first token in the task's file, tokens, row in the task's index."""
INDEX_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("url", pa.string()),
        ("source", pa.string()),
        ("split", pa.string()),
        ("tokens", pa.uint32()),
    ]
)
OUTPUTS = {
    "tokens": ".work/tokens/{:05d}.bin",
    "entries": ".work/entries/{:05d}.bin",
    "counts": ".work/entries/{:05d}.json",
    "index": "index/{:05d}.parquet",
}
"""What a task writes."""
BATCH_BYTES = 1_000_000
"""Text tokenised at once."""
LENGTH_BINS = 40
"""Document lengths are counted by their power of two."""


Places: TypeAlias = dict[str, dict[str, tuple[int, int]]]
"""First entry and the one after the last, by split and source."""


class TokenisedTask(Facts):
    """What one task left: ``entries/n.json``."""

    documents: int
    tokens: int
    text_bytes: int
    characters: dict[str, dict[str, int]]
    """By split and source."""
    lengths: dict[str, list[int]]
    """Documents by the power of two of their length, by source."""
    places: Places


def token_dtype(vocabulary: int) -> np.dtype:
    """The smallest little-endian unsigned type that holds every id of a vocabulary of this size."""
    return np.dtype("<u2") if vocabulary <= 1 << 16 else np.dtype("<u4")


def keys(text: bytes, seed: int) -> tuple[int, int]:
    """Two independent 64-bit numbers of a text: one chooses the split, one the place in the order."""
    digest = hashlib.blake2b(text, digest_size=16, salt=seed.to_bytes(16, "little", signed=True)).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")


def held_out_below(config: ShardsConfig, few: Iterable[Document] | None) -> dict[str, int]:
    """The split keys below which documents are held out, by source; a source that is not named has the share's.

    Args:
        few: all documents, where they are so few that chance may hold out none of a source, or less than a row: then
            as many are as fill `ROWS_HELD_OUT` rows, up to a tenth of the source. None where they are many.
    """
    share = int(config.validation_fraction * 2**64)
    if few is None or not share:
        return {}
    sources: dict[str, list[tuple[int, int]]] = {}
    for each in few:
        item = keys(each.text.encode(), config.seed)[0], len(each.text)
        sources.setdefault(each.metadata["source"], []).append(item)
    row = ROW_CHARACTERS * config.sequence_length
    result = {
        name: max(share, _enough(documents, ROWS_HELD_OUT * row, sum(length for _, length in documents) // 10))
        for name, documents in sources.items()
        if len(documents) <= VERY_FEW
    }
    everything = [(name, document) for name, documents in sources.items() for document in documents]
    if sum(length for name, (key, length) in everything if key < result.get(name, share)) < row:
        documents = [document for _, document in everything]
        # Of so little text a tenth is no row: one is filled all the same, so that there is something to judge by.
        result = dict.fromkeys(sources, max(share, _enough(documents, row)))
    return result


def _enough(documents: list[tuple[int, int]], wanted: int, most: float = math.inf) -> int:
    """The key below which documents, `(key, characters)`, have the wanted characters, or less where `most` is first."""
    found = 0
    *others, (last, _) = sorted(documents)  # one at least is to learn from
    for key, length in others:
        if found >= wanted or found + length > most:
            return key
        found += length
    return last


class Tokenise(PipelineStep):
    """The datatrove step that does it."""

    type = "TOKENS"
    name = "tokenise"

    def __init__(
        self, config: ShardsConfig, tokenizer: Path, out_dir: Path, threads: int, plain: bool, held_out: dict[str, int]
    ) -> None:
        super().__init__()
        self.config, self.tokenizer, self.out_dir, self.held_out = config, tokenizer, out_dir, held_out
        self.threads, self.plain = threads, plain

    def run(self, data: Iterable[Document], rank: int = 0, world_size: int = 1) -> None:
        share = int(self.config.validation_fraction * 2**64)
        encoder = kept_encoder(self.tokenizer, self.threads, self.plain)
        dtype = token_dtype(encoder.vocabulary)
        fill = FillInTheMiddle(self.config, encoder) if self.config.fim_rate else None
        work = self.out_dir / ".work"
        for folder in (work / "tokens", work / "entries", self.out_dir / "index"):
            folder.mkdir(parents=True, exist_ok=True)
        for place in OUTPUTS.values():  # one that a killed attempt took over is another artifact's as well
            (self.out_dir / place.format(rank)).unlink(missing_ok=True)
        groups: dict[tuple[str, str], list[np.ndarray]] = {}
        characters: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
        lengths: dict[str, np.ndarray] = {}
        start = row = text_bytes = 0
        with (
            (work / "tokens" / f"{rank:05d}.bin").open("wb") as out,
            pq.ParquetWriter(self.out_dir / "index" / f"{rank:05d}.parquet", INDEX_SCHEMA, compression="zstd") as index,
        ):
            for batch in _batches(data):
                texts = [document.text for document in batch]
                rows: dict[str, list[Any]] = {name: [] for name in INDEX_SCHEMA.names}
                entries: dict[tuple[str, str], list[tuple[int, int, int, int]]] = {}
                all_ids = fill(batch) if fill else encoder(texts)
                for document, ids in zip(batch, all_ids, strict=True):
                    text = document.text.encode()
                    text_bytes += len(text)
                    split_key, order_key = keys(text, self.config.seed)
                    source = document.metadata["source"]
                    split = SPLITS[split_key < self.held_out.get(source, share)]
                    length = len(ids) + 1
                    characters[split][source] += len(document.text)
                    out.write(ids.astype(dtype).tobytes() + dtype.type(encoder.eos).tobytes())
                    entries.setdefault((split, source), []).append((order_key, start, length, row))
                    if source not in lengths:
                        lengths[source] = np.zeros(LENGTH_BINS, dtype=np.int64)
                    lengths[source][length.bit_length()] += 1
                    values = (document.id, document.metadata["url"] or "", source, split, length)
                    for column, value in zip(rows.values(), values, strict=True):
                        column.append(value)
                    start, row = start + length, row + 1
                index.write_table(pa.table(rows, schema=INDEX_SCHEMA))
                for key, items in entries.items():
                    groups.setdefault(key, []).append(np.asarray(items, dtype=ENTRY))
        counts = TokenisedTask(
            documents=row,
            tokens=start,
            text_bytes=text_bytes,
            characters=characters,
            lengths={source: bins.tolist() for source, bins in lengths.items()},
            places=_write_entries(work / "entries" / f"{rank:05d}.bin", groups),
        )
        (work / "entries" / f"{rank:05d}.json").write_text(counts.model_dump_json())


def _write_entries(path: Path, groups: dict[tuple[str, str], list[np.ndarray]]) -> Places:
    """Write the entries of a task, sorted; what is where in them."""
    places: Places = {split: {} for split in SPLITS}
    begin = 0
    with path.open("wb") as out:
        for (split, source), parts in sorted(groups.items()):
            entries = np.concatenate(parts)
            parts.clear()
            # The seeded hash decides; the row only settles equal texts.
            out.write(entries[np.argsort(entries["order"], kind="stable")].tobytes())
            places[split][source] = (begin, begin + len(entries))
            begin += len(entries)
    return places


def _batches(data: Iterable[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    size = 0
    for document in data:
        batch.append(document)
        size += len(document.text)
        if size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
    events.flush()


class FillInTheMiddle:
    """Turns a share of the documents of some sources into prefix, suffix, middle (DeepSeek-Coder, arXiv 2401.14196).

    Section 3.1.2 there: before packing, at document level, in the order prefix, suffix, middle, for half of the code.
    Which documents, and where they are cut, the text itself decides, with the seed.
    """

    def __init__(self, config: ShardsConfig, encoder: Encoder) -> None:
        self.config, self.encoder = config, encoder
        self.marks = [np.asarray([encoder.token(content)], dtype=np.uint32) for content in FIM_TOKENS]

    def __call__(self, batch: list[Document]) -> list[np.ndarray]:
        """The ids of each document."""
        pieces: list[str] = []
        counts = []
        for document in batch:
            cut = self.cut(document)
            pieces += cut
            counts.append(len(cut))
        encoded = iter(self.encoder(pieces))
        result = []
        for count in counts:
            if count == 1:
                result.append(next(encoded))
            else:
                prefix, middle, suffix = next(encoded), next(encoded), next(encoded)
                begin, hole, end = self.marks
                result.append(np.concatenate([begin, prefix, hole, suffix, end, middle]))
        return result

    def cut(self, document: Document) -> list[str]:
        """The text whole, or its prefix, middle and suffix."""
        text = document.text
        if document.metadata["source"] not in self.config.fim_sources or len(text) < 3:
            return [text]
        salt = (self.config.seed ^ 0x46494D).to_bytes(16, "little", signed=True)
        digest = hashlib.blake2b(text.encode(), digest_size=24, salt=salt).digest()
        chance, one, other = (int.from_bytes(digest[i : i + 8], "little") for i in (0, 8, 16))
        if chance >= self.config.fim_rate * 2**64:
            return [text]
        low, high = sorted((one % (len(text) + 1), other % (len(text) + 1)))
        return [text[:low], text[low:high], text[high:]]
