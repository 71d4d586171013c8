"""Components by rounds against one union-find: the same, whatever the graph, the blocks and the tasks."""

from __future__ import annotations

import itertools
import random
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.execution import ENVIRONMENT_KEY, Execution
from pipeline.dedup.clusters import join
from pipeline.dedup.rounds import EDGE, Limits, Passes, Work, components
from pipeline.dedup.runs import RunWriter, count_rows, groups, run_files, shares

TINY = Limits(block=7, task=25, here=0)
"""Never one process for all; a star of eight is more than a task holds."""


@pytest.fixture(autouse=True)
def _one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT_KEY, Execution(workers=1).model_dump_json())


def _write(folder: Path, edges: np.ndarray, block: int) -> Path:
    with RunWriter(folder, 0, EDGE, block) as out:
        out.add(pa.table([edges.max(axis=1), edges.min(axis=1)], names=EDGE))
    return folder


def _labels(folder: Path) -> dict[int, int]:
    """The first document of each one's cluster; a document may be told of more than once, but not otherwise."""
    found: dict[int, int] = {}
    for path in run_files([folder]):
        for row in pa.ipc.open_file(str(path)).read_all().to_pylist():
            assert found.setdefault(row["key"], row["other"]) == row["other"]
    return found


def _expected(edges: np.ndarray) -> dict[int, int]:
    clusters = join(edges)
    _, firsts = np.unique(clusters.labels, return_index=True)
    return dict(zip(clusters.nodes.tolist(), clusters.nodes[firsts][clusters.labels].tolist(), strict=True))


def _by_rounds(edges: np.ndarray, limits: Limits) -> tuple[dict[int, int], int]:
    with tempfile.TemporaryDirectory() as folder:
        inputs = [_write(Path(folder) / f"edges{part}", edges[part::2], limits.block) for part in range(2)]
        labels = components(Passes(Path(folder) / "work", limits), inputs, "all")
        rounds = len(list((Path(folder) / "work").glob("*-small.json")))
        assert [path.name for path in (Path(folder) / "work").glob("*/*.arrow") if path.parent != labels] == []
        return _labels(labels), rounds


def _chain(length: int, source: random.Random) -> np.ndarray:
    names = source.sample(range(10 * length), length)
    return np.array(list(itertools.pairwise(names)))


def _star(leaves: int, source: random.Random) -> np.ndarray:
    names = source.sample(range(10 * leaves), leaves + 1)
    return np.array([(names[0], leaf) for leaf in names[1:]])


def _random(count: int, source: random.Random) -> np.ndarray:
    return np.array([source.sample(range(count), 2) for _ in range(count // 2)])


@pytest.mark.parametrize("make", [_chain, _star, _random])
@pytest.mark.parametrize("size", [2, 80])
def test_rounds_join_what_one_process_joins(make: object, size: int) -> None:
    edges = make(size, random.Random(size))  # type: ignore[operator]
    found, rounds = _by_rounds(edges, TINY)
    assert found == _expected(edges)
    assert 1 <= rounds <= 12, "the logarithm of the longest chain"


def test_a_chain_in_order_takes_few_rounds() -> None:
    edges = np.stack((np.arange(300), np.arange(1, 301)), axis=1)
    found, rounds = _by_rounds(edges, Limits(block=50, task=200, here=0))
    assert found == dict.fromkeys(range(301), 0)
    assert rounds <= 10


@given(
    st.lists(
        st.tuples(st.integers(0, 12), st.integers(0, 12)).filter(lambda edge: edge[0] != edge[1]),
        min_size=1,
        max_size=25,
    ),
    st.sampled_from([Limits(2, 6, 0), Limits(7, 30, 5), Limits(100, 100, 100)]),
)
@settings(deadline=None, max_examples=12)
def test_any_graph_and_any_limits(pairs: list[tuple[int, int]], limits: Limits) -> None:
    edges = np.array(pairs)
    assert _by_rounds(edges, limits)[0] == _expected(edges)


def test_a_killed_stage_goes_on_with_the_passes_that_are_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edges = _chain(60, random.Random(1))
    inputs = [_write(tmp_path / "edges", edges, TINY.block)]
    passes = Passes(tmp_path / "work", TINY)
    begun: list[str] = []
    run = Passes.run

    def killed(self: Passes, name: str, *rest: object, **named: object) -> object:
        if name.startswith("all-02"):
            raise KeyboardInterrupt
        return run(self, name, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Passes, "run", killed)
    with pytest.raises(KeyboardInterrupt):
        components(passes, inputs, "all")
    monkeypatch.setattr(Passes, "run", run)
    work = Work.run

    def noted(self: Work, *rest: object, **named: object) -> None:
        begun.append(self.out.name)
        work(self, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Work, "run", noted)
    assert _labels(components(passes, inputs, "all")) == _expected(edges)
    assert begun
    assert not [name for name in begun if name.startswith(("all-00", "all-01"))]


def test_a_task_holds_a_block_and_no_more(tmp_path: Path) -> None:
    """One document in half of all edges, and many beside it."""
    source = np.random.default_rng(3)
    keys = np.concatenate((np.full(500, 77), source.integers(0, 1000, 500)))
    with RunWriter(tmp_path, 0, EDGE, 64) as out:
        out.add(pa.table([keys, source.permutation(1000)], names=EDGE))
    assert out.rows == count_rows([tmp_path]) == 1000
    assert all(pa.ipc.open_file(str(path)).read_all().num_rows <= 64 for path in run_files([tmp_path]))
    found: list[tuple[int, int, int]] = []
    for low, high in (ranges := shares([tmp_path], 200)):
        for rows, least in groups([tmp_path], low, high, EDGE, 64):
            assert 0 < rows.num_rows <= 64
            found += zip(rows["key"].to_pylist(), rows["other"].to_pylist(), least["other"].to_pylist(), strict=True)
    assert len(ranges) > 2
    assert len(found) == 1000
    assert [key for key, _, _ in found] == sorted(keys.tolist())
    least_of = {key: min(other for each, other, _ in found if each == key) for key, _, _ in found}
    assert all(least == least_of[key] for key, _, least in found)


def test_digests_with_zeros_at_their_end_are_keys(tmp_path: Path) -> None:
    digests = [bytes([3, 0]) + bytes(14), bytes([3]) + bytes(14) + b"\1", bytes(16), bytes([3, 0]) + bytes(14)]
    with RunWriter(tmp_path, 0, ("key", "node"), 2) as out:
        out.add(pa.table({"key": pa.array(digests, pa.binary(16)), "node": [0, 1, 2, 3]}))
    found = list(groups([tmp_path], None, None, ("key", "node"), 2))
    assert [row for rows, _ in found for row in rows["node"].to_pylist()] == [2, 0, 3, 1]
    assert [row for _, least in found for row in least["node"].to_pylist()] == [2, 0, 0, 1]
