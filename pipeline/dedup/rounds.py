"""Connected components and who stays, by rounds on the recipe's executor, for more documents than one process can hold.

Edges lie on disk as sorted runs (`pipeline.dedup.runs`); a task holds a block of them, however many there are and
however many meet in one document. Components are those of Kiveris et al., "Connected Components in MapReduce and
Beyond" (SoCC 2014), algorithm 1: rounds of small-star and large-star until neither changes anything, O(log^2 n) of
them, in practice a handful. Then every document of a cluster has an edge to the first of it.

As long as there are few edges, one process joins them all: rounds cost more than that.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datatrove.pipeline.base import PipelineStep

from pipeline.dedup.clusters import join
from pipeline.dedup.runs import RunWriter, count_rows, forget, groups, is_new, run_files, shares
from pipeline.tasks.documents import run_pipeline

__all__ = ["EDGE", "Limits", "Passes", "Told", "Turn", "components", "edges_of"]

EDGE = ("key", "other")
"""Columns of an edge, int64: it is found by `key`. Before a round, `key` is the larger of the two."""
Turn = Callable[[pa.Table, pa.Table], tuple[pa.Table, bool]]
"""From rows of some keys and the least row of each one's key, the rows to write, and whether anything is new."""


@dataclass(frozen=True)
class Limits:
    """What bounds the memory of a process. No part of any identity: the bytes are the same."""

    block: int = 1_000_000
    """Rows that a task holds at once: some hundred bytes each with their sorting, three times that with names."""
    task: int = 16_000_000
    """Rows that a task goes through."""
    here: int = 1_000_000
    """Edges, or documents, up to which one process does it all: 330 MiB (`bench.joining`; four times as many: 680)."""


@dataclass(frozen=True)
class Told:
    """What came of a pass."""

    rows: int
    changed: bool


class Work(PipelineStep):
    """A step whose tasks write runs, and tell how many rows and whether anything changed."""

    type = "DEDUP"
    name = "clusters"

    def __init__(self, out: Path, order: Sequence[str], limits: Limits) -> None:
        super().__init__()
        self.out, self.order, self.limits = out, tuple(order), limits

    def rows(self, rank: int) -> Iterable[tuple[pa.Table, bool]]:
        """What task `rank` writes, in parts."""
        raise NotImplementedError

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        changed = False
        with RunWriter(self.out, rank, self.order, self.limits.block) as out:
            for table, is_news in self.rows(rank):
                out.add(table)
                changed |= is_news
        (self.out / f"{rank:05d}.json").write_text(json.dumps({"rows": out.rows, "changed": changed}))


class _Taken(Work):
    """Takes rows of its share of the keys out of runs, and writes what a turn makes of them."""

    def __init__(
        self, turn: Turn, inputs: Sequence[Path], order: Sequence[str], out: Path, write: Sequence[str], limits: Limits
    ) -> None:
        super().__init__(out, write, limits)
        self.turn, self.inputs, self.read = turn, tuple(inputs), tuple(order)
        self.shares = shares(self.inputs, limits.task)

    def rows(self, rank: int) -> Iterable[tuple[pa.Table, bool]]:
        found = groups(self.inputs, *self.shares[rank], self.read, self.limits.block)
        return (self.turn(rows, least) for rows, least in found)


@dataclass(frozen=True)
class Passes:
    """Runs passes, each once: what a killed stage has finished is not done again."""

    folder: Path
    limits: Limits = Limits()

    def run(self, name: str, work: Callable[[Path], tuple[Work, int]], *, then_forget: Sequence[Path] = ()) -> Told:
        """Run the tasks of the step that `work` makes for a folder to write to, `<folder>/<name>`."""
        out, done = self.folder / name, self.folder / f"{name}.json"
        if not done.exists():
            step, tasks = work(out)
            run_pipeline([step], tasks, self.folder / "passes", name)
            told = [json.loads((out / f"{rank:05d}.json").read_text()) for rank in range(tasks)]
            found = {"rows": sum(each["rows"] for each in told), "changed": any(each["changed"] for each in told)}
            done.write_text(json.dumps(found))
        for folder in then_forget:
            forget(folder)
        return Told(**json.loads(done.read_text()))

    def take(
        self,
        name: str,
        turn: Turn,
        inputs: Sequence[Path],
        order: Sequence[str],
        write: Sequence[str],
        *,
        then_forget: Sequence[Path] = (),
    ) -> Told:
        """Run a turn over the runs in these folders, read in `order` and written in the order `write`."""

        def work(out: Path) -> tuple[Work, int]:
            step = _Taken(turn, inputs, order, out, write, self.limits)
            return step, len(step.shares)

        return self.run(name, work, then_forget=then_forget)


