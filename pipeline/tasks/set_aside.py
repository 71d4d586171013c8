"""Looks into what a stage of documents set aside: whole documents that it rejected, and what it cut out of others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from pipeline.tasks.documents import Document, document_files

__all__ = ["KINDS", "set_aside"]

KINDS = ("rejects", "cuts")


def set_aside(artifact: Path, kind: str, rule: str = "", source: str = "") -> Iterator[Document]:
    """The `rejects` or `cuts` of an artifact by rules that begin with `rule`, of one source or all, in order.

    `metadata["rule"]` says which rule; the text of a cut is what was cut out.
    """
    import pyarrow.compute as pc
    import pyarrow.dataset as ds

    files = document_files(artifact, kind)
    if not files:
        return
    wanted = pc.starts_with(pc.field("rule"), rule)
    if source:
        wanted = wanted & (pc.field("source") == source)
    for batch in ds.dataset([str(file) for file in files]).to_batches(filter=wanted, batch_size=64, batch_readahead=1):
        for row in batch.to_pylist():
            metadata = json.loads(row["metadata"] or "{}")
            metadata |= {name: row[name] for name in ("source", "url", "rule")}
            yield Document(text=row["text"], id=row["id"], metadata=metadata)
