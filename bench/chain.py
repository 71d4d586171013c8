"""A crawl to token shards twice: the project's stages, and datatrove's blocks with their defaults in the same order.

Both: extraction, URL lists, ftfy, Gopher's repetition and quality rules, C4, FineWeb, PII, MinHash over the result,
tokens. Neither: language identification, whose model datatrove would download.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

__all__ = ["ours", "theirs"]


def tokenizer(folder: Path) -> Path:
    """A small tokenizer in the project's format, made once per process."""
    from pipeline.sections import TokenizerConfig
    from pipeline.tokens.tokenizer import train_tokenizer

    if not folder.exists():
        folder.mkdir(parents=True)
        text = Path(__file__).read_text(encoding="utf-8") * 3
        train_tokenizer(TokenizerConfig(vocabulary=600), iter([text])).save(str(folder / "tokenizer.json"))
        (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|eos|>"}))
    return folder


def ours(crawl: Path, folder: Path) -> int:
    """Run the stages; how many documents are left."""
    from pipeline.clean.section import CleanConfig, CleanRules
    from pipeline.clean.stage import clean
    from pipeline.dedup.section import DedupConfig
    from pipeline.dedup.stage import dedup
    from pipeline.extract import extract
    from pipeline.sections import ExtractConfig, ShardsConfig, WebSource
    from pipeline.tokens.shards import shards

    names = ("extract", "clean", "dedup", "shards")
    out = {name: folder / name for name in names}
    for path in out.values():
        path.mkdir(parents=True)
    sources = {"web": WebSource(paths=(str(crawl),))}
    extract(ExtractConfig(sources=sources, max_failure_rate=1), {}, out["extract"])
    clean(CleanConfig(rules=CleanRules(language=False), max_loss=1), {"extract": out["extract"]}, out["clean"])
    kept = dedup(DedupConfig(), {"clean": out["clean"]}, out["dedup"]).documents_out
    inputs = {"decontaminate": out["dedup"], "tokenizer": tokenizer(folder.parent / "tokenizer")}
    shards(ShardsConfig(sequence_length=512, validation_fraction=0), inputs, out["shards"])
    return int(kept)


def theirs(crawl: Path, folder: Path) -> None:
    """Run datatrove's blocks, each pipeline as one task in this process."""
    from datatrove.executor.local import LocalPipelineExecutor
    from datatrove.pipeline.dedup.minhash import (
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
        MinhashDedupSignature,
    )
    from datatrove.pipeline.extractors import Trafilatura
    from datatrove.pipeline.filters import (
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
        URLFilter,
    )
    from datatrove.pipeline.formatters import FTFYFormatter, PIIFormatter
    from datatrove.pipeline.readers import JsonlReader, WarcReader
    from datatrove.pipeline.tokens import DocumentTokenizer
    from datatrove.pipeline.writers import JsonlWriter
    from loguru import logger

    logger.remove()
    shutil.rmtree(folder, ignore_errors=True)
    path = {name: str(folder / name) for name in ("clean", "signatures", "pairs", "removed", "kept", "tokens")}
    steps: list[tuple[list[Any], int]] = [
        (
            [
                WarcReader(str(crawl.parent), glob_pattern=crawl.name),
                URLFilter(),
                Trafilatura(favour_precision=True),
                FTFYFormatter(),
                GopherRepetitionFilter(),
                GopherQualityFilter(),
                C4QualityFilter(filter_no_terminal_punct=True),
                FineWebQualityFilter(),
                PIIFormatter(),
                JsonlWriter(path["clean"]),
            ],
            1,
        ),
        ([JsonlReader(path["clean"]), MinhashDedupSignature(path["signatures"])], 1),
        ([MinhashDedupBuckets(path["signatures"], path["pairs"])], 14),
        ([MinhashDedupCluster(path["pairs"], path["removed"])], 1),
        ([JsonlReader(path["clean"]), MinhashDedupFilter(path["removed"]), JsonlWriter(path["kept"])], 1),
        (
            [
                JsonlReader(path["kept"]),
                DocumentTokenizer(
                    path["tokens"],
                    tokenizer_name_or_path=str(tokenizer(folder.parent / "tokenizer") / "tokenizer.json"),
                    eos_token="<|eos|>",
                ),
            ],
            1,
        ),
    ]
    for number, (blocks, tasks) in enumerate(steps):
        LocalPipelineExecutor(blocks, tasks=tasks, workers=1, logging_dir=str(folder / "logs" / str(number))).run()