def edges_of(keys: np.ndarray, others: np.ndarray) -> pa.Table:
    """Edges as a table, those of a document to itself and repeated ones (if they are sorted) left out."""
    table = pa.table([keys.astype(np.int64), others.astype(np.int64)], names=EDGE)
    return table.filter(pa.array((keys != others) & is_new(table, EDGE)))


def components(passes: Passes, inputs: Sequence[Path], name: str) -> Path:
    """Runs with a row for every document of a cluster: `key` is the document, `other` the first of its cluster.

    Args:
        passes: runs the rounds.
        inputs: folders of edges, `key` larger than `other` or, which says nothing, equal.
        name: of the folders to write, which begin with it.
    """
    labels, limits = f"{name}-labels", passes.limits
    edges, rows, number = list(inputs), count_rows(inputs), 0
    read: list[Path] = []
    while rows > limits.here:
        small, large = (passes.folder / f"{name}-{number:02d}-{kind}" for kind in ("small", "large"))
        first = passes.take(small.name, _small_star, edges, EDGE, EDGE, then_forget=read)
        second = passes.take(large.name, _large_star, [small], EDGE, EDGE)
        if not first.changed and not second.changed:
            passes.take(labels, _label, [small], EDGE, EDGE, then_forget=[small, large])
            break
        forget(small)
        edges, read, rows, number = [large], [large], second.rows, number + 1
    else:
        passes.run(labels, partial(_joined, edges, limits), then_forget=read)
    return passes.folder / labels


def _joined(inputs: Sequence[Path], limits: Limits, out: Path) -> tuple[Work, int]:
    return _Joined(inputs, out, EDGE, limits), 1


class _Joined(Work):
    """The same by one process that holds all edges."""

    def __init__(self, inputs: Sequence[Path], out: Path, order: Sequence[str], limits: Limits) -> None:
        super().__init__(out, order, limits)
        self.inputs = tuple(inputs)

    def rows(self, rank: int) -> Iterable[tuple[pa.Table, bool]]:
        batches = [pa.ipc.open_file(str(path)).read_all() for path in run_files(self.inputs)]
        if batches:
            edges = pa.concat_tables(batches)
            found = join(np.stack([edges[column].to_numpy() for column in EDGE], axis=1))
            _, firsts = np.unique(found.labels, return_index=True)
            yield pa.table([found.nodes, found.nodes[firsts][found.labels]], names=EDGE), False


def _columns(rows: pa.Table, least: pa.Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return rows["key"].to_numpy(), rows["other"].to_numpy(), least["other"].to_numpy()


def _small_star(rows: pa.Table, least: pa.Table) -> tuple[pa.Table, bool]:
    """Each document and its smaller neighbours get an edge to the least of these; both ways, for what comes next."""
    keys, others, first = _columns(rows, least)
    ends = np.concatenate((keys, others))
    stars = edges_of(ends, np.concatenate((first, first)))
    back = pa.table([stars["other"], stars["key"]], names=EDGE)
    return pa.concat_tables([stars, back]), bool(np.any(others != first))


def _large_star(rows: pa.Table, least: pa.Table) -> tuple[pa.Table, bool]:
    """The larger neighbours of each document get an edge to the least of all its neighbours and itself."""
    keys, others, first = _columns(rows, least)
    first = np.minimum(first, keys)
    larger = others > keys
    return edges_of(others[larger], first[larger]), bool(np.any(first[larger] != keys[larger]))


def _label(rows: pa.Table, least: pa.Table) -> tuple[pa.Table, bool]:
    """In a forest of stars, whose edges go both ways: each document with the first of its cluster; this with itself."""
    keys, _, first = _columns(rows, least)
    once = pa.array(is_new(rows, EDGE[:1]))
    return pa.table([keys, np.minimum(first, keys)], names=EDGE).filter(once), False
