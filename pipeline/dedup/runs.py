"""Sorted runs on disk: what the tasks of one pass write, the tasks of the next read again in the order of a key.

A run is an Arrow file of at most a block of rows, sorted by all columns that its pass names; the first is the key, a
whole number or 16 bytes. A task takes a range of keys out of all runs, a block at a time: how much it holds depends
neither on the rows nor on how they are spread, for the rows of a key that has more than a block come in several blocks.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

__all__ = ["RunWriter", "count_rows", "groups", "is_new", "run_files", "shares"]

Key = Any
"""int, or 16 bytes; numpy leaves zeros at their end away and compares as if they were there."""
SAMPLES = 256
"""Keys of a run that tell where its rows are."""


class RunWriter:
    """Sorts the rows of a task and writes them, a run whenever a block is full, to `<folder>/<rank>-<number>.arrow`."""

    def __init__(self, folder: Path, rank: int, order: Sequence[str], block: int) -> None:
        self.folder, self.rank, self.order, self.block = folder, rank, order, block
        self.rows = 0
        self._held: list[pa.Table] = []
        self._count = self._runs = 0
        folder.mkdir(parents=True, exist_ok=True)
        for stale in folder.glob(f"{rank:05d}-*"):  # of an attempt that was killed
            stale.unlink()

    def add(self, table: pa.Table) -> None:
        """Take rows, of any number and in any order."""
        for begin in range(0, table.num_rows, self.block):
            part = table.slice(begin, self.block)
            if self._count + part.num_rows > self.block:
                self.flush()
            self._held.append(part)
            self._count += part.num_rows

    def flush(self) -> None:
        """Write what is held as a run."""
        if not self._count:
            return
        rows = _sorted(pa.concat_tables(self._held), self.order)
        path = self.folder / f"{self.rank:05d}-{self._runs:05d}.arrow"
        with pa.OSFile(str(path.with_suffix(".partial")), "wb") as sink, pa.ipc.new_file(sink, rows.schema) as out:
            out.write_batch(rows.combine_chunks().to_batches()[0])
        path.with_suffix(".partial").replace(path)
        self.rows += self._count
        self._runs += 1
        self._held, self._count = [], 0

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(self, *error: object) -> None:
        if error[0] is None:
            self.flush()


@dataclass(frozen=True)
class _Span:
    """Rows [start, stop) of a run."""

    path: Path
    start: int
    stop: int

    @property
    def count(self) -> int:
        return self.stop - self.start

    def read(self) -> pa.Table:
        """A copy of the rows, which leaves no file open."""
        rows = _batch(self.path).slice(self.start, self.count)
        return pa.Table.from_batches([rows.take(pa.array(np.arange(self.count)))])

    def middle(self) -> Key:
        return _keys(self.path)[(self.start + self.stop) // 2]

    def cut(self, pivot: Key) -> tuple[_Span, _Span, _Span]:
        """The rows before, at and after a key."""
        keys = _keys(self.path)[self.start : self.stop]
        low, high = (self.start + int(np.searchsorted(keys, pivot, side)) for side in ("left", "right"))
        return (
            _Span(self.path, self.start, low),
            _Span(self.path, low, high),
            _Span(self.path, high, self.stop),
        )


def run_files(folders: Sequence[Path]) -> list[Path]:
    """The runs below these folders."""
    return [path for folder in folders for path in sorted(folder.glob("*.arrow"))]


def count_rows(folders: Sequence[Path]) -> int:
    """How many rows the runs below these folders have."""
    return sum(_batch(path).num_rows for path in run_files(folders))


def shares(folders: Sequence[Path], rows_per_task: int) -> list[tuple[Key | None, Key | None]]:
    """Ranges of keys, from the first (None: from the least) to before the second, that share all rows out evenly."""
    keys, weights = [], []
    for path in run_files(folders):
        found = _keys(path)
        step = max(1, len(found) // SAMPLES)
        keys.append(found[::step])
        weights.append(np.full(len(keys[-1]), step))
    if not keys:
        return [(None, None)]
    samples, weight = np.concatenate(keys), np.concatenate(weights)
    order = np.argsort(samples, kind="stable")
    before = np.cumsum(weight[order])
    tasks = max(1, -(-int(before[-1]) // rows_per_task))
    places = np.searchsorted(before, before[-1] * np.arange(1, tasks) // tasks)
    cuts = np.unique(samples[order][places]).tolist()
    return list(zip([None, *cuts], [*cuts, None], strict=True))


def groups(
    folders: Sequence[Path], low: Key | None, high: Key | None, order: Sequence[str], block: int
) -> Iterator[tuple[pa.Table, pa.Table]]:
    """The rows whose keys are in [low, high), and for each the least row (by `order`) of its key.

    Rows come sorted, in blocks. The rows of a key come together unless there are more than a block of them.
    """
    spans = []
    for path in run_files(folders):
        keys = _keys(path)
        start = 0 if low is None else int(np.searchsorted(keys, low))
        stop = len(keys) if high is None else int(np.searchsorted(keys, high))
        spans.append(_Span(path, start, stop))
    for part in _blocks(spans, block):
        if sum(span.count for span in part) <= block:
            rows = _sorted(pa.concat_tables([span.read() for span in part]), order)
            firsts = np.flatnonzero(is_new(rows, order[:1]))
            yield rows, rows.take(pa.array(firsts[np.cumsum(is_new(rows, order[:1])) - 1]))
            continue
        heads = [_Span(span.path, span.start, span.start + 1).read() for span in part]
        least = _sorted(pa.concat_tables(heads), order)
        for span in part:
            for begin in range(span.start, span.stop, block):
                rows = _Span(span.path, begin, min(begin + block, span.stop)).read()
                yield rows, least.take(pa.array(np.zeros(rows.num_rows, dtype=np.int64)))


def is_new(rows: pa.Table, columns: Sequence[str]) -> np.ndarray:
    """Which rows differ in one of these columns from the row before; the first does."""
    found = np.zeros(rows.num_rows, dtype=bool)
    found[:1] = True
    for name in columns:
        values = _values(rows[name].combine_chunks())
        found[1:] |= values[1:] != values[:-1]
    return found


def _blocks(spans: Sequence[_Span], block: int) -> Iterator[list[_Span]]:
    """Rows by ranges of keys in order, each of at most a block unless it is of a single key.

    Between two of the cuts there are a block at most, but for a key that has very many rows.
    """
    for part in _cells([span for span in spans if span.count], block):
        yield from _halves(part, block)


def _cells(spans: Sequence[_Span], block: int) -> Iterator[list[_Span]]:
    """Rows between cuts: each half a block, give or take what lies between two samples of every run, another half."""
    if not spans:
        return
    step = max(1, block // (2 * len(spans)))
    samples = np.sort(np.concatenate([_keys(span.path)[span.start : span.stop : step].copy() for span in spans]))
    cuts = np.unique(samples[:: max(1, block // (2 * step))])[1:]
    places = [span.start + np.searchsorted(_keys(span.path)[span.start : span.stop], cuts) for span in spans]
    bounds = [[span.start, *place.tolist(), span.stop] for span, place in zip(spans, places, strict=True)]
    for number in range(len(cuts) + 1):
        yield [_Span(span.path, *bound[number : number + 2]) for span, bound in zip(spans, bounds, strict=True)]


def _halves(spans: Sequence[_Span], block: int) -> Iterator[list[_Span]]:
    """Rows halved until they are a block or of a single key."""
    spans = [span for span in spans if span.count]
    if sum(span.count for span in spans) <= block:
        if spans:
            yield list(spans)
        return
    cuts = [span.cut(_pivot(spans)) for span in spans]
    left, here, right = ([cut[side] for cut in cuts] for side in range(3))
    yield from _halves(left, block)
    yield [span for span in here if span.count]
    yield from _halves(right, block)


def _pivot(spans: Sequence[_Span]) -> Key:
    """A key with at least a quarter of the rows on either side, itself counted in: the median of the runs' medians."""
    middles = np.array([span.middle() for span in spans])
    order = np.argsort(middles, kind="stable")
    before = np.cumsum([spans[place].count for place in order])
    return middles[order[int(np.searchsorted(before, before[-1] / 2))]]


def _batch(path: Path) -> pa.RecordBatch:
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).get_batch(0)


def _keys(path: Path) -> np.ndarray:
    return _values(_batch(path).column(0))


def _values(array: pa.Array) -> np.ndarray:
    if pa.types.is_fixed_size_binary(array.type):
        width = array.type.byte_width
        data = np.frombuffer(array.buffers()[1], dtype=f"S{width}")
        return data[array.offset : array.offset + len(array)]
    found: np.ndarray = array.to_numpy(zero_copy_only=True)
    return found


def _sorted(rows: pa.Table, order: Sequence[str]) -> pa.Table:
    return rows.sort_by([(name, "ascending") for name in order])


def forget(folder: Path) -> None:
    """Remove runs that every later pass can do without."""
    shutil.rmtree(folder, ignore_errors=True)
