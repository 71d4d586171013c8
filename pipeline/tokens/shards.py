"""Token shards: documents become rows of fixed length in Parquet files that any Parquet reader opens.

A document is its tokens and one end-of-sequence token. Documents are put in an order that a seed and their own text
decide, all of a source or those of each file (`mixed_within`), held-out ones apart, then cut into rows of
`sequence_length` tokens without padding: a document may straddle rows, and no row mixes sources, so that mixture
weights can be chosen when reading. What is left at the end of a source, less than one row, is dropped and counted.

    train/<source>-00000.parquet, validation/<source>-00000.parquet
        tokens     fixed_size_binary: little-endian uint16 or uint32, by vocabulary
        checksum   uint64: XXH3 of the row's bytes
        documents  list<uint64>: for each document in the row, its index
        offsets    list<uint32>: where in the row each of them starts
        source     string
    index/00000.parquet ...   id, url, source, split, tokens; rows counted through the files are the documents' indices,
                              or with `mixed_within: file` counted from the `first` that shards.json has for each
    shards.json               what is there, with a checksum of every file
    README.md                 the dataset card: what is there, for people and for Hugging Face `datasets`

Two rounds of tasks, `pipeline.tokens.tokenise` and `pipeline.tokens.packing`: neither holds more than a file's worth of
anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow.parquet as pq

from infra import events
from infra.errors import UserError
from infra.execution import execution
from infra.hashing import file_digest
from infra.integrity import plain_files
from infra.manifest import LOGS, MANIFEST
from pipeline.sections import ShardsConfig
from pipeline.tasks.documents import DocumentReader, document_files, read_file, run_pipeline, sources_of
from pipeline.tasks.ledger import Ledger
from pipeline.tasks.losses import Losses
from pipeline.tasks.task_parts import TaskParts, digests_of, parts_of_files
from pipeline.tokens.card import CARD, DocumentIndex, IndexFile, ShardFile, ShardsCard, SourceShare
from pipeline.tokens.encoder import Encoder
from pipeline.tokens.metrics import ShardMetrics, SourceShards
from pipeline.tokens.packing import ROWS_PER_GROUP, Pack, PackTask, Tokenised, plan
from pipeline.tokens.shard_card import write_readme
from pipeline.tokens.tokenise import OUTPUTS, SPLITS, Tokenise, held_out_below, token_dtype

__all__ = ["shards"]

REMEDY = "it fills too few rows: give {source} more text, join it to another source, or lower shards.sequence_length"
MOST_DOCUMENTS = 1 << 24
"""In one file, where documents are mixed by file: of an index below 2^63 the rest is the file's."""
FEW = 20_000
"""Documents up to which one process is done sooner than others start, and are looked through for small sources."""
SAMPLE_FILES, SAMPLE_DOCUMENTS, SAMPLE_CHARACTERS = 16, 8, 4000
"""Files, documents of each, and characters of each of those, on which the fast encoder is compared with the plain."""


