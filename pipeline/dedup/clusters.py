"""Which documents are copies of which, and which of each cluster stays.

A node is a document by its number, files in order and documents in their files. The edges of a cluster may come in any
order and number; the document that stays is the one with the least key (rank, source, id), which says
nothing of files, workers or order. Memory is some bytes for each document that has a copy, and a block of digests.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.dedup.section import DedupConfig
from pipeline.tasks.profiles import profile_of

__all__ = ["Clusters", "KeyFiles", "join", "near_edges", "near_nodes", "rank_of", "same"]

BLOCK = 4_000_000
"""Documents whose digests are compared at once; there are as many passes over the digests as it takes."""
KEYS = pa.schema(
    [
        *(("id", pa.string()), ("source", pa.string()), ("rank", pa.uint32())),
        *(("characters", pa.binary(16)), ("words", pa.binary(16))),
    ]
)
"""A row per document: its id, its source and rank, the digest of its text, and that of its folded words."""


def rank_of(config: DedupConfig, metadata: Mapping[str, Any]) -> int:
    """Where a document stands among those that may stay: the sources that are named first, then by profile."""
    source, profile = metadata["source"], profile_of(metadata)
    if source in config.precedence:
        return config.precedence.index(source)
    order = config.precedence_by_profile
    return len(config.precedence) + (order.index(profile) if profile in order else len(order))


class KeyFiles:
    """The keys of all documents, a Parquet file per task."""

    def __init__(self, folder: Path) -> None:
        self.files = sorted(folder.glob("*.parquet"))
        counts = [pq.read_metadata(file).num_rows for file in self.files]
        self.begins = np.concatenate(([0], np.cumsum(counts, dtype=np.int64)))
        """Number of the first document of each file, and after the last."""

    def column(self, number: int, name: str) -> Any:
        """A column of one file."""
        return pq.read_table(self.files[number], columns=[name])[name].combine_chunks()

    def named(self, number: int) -> pa.Table:
        """What decides who stays, of the documents of one file."""
        return pq.read_table(self.files[number], columns=["rank", "source", "id"]).combine_chunks()

    def split(self, nodes: np.ndarray) -> Iterator[tuple[int, slice]]:
        """For each file, where its documents are among the sorted `nodes`."""
        cuts = np.searchsorted(nodes, self.begins)
        for number in range(len(self.files)):
            yield number, slice(int(cuts[number]), int(cuts[number + 1]))


@dataclass(frozen=True)
class Clusters:
    """Documents that have copies."""

    nodes: np.ndarray
    """int64, sorted."""
    labels: np.ndarray
    """Cluster of each, from 0."""

    def star(self) -> np.ndarray:
        """The edges [E, 2] from the first document of each cluster to its others: as good as all edges were."""
        _, firsts = np.unique(self.labels, return_index=True)
        edges = np.stack((self.nodes[firsts][self.labels], self.nodes), axis=1)
        return edges[edges[:, 0] != edges[:, 1]]

    def winners(self, keys: KeyFiles) -> tuple[np.ndarray, list[tuple[str, str]]]:
        """The node [C] that stays of each cluster, with its source and id."""
        count = int(self.labels.max(initial=-1)) + 1
        best: list[tuple[int, str, str, int] | None] = [None] * count
        for number, where in keys.split(self.nodes):
            if where.start == where.stop:
                continue
            rows = pa.array(self.nodes[where] - keys.begins[number])
            columns = (keys.column(number, name).take(rows).to_pylist() for name in ("rank", "source", "id"))
            entries = zip(self.labels[where].tolist(), *columns, self.nodes[where].tolist(), strict=True)
            for label, *least in entries:
                key = tuple(least)
                if (held := best[label]) is None or key < held:
                    best[label] = key
        found = [key for key in best if key is not None]
        assert len(found) == count, "every cluster has a document"
        winners = np.array([key[3] for key in found], dtype=np.int64)
        return winners, [(key[1], key[2]) for key in found]


def join(edges: np.ndarray) -> Clusters:
    """The connected components of a graph."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not len(edges):
        return Clusters(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int32))
    nodes, places = np.unique(edges, return_inverse=True)
    ends = places.reshape(-1, 2)
    shape = (len(nodes), len(nodes))
    graph = coo_array((np.ones(len(ends), dtype=bool), (ends[:, 0], ends[:, 1])), shape=shape)
    _, labels = connected_components(graph, directed=False)
    return Clusters(nodes, labels)


def near_edges(folder: Path, begins: np.ndarray) -> np.ndarray:
    """The pairs [E, 2] that the MinHash stage has written, as no more edges than their clusters need."""
    edges = np.empty((0, 2), dtype=np.int64)
    for file in sorted(folder.glob("*.dups")):
        edges = join(np.concatenate((edges, near_nodes(file, begins)))).star()
    return edges


def near_nodes(file: Path, begins: np.ndarray, first: int = 0, count: int = -1) -> np.ndarray:
    """Pairs [E, 2] of one file that the MinHash stage has written, `count` of them from the one numbered `first`."""
    pairs = np.fromfile(file, "<u4", 4 * count if count >= 0 else -1, offset=16 * first).reshape(-1, 4).astype(np.int64)
    return np.stack((begins[pairs[:, 0]] + pairs[:, 1], begins[pairs[:, 2]] + pairs[:, 3]), axis=1)


def same(keys: KeyFiles, digest: str) -> np.ndarray:
    """Edges [E, 2] between documents whose column `digest` is the same, each to the first of them."""
    blocks = max(1, -(-int(keys.begins[-1]) // BLOCK))
    found = [np.empty((0, 2), dtype=np.int64)]
    for block in range(blocks):
        digests, nodes = [], []
        for number in range(len(keys.files)):
            words = np.frombuffer(keys.column(number, digest).buffers()[1], dtype="<u8").reshape(-1, 2)
            rows = np.flatnonzero(words[:, 0] % blocks == block)
            digests.append(words[rows])
            nodes.append(rows + keys.begins[number])
        words, numbers = np.concatenate(digests), np.concatenate(nodes)
        order = np.lexsort((numbers, words[:, 1], words[:, 0]))
        words, numbers = words[order], numbers[order]
        is_new = np.concatenate(([True], np.any(words[1:] != words[:-1], axis=1)))
        firsts = numbers[np.flatnonzero(is_new)][np.cumsum(is_new) - 1] if len(numbers) else numbers
        edges = np.stack((firsts, numbers), axis=1)
        found.append(edges[edges[:, 0] != edges[:, 1]])
    return np.concatenate(found)
