"""Clusters against plain set arithmetic: no order of edges, files or documents matters."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.dedup import clusters
from pipeline.dedup.clusters import KEYS, KeyFiles, join, near_edges, same
from tests.examples import examples

EDGES = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)).filter(lambda edge: edge[0] != edge[1]), max_size=40)


def _groups(edges: list[tuple[int, int]]) -> set[frozenset[int]]:
    """Slow and plain: spread the reachable sets until nothing changes."""
    reached = {node: {node} for edge in edges for node in edge}
    for _ in edges:
        for a, b in edges:
            both = reached[a] | reached[b]
            for node in both:
                reached[node] = both
    return {frozenset(group) for group in reached.values()}


def _array(edges: list[tuple[int, int]]) -> np.ndarray:
    return np.array(edges, dtype=np.int64).reshape(-1, 2)


def _found(found: clusters.Clusters) -> set[frozenset[int]]:
    labels = found.labels.tolist()
    nodes = found.nodes.tolist()
    return {frozenset(node for node, each in zip(nodes, labels, strict=True) if each == label) for label in labels}


@given(EDGES, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_components_are_those_of_set_arithmetic_in_any_order(
    edges: list[tuple[int, int]], source: random.Random
) -> None:
    shuffled = [edge[::-1] if source.random() < 0.5 else edge for edge in source.sample(edges, len(edges))]
    found = join(_array(shuffled))
    assert _found(found) == _groups(edges)
    assert found.nodes.tolist() == sorted({node for edge in edges for node in edge})
    star = found.star()
    assert _found(join(star)) == _groups(edges), "the star says as much"
    assert len(star) == len(found.nodes) - len(_groups(edges))


def _keys(folder: Path, files: list[list[tuple[str, str, int]]]) -> KeyFiles:
    for number, rows in enumerate(files):
        names, sources, words = zip(*rows, strict=True) if rows else ((), (), ())
        digests = [bytes([word]) * 16 for word in words]
        ranks = [int(source != "b") for source in sources]
        columns = [list(names), list(sources), ranks, digests, digests]
        pq.write_table(pa.table(columns, schema=KEYS), folder / f"{number:05d}.parquet")
    return KeyFiles(folder)


@given(
    st.lists(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 5)), max_size=8), min_size=1, max_size=4),
    st.sampled_from([2, 5, 100]),
)
@settings(deadline=None, max_examples=examples(40))
def test_equal_digests_are_joined_and_the_least_key_stays(files: list[list[tuple[str, int]]], block: int) -> None:
    rows = [
        [(f"{word}-{number}-{row}", source, word) for row, (source, word) in enumerate(file)]
        for number, file in enumerate(files)
    ]
    flat = [each for file in rows for each in file]
    expected = {
        min(group, key=lambda each: (each[1] != "b", each[1], each[0]))
        for word in range(6)
        if len(group := [each for each in flat if each[2] == word]) > 1
    }
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(clusters, "BLOCK", block)
        keys = _keys(Path(folder), rows)
        found = join(same(keys, "words"))
        nodes, names = found.winners(keys)
    assert {flat[node] for node in nodes} == expected
    assert sorted(names) == sorted((source, name) for name, source, _ in expected)


def test_pairs_of_all_bands_are_read(tmp_path: Path) -> None:
    begins = np.array([0, 10, 20])
    for number, pairs in enumerate(([(0, 1, 1, 1)], [(0, 1, 0, 2), (1, 5, 1, 6)], [])):
        np.array(pairs, dtype="<u4").tofile(tmp_path / f"{number:05d}.dups")
    assert _found(join(near_edges(tmp_path, begins))) == {frozenset({1, 2, 11}), frozenset({15, 16})}
