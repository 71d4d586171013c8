"""Which websites the training documents came from: the addresses in the index of the shards, by registered domain."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

__all__ = ["Domain", "domains"]

HOST = r"(?i)^[a-z][a-z0-9+.-]*://(?:[^/?#@]*@)?(?P<host>\[[^\]/]*\]|[^/?#:@\[]+)"


@dataclass
class Domain:
    """What one domain gave to the training split."""

    name: str
    """As registered, with its public suffix: ``example.co.uk``; the host itself where it has none."""
    documents: int = 0
    tokens: int = 0


def domains(shards: Path, sources: Collection[str]) -> list[Domain]:
    """The domains of the training documents of `sources` that have an address, those with most tokens first.

    The index is read file by file, and counted by host before it becomes Python's: memory grows with the hosts.
    """
    from tldextract import TLDExtract

    registered = TLDExtract(suffix_list_urls=(), cache_dir=None)  # the list in the wheel, no download
    wanted = pa.array(sorted(sources), pa.string())
    found: dict[str, Domain] = {}
    for file in sorted((shards / "index").glob("*.parquet")):
        for host, documents, tokens in _hosts(file, wanted):
            name = registered(host).top_domain_under_public_suffix or host
            domain = found.setdefault(name, Domain(name))
            domain.documents += documents
            domain.tokens += tokens
    return sorted(found.values(), key=lambda domain: (-domain.tokens, domain.name))


def _hosts(file: Path, sources: pa.Array) -> list[tuple[str, int, int]]:
    """Host, documents and tokens of one file of the index."""
    table = pq.read_table(file, columns=["url", "source", "split", "tokens"])
    table = table.filter(pc.and_(pc.equal(table["split"], "train"), pc.is_in(table["source"], sources)))
    hosts = pc.utf8_lower(pc.struct_field(pc.extract_regex(table["url"], HOST), "host"))
    counted = pa.table({"host": hosts, "tokens": table["tokens"]}).filter(pc.is_valid(hosts))
    grouped = counted.group_by("host").aggregate([("tokens", "count"), ("tokens", "sum")])
    return list(zip(*(grouped[name].to_pylist() for name in ("host", "tokens_count", "tokens_sum")), strict=True))
