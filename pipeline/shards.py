"""Token shards: documents become rows of fixed length in Parquet files that any Parquet reader opens.

A document is its tokens and one end-of-sequence token. Documents are put in an order that a seed and their own text
decide, held-out ones apart, then cut into rows of `sequence_length` tokens without padding: a document may straddle
rows, and no row mixes sources, so that mixture weights can be chosen when reading. What is left at the end of a source,
less than one row, is dropped and counted.

    train/<source>-00000.parquet, validation/<source>-00000.parquet
        tokens     fixed_size_binary: little-endian uint16 or uint32, by vocabulary
        documents  list<uint32>: for each document in the row, its index in documents.parquet
        offsets    list<uint32>: where in the row each of them starts
        source     string
    documents.parquet   index (the row number), id, url, source, split, tokens
    shards.json         what is there, with a checksum of every file

Tokens are stored uncompressed and in small row groups: the reader fetches rows in random order, and then copying beats
decompressing. The token ids wait in flat files under `.work` while the order is found, so memory holds one batch of
documents or one row group, never the corpus.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from infra import events
from infra.errors import UserError
from infra.execution import execution
from pipeline.documents import document_files
from pipeline.sections import ShardsConfig

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["ROWS_PER_GROUP", "SPLITS", "shards", "token_dtype"]

SPLITS = ("train", "validation")
ROWS_PER_GROUP = 64
BATCH_BYTES = 4_000_000
"""Text tokenised at once: enough to keep the threads busy, little enough to hold."""


def token_dtype(vocabulary: int) -> np.dtype:
    """The smallest little-endian unsigned type that holds every id of a vocabulary of this size."""
    return np.dtype("<u2") if vocabulary <= 1 << 16 else np.dtype("<u4")


def shards(config: ShardsConfig, inputs: Mapping[str, Path], out_dir: Path) -> dict[str, Any]:
    """Tokenise `inputs["decontaminate"]` with `inputs["tokenizer"]` and pack it.

    Raises:
        UserError: no document, or too little text for one training row.
    """
    # Read by the tokenizers library when its thread pool starts; the ids do not depend on the number of threads.
    os.environ["RAYON_NUM_THREADS"] = str(execution().processes)
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    tokenizer, eos = _load_tokenizer(inputs["tokenizer"])
    dtype = token_dtype(tokenizer.get_vocab_size())
    work = out_dir / ".work"
    work.mkdir(parents=True, exist_ok=True)

    table, lengths, text_bytes = _tokenise(config, inputs["decontaminate"], tokenizer, eos, dtype, work / "tokens.bin")
    starts = np.concatenate(([0], np.cumsum(lengths)))
    tokens = np.memmap(work / "tokens.bin", dtype=dtype, mode="r", shape=(int(starts[-1]),))

    card: dict[str, Any] = {
        "format": 1,
        "sequence_length": config.sequence_length,
        "vocabulary": tokenizer.get_vocab_size(),
        "eos": eos,
        "dtype": dtype.name,
        "splits": {},
    }
    sources = sorted(table["source"].unique().to_pylist())
    source_of = np.asarray(table["source"].to_pylist(), dtype=object)
    split_of = np.asarray(table["split"].to_pylist(), dtype=object)
    order_of = table["order"].to_numpy()
    events.begin("packing", len(lengths), "documents")
    for split in SPLITS:
        (out_dir / split).mkdir(exist_ok=True)
        card["splits"][split] = {}
        for source in sources:
            chosen = np.flatnonzero((source_of == source) & (split_of == split))
            # The seeded hash decides; the index (order of the input documents) only settles equal texts.
            chosen = chosen[np.argsort(order_of[chosen], kind="stable")]
            rows, files = _pack(config, tokens, starts, chosen, source, out_dir, split)
            count = int(lengths[chosen].sum())
            card["splits"][split][source] = {
                "documents": len(chosen),
                "files": files,
                "rows": rows,
                "tokens": rows * config.sequence_length,
                "tokens_dropped": count - rows * config.sequence_length,
            }
            events.advance(len(chosen))
    events.flush()
    if not sum(entry["rows"] for entry in card["splits"]["train"].values()):
        raise UserError(
            f"{inputs['decontaminate']}: {int(starts[-1])} tokens do not fill one row of {config.sequence_length}; "
            "add text or set a smaller shards.sequence_length"
        )
    del tokens
    (work / "tokens.bin").unlink()

    index = table.drop_columns(["order"]).append_column("tokens", pa.array(lengths, pa.uint32()))
    pq.write_table(index, out_dir / "documents.parquet", compression="zstd")
    card["documents"] = {"documents": len(lengths), **_file(out_dir, "documents.parquet")}
    (out_dir / "shards.json").write_text(json.dumps(card, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return _metrics(card, text_bytes, int(starts[-1]))


def _metrics(card: dict[str, Any], text_bytes: int, tokens: int) -> dict[str, Any]:
    by_source = {
        source: {
            f"{split}_{key}": card["splits"][split][source][key]
            for split in SPLITS
            for key in ("rows", "tokens", "documents")
        }
        for source in card["splits"]["train"]
    }
    totals = {f"{split}_{key}": sum(entry[key] for entry in card["splits"][split].values())
              for split in SPLITS for key in ("rows", "tokens", "documents", "tokens_dropped")}  # fmt: skip
    return {**totals, "by_source": by_source, "bytes_per_token": round(text_bytes / max(tokens, 1), 4)}


def _load_tokenizer(folder: Path) -> tuple[Tokenizer, int]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    token = settings.get("eos_token")
    token = token["content"] if isinstance(token, dict) else token
    eos = tokenizer.token_to_id(token) if token else None
    if eos is None:
        raise UserError(f"{folder / 'tokenizer_config.json'}: no usable eos_token; name one of the vocabulary")
    # Text of the corpus never becomes a control token: "<|eos|>" in a web page is seven ordinary characters.
    tokenizer.encode_special_tokens = True
    return tokenizer, eos


def _batches(folder: Path) -> Iterator[list[dict[str, str]]]:
    """Batches of `{"id", "text", "source", "url"}`, in the order of the files."""
    batch: list[dict[str, str]] = []
    size = 0
    for file in document_files(folder):
        for record in pq.ParquetFile(file).iter_batches(256, columns=["id", "text", "source", "url"]):
            for row in record.to_pylist():
                batch.append(row)
                size += len(row["text"])
                if size >= BATCH_BYTES:
                    yield batch
                    batch, size = [], 0
    if batch:
        yield batch


def _tokenise(
    config: ShardsConfig, folder: Path, tokenizer: Tokenizer, eos: int, dtype: np.dtype, path: Path
) -> tuple[pa.Table, np.ndarray, int]:
    """Write the tokens of all documents one after another to `path`; return the document table, lengths and bytes."""
    columns: dict[str, list[Any]] = {name: [] for name in ("id", "url", "source", "split", "order")}
    lengths: list[int] = []
    text_bytes = 0
    held_out = int(config.validation_fraction * 2**64)
    total = sum(pq.ParquetFile(file).metadata.num_rows for file in document_files(folder))
    events.begin("tokenising", total, "documents")
    with path.open("wb") as out:
        for batch in _batches(folder):
            encodings = tokenizer.encode_batch_fast([row["text"] for row in batch], add_special_tokens=False)
            for row, encoding in zip(batch, encodings, strict=True):
                ids = np.asarray([*encoding.ids, eos], dtype=dtype)
                out.write(ids.tobytes())
                lengths.append(len(ids))
                text = row["text"].encode()
                text_bytes += len(text)
                split_key, order_key = _keys(text, config.seed)
                columns["split"].append(SPLITS[split_key < held_out])
                columns["order"].append(order_key)
                for name in ("id", "url", "source"):
                    columns[name].append(row[name] or "")
            events.advance(len(batch))
    events.flush()
    if not lengths:
        raise UserError(f"{folder}: no documents to pack; look at what the stages before dropped")
    types = {"id": pa.string(), "url": pa.string(), "source": pa.string(), "split": pa.string(), "order": pa.uint64()}
    table = pa.table(
        {"index": pa.array(range(len(lengths)), pa.uint32())} | {k: pa.array(columns[k], t) for k, t in types.items()}
    )
    return table, np.asarray(lengths, dtype=np.int64), text_bytes


def _keys(text: bytes, seed: int) -> tuple[int, int]:
    """Two independent 64-bit numbers of a text: one chooses the split, one the place in the order."""
    digest = hashlib.blake2b(text, digest_size=16, salt=seed.to_bytes(16, "little", signed=True)).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")


def _pack(
    config: ShardsConfig,
    tokens: np.ndarray,
    starts: np.ndarray,
    chosen: np.ndarray,
    source: str,
    out_dir: Path,
    split: str,
) -> tuple[int, list[dict[str, Any]]]:
    """Write the rows of one source of one split; return how many, and the files."""
    length = config.sequence_length
    bounds = np.concatenate(([0], np.cumsum(starts[chosen + 1] - starts[chosen])))  # in the shuffled stream
    rows = int(bounds[-1]) // length
    schema = pa.schema(
        [
            ("tokens", pa.binary(length * tokens.dtype.itemsize)),
            ("documents", pa.list_(pa.uint32())),
            ("offsets", pa.list_(pa.uint32())),
            ("source", pa.string()),
        ]
    )
    files = []
    for number, first in enumerate(range(0, rows, config.rows_per_file)):
        name = f"{split}/{source}-{number:05d}.parquet"
        last = min(first + config.rows_per_file, rows)
        compression = {"tokens": "none", "documents": "zstd", "offsets": "zstd", "source": "zstd"}
        with pq.ParquetWriter(out_dir / name, schema, compression=compression, use_dictionary=["source"]) as writer:
            for low in range(first, last, ROWS_PER_GROUP):
                high = min(low + ROWS_PER_GROUP, last)
                writer.write_table(_group(schema, length, tokens, starts, chosen, bounds, low, high, source))
        files.append({"rows": last - first, **_file(out_dir, name)})
    return rows, files


def _group(
    schema: pa.Schema,
    length: int,
    tokens: np.ndarray,
    starts: np.ndarray,
    chosen: np.ndarray,
    bounds: np.ndarray,
    low: int,
    high: int,
    source: str,
) -> pa.Table:
    """Rows `low` to `high` of the shuffled stream: document k of it is `chosen[k]`, at `bounds[k]:bounds[k + 1]`."""
    begin, end = low * length, high * length
    first = int(np.searchsorted(bounds, begin, side="right")) - 1
    last = int(np.searchsorted(bounds, end, side="left"))
    pieces = []
    for k in range(first, last):
        shift = starts[chosen[k]] - bounds[k]
        pieces.append(tokens[shift + max(begin, bounds[k]) : shift + min(end, bounds[k + 1])])
    stream = np.concatenate(pieces)
    documents, offsets = [], []
    for row in range(low, high):
        a = int(np.searchsorted(bounds, row * length, side="right")) - 1
        b = int(np.searchsorted(bounds, (row + 1) * length, side="left"))
        documents.append(chosen[a:b])
        offsets.append(np.maximum(bounds[a:b] - row * length, 0))
    width = length * tokens.dtype.itemsize
    data = pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), high - low, [None, pa.py_buffer(stream.tobytes())])
    return pa.table(
        [data, pa.array(documents, schema.field("documents").type), pa.array(offsets, schema.field("offsets").type),
         pa.array([source] * (high - low))],
        schema=schema,
    )  # fmt: skip


def _file(folder: Path, name: str) -> dict[str, Any]:
    path = folder / name
    with path.open("rb") as handle:
        return {"bytes": path.stat().st_size, "name": name, "sha256": hashlib.file_digest(handle, "sha256").hexdigest()}