def shards(config: ShardsConfig, inputs: Mapping[str, Path], out_dir: Path) -> ShardMetrics:
    """Tokenise `inputs["decontaminate"]` with `inputs["tokenizer"]` and pack it.

    Raises:
        UserError: no document, or too little text for one training row; the tokenizer lacks a token that is needed.
    """
    documents, folder, work = inputs["decontaminate"], inputs["tokenizer"], out_dir / ".work"
    files = document_files(documents)
    rows = [pq.read_metadata(file).num_rows for file in files]
    if not sum(rows):
        raise UserError(f"{documents}: no documents to pack; look at what the stages before dropped")
    encoder = Encoder(folder)
    dtype = token_dtype(encoder.vocabulary)
    plain = not encoder.agrees(_sample(files))
    if plain:
        events.note("the fast encoder differs from the tokenizers library on this text: the library does all of it")

    events.begin("tokenising", sum(rows), "documents")
    here: Literal[1] | None = 1 if sum(rows) <= FEW else None
    threads = execution().processes if here else max(1, execution().processes // len(files))
    held_out = held_out_below(config, chain.from_iterable(map(read_file, files)) if here else None)
    steps: list[Any] = [DocumentReader(documents), Tokenise(config, folder, out_dir, threads, plain, held_out)]
    parts = _parts(config, documents, folder, files, plain, held_out, out_dir)
    run_pipeline(steps, len(files), work, "tokenising", processes=here, parts=parts)
    tokenised = Tokenised.read(work, _firsts(documents, files) if config.mixed_within == "file" else None)
    tasks, totals = plan(tokenised, config.sequence_length, config.rows_per_file)
    if not any(task.split == "train" for task in tasks):
        raise UserError(
            f"{documents}: {tokenised.tokens} tokens do not fill one row of {config.sequence_length}; "
            "add text or set a smaller shards.sequence_length"
        )
    events.begin("packing", sum(task.rows[1] - task.rows[0] for task in tasks), "rows")
    steps = [Pack(tokenised, tasks, config.sequence_length, dtype, out_dir)]
    packed = _packed(parts, tasks, tokenised, config.sequence_length, dtype) if parts else None
    run_pipeline(steps, len(tasks), work, "packing", processes=here, parts=packed)

    card = ShardsCard(
        sequence_length=config.sequence_length,
        vocabulary=encoder.vocabulary,
        eos=encoder.eos,
        dtype=dtype.name,
        rows_per_group=ROWS_PER_GROUP,
        splits=_splits(config, tokenised, totals, work),
        documents=_index(tokenised, out_dir),
        text_bytes=tokenised.text_bytes,
    )
    (out_dir / CARD).write_bytes(card.written())
    write_readme(card, tokenised, out_dir)
    metrics = _metrics(card, tokenised, encoder, dtype)
    Losses("shards", config, REMEDY).judge(Ledger(accounts=dict(metrics.by_source)))
    return metrics


def _parts(
    config: ShardsConfig,
    documents: Path,
    tokenizer: Path,
    files: list[Path],
    plain: bool,
    held_out: Mapping[str, int],
    out_dir: Path,
) -> TaskParts | None:
    """What the tokens of a file follow from: its documents, the tokenizer, and what is held out of its sources."""
    settings = config.model_dump(mode="json", include={"validation_fraction", "seed", "fim_rate", "fim_sources"})
    names = [tokenizer / name for name in plain_files(tokenizer, skip=(LOGS, MANIFEST))]
    parts = parts_of_files(out_dir, documents, files, OUTPUTS, settings, plain, digests_of(tokenizer, names))
    if parts is None:
        return None
    return parts.also_from([{name: held_out.get(name) for name in sources_of(file) or held_out} for file in files])


def _firsts(documents: Path, files: list[Path]) -> list[int]:
    """An index for the first document of each file that no other file has a say in, so that it stays when there are
    more: out of the file's digest, with room for `MOST_DOCUMENTS` behind it."""
    taken: set[int] = set()
    firsts = []
    for file, digest in zip(files, digests_of(documents, files), strict=True):
        if pq.read_metadata(file).num_rows > MOST_DOCUMENTS:
            raise UserError(f"{file}: more than {MOST_DOCUMENTS} documents; lower extract.split_bytes")
        first = (int(digest[:10], 16) >> 1) * MOST_DOCUMENTS
        while first in taken and pq.read_metadata(file).num_rows:  # one chance in a million for a thousand files
            first = (first + MOST_DOCUMENTS) % (1 << 63)
        taken.add(first)
        firsts.append(first)
    return firsts


def _packed(
    parts: TaskParts, tasks: list[PackTask], tokenised: Tokenised, length: int, dtype: np.dtype
) -> TaskParts | None:
    """What a file of rows follows from where documents are mixed by file: the tokens of some files."""
    if not tokenised.by_file:
        return None
    follows_from = [
        [length, dtype.name, task.split, task.source, task.number, task.rows, task.skipped]
        + [[parts.key("tokenising", number), tokenised.firsts[number]] for number in range(*task.among)]
        for task in tasks
    ]
    outputs = {"rows": [task.name for task in tasks], "entry": ".work/packed/{:05d}.json"}
    return TaskParts(parts.out_dir, outputs, follows_from)


def _sample(files: list[Path]) -> Iterator[str]:
    """The beginnings of some documents of some files."""
    for file in files[:: -(-len(files) // SAMPLE_FILES)]:
        for document in islice(read_file(file), SAMPLE_DOCUMENTS):
            yield document.text[:SAMPLE_CHARACTERS]


def _splits(
    config: ShardsConfig, tokenised: Tokenised, totals: Mapping[tuple[str, str], tuple[int, int]], work: Path
) -> dict[str, dict[str, SourceShare]]:
    packed = [ShardFile.model_validate_json(file.read_bytes()) for file in sorted((work / "packed").glob("*.json"))]
    splits: dict[str, dict[str, SourceShare]] = {split: {} for split in SPLITS}
    for (split, source), (documents, tokens) in sorted(totals.items()):
        mine = [file for file in packed if file.name.rpartition("-")[0] == f"{split}/{source}"]
        rows = sum(file.rows for file in mine)
        splits[split][source] = SourceShare(
            documents=documents,
            files=mine,
            rows=rows,
            tokens=rows * config.sequence_length,
            tokens_dropped=tokens - rows * config.sequence_length,
        )
    return splits


def _index(tokenised: Tokenised, out_dir: Path) -> DocumentIndex:
    files = [
        IndexFile(
            name=f"index/{number:05d}.parquet",
            rows=task.documents,
            bytes=(path := out_dir / "index" / f"{number:05d}.parquet").stat().st_size,
            sha256=file_digest(path),
            first=tokenised.firsts[number] if tokenised.by_file else None,
        )
        for number, task in enumerate(tokenised.tasks)
    ]
    return DocumentIndex(documents=tokenised.documents, files=files)


def _metrics(card: ShardsCard, tokenised: Tokenised, encoder: Encoder, dtype: np.dtype) -> ShardMetrics:
    by_source: dict[str, SourceShards] = {source: SourceShards() for source in card.splits["train"]}
    for source, account in by_source.items():
        for split in SPLITS:
            entry = card.splits[split][source]
            left = characters = tokenised.characters(split, source)
            if entry.rows:
                rest = tokenised.last(split, source, entry.tokens_dropped, dtype)
                left = min(len(encoder.tokenizer.decode(rest.tolist())), characters)
            account.count(
                split,
                documents=entry.documents,
                rows=entry.rows,
                tokens=entry.tokens,
                characters=characters,
                left=left,
            )
    totals = {f"{split}_{key}": sum(getattr(entry, key) for entry in card.splits[split].values())
              for split in SPLITS for key in ("rows", "tokens", "documents", "tokens_dropped")}  # fmt: skip
    counts = Ledger(accounts=dict(by_source)).metrics()
    return ShardMetrics(
        **counts.model_dump(exclude={"by_source", "bytes_in", "bytes_out"}),
        by_source=by_source,
        **totals,
        bytes_per_token=round(card.text_bytes / max(tokenised.tokens, 1), 4),
    )
