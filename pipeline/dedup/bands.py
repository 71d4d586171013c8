"""The kept index of MinHash bands: new documents are compared with all that came before, which are not read again.

The index is a few runs, each the signatures of some files of documents, sorted in a file per bucket, with the pairs
found when the run was made: among its own documents, and between these and the runs before it. A night's new files
become a run. It takes in the runs before it that are at most `GROWTH` times as large, merged range by range and not
sorted anew, so that there are as many runs as the logarithm of the corpus, and a signature is written again as often.
In the larger ones each new signature is sought, by bisection of the sorted first hashes.

What the index covers is said by the keys of kept parts (`infra.kept_parts`): it is taken up where all the files that it
covers are there, whatever their order now is. The pairs of all runs, in today's numbers, join the same documents as
those of `FastMinhashBuckets`, whose files they are written as.
"""

from __future__ import annotations

import contextlib
import shutil
import uuid
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.dedup.minhash import MinhashConfig
from pydantic import Field

from infra.facts import Facts
from infra.hashing import digest
from infra.kept_parts import KeptParts
from pipeline.dedup.minhash import RANGE_RECORDS, in_order, record_dtype

__all__ = ["BandIndex", "KeptBands", "PairBands"]

GROWTH = 2
"""Times as large as the new signatures that a run may be which is merged with them."""
INDEX = "index.json"
Edges = np.ndarray
"""uint32 [E, 4]: file and row of a document, file and row of another that shares a band."""


class Run(Facts):
    """One run of the index."""

    own: list[str]
    """Keys of the files whose signatures it has."""
    onto: list[str]
    """Keys of the files that were in the runs before it, with which it was compared."""

    @property
    def names(self) -> list[str]:
        """The files by the numbers that its records and pairs have for them."""
        return [*self.own, *self.onto]

    @property
    def follows_from(self) -> list[Any]:
        """As a kept part."""
        return ["bands", self.own, self.onto]


class BandIndex(Facts):
    """Which runs there are, in the order they were made."""

    files: list[str]
    """Keys of all files of documents there are today, in order."""
    runs: list[Run] = Field(default_factory=list)

    @property
    def new(self) -> list[int]:
        """Numbers of the files that no run has."""
        covered = {key for run in self.runs for key in run.own}
        return [number for number, key in enumerate(self.files) if key not in covered]


class KeptBands:
    """The index as one run of the stage finds it and leaves it; `folder` is in the stage's `.work`."""

    def __init__(self, parts: KeptParts, folder: Path, files: Sequence[str], buckets: int) -> None:
        self.parts, self.folder, self.buckets = parts, folder, buckets
        chosen = folder / INDEX  # of an attempt that was killed, whose results are of this choice
        self.index = BandIndex.model_validate_json(chosen.read_bytes()) if chosen.exists() else self._choose(files)

    def _choose(self, files: Sequence[str]) -> BandIndex:
        """The kept index that covers most of the files, and none that is not there; its runs are linked to `folder`."""
        known, found = set(files), []
        for path in self.parts.folder.glob(f"bands-*/{INDEX}"):
            with contextlib.suppress(FileNotFoundError, ValueError):
                index = BandIndex.model_validate_json(path.read_bytes())
                if known.issuperset(index.files):
                    found.append((len(index.files), path, index))
        for _, path, index in sorted(found, key=lambda each: each[:2], reverse=True):
            if all(self.parts.take(run.follows_from, self._files(place)) for place, run in enumerate(index.runs)):
                return self._chosen(BandIndex(files=list(files), runs=index.runs))
            shutil.rmtree(path.parent, ignore_errors=True)
        return self._chosen(BandIndex(files=list(files)))

    def _chosen(self, index: BandIndex) -> BandIndex:
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.folder / f".{INDEX}"
        partial.write_text(index.model_dump_json())
        partial.replace(self.folder / INDEX)
        return index

    def _files(self, run: int | str) -> dict[str, Path]:
        names = (name.format(bucket) for bucket in range(self.buckets) for name in PairBands.NAMES)
        return {name: self.folder / str(run) / name for name in names}

    @property
    def covered(self) -> set[int]:
        """Numbers of the files whose signatures are not needed any more."""
        return set(range(len(self.index.files))) - set(self.index.new)

    def pairing(self, signatures: Path, pairs: Path, config: MinhashConfig) -> PairBands:
        """The step that makes the new run, a task per bucket, once the new signatures are there."""
        new = sum((signatures / "bucket_000" / f"{each:05d}.minhash.sig").stat().st_size for each in self.index.new)
        total = new // record_dtype(config).itemsize
        kept = len(self.index.runs)
        while total and kept:
            records = (self.folder / str(kept - 1) / PairBands.NAMES[0].format(0)).stat().st_size // 8
            if records > GROWTH * total:
                break
            total, kept = total + records, kept - 1
        return PairBands(self.folder, self.index, kept, signatures, pairs, config)

    def keep(self, step: PairBands) -> None:
        """Keep the new run and the index with it, in place of the one that was found."""
        if not self.index.new:
            return
        self.parts.keep(step.made.follows_from, self._files("made"))
        index = BandIndex(files=self.index.files, runs=[*self.index.runs[: step.kept], step.made])
        folder = self.parts.folder / f"bands-{digest([self.parts.key(run.follows_from) for run in index.runs])[:24]}"
        partial = folder.with_name(f".{folder.name}-{uuid.uuid4().hex}")
        partial.mkdir(parents=True)
        (partial / INDEX).write_text(index.model_dump_json())
        with contextlib.suppress(OSError):  # another run has kept it
            partial.rename(folder)
        shutil.rmtree(partial, ignore_errors=True)
        self._drop_older(folder, index)

    def _drop_older(self, folder: Path, index: BandIndex) -> None:
        """Delete the indices that this one goes beyond, and the runs that it has merged."""
        known = set(index.files)
        wanted = {self.parts.key(run.follows_from) for run in index.runs}
        for path in self.parts.folder.glob(f"bands-*/{INDEX}"):
            with contextlib.suppress(FileNotFoundError, ValueError):
                older = BandIndex.model_validate_json(path.read_bytes())
                if path.parent != folder and known.issuperset(older.files):
                    shutil.rmtree(path.parent, ignore_errors=True)
                    for run in older.runs:
                        if (key := self.parts.key(run.follows_from)) not in wanted:
                            shutil.rmtree(self.parts.folder / key, ignore_errors=True)


class _Table:
    """One bucket of a run."""

    def __init__(self, folder: Path, bucket: int, dtype: np.dtype) -> None:
        first, records, edges = (folder / name.format(bucket) for name in PairBands.NAMES)
        self.first = np.fromfile(first, dtype="<u8") if not first.stat().st_size else np.memmap(first, "<u8", "r")
        self.records = np.empty(0, dtype) if not records.stat().st_size else np.memmap(records, dtype, "r")
        self.edges: Edges = np.fromfile(edges, dtype="<u4").reshape(-1, 4)

    def find(self, wanted: np.ndarray, hashes: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """For the records (no two of the same hashes) that one here equals: their places, and the places of those."""
        low = np.searchsorted(self.first, wanted["h0"], side="left")
        high = np.searchsorted(self.first, wanted["h0"], side="right")
        mine, here = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
        left = np.flatnonzero(low < high)
        while len(left):  # once, but where the first hash is the same and another is not
            candidates = self.records[low[left]]
            equal = np.ones(len(left), dtype=np.bool_)
            for name in hashes:
                equal &= candidates[name] == wanted[name][left]
            mine.append(left[equal])
            here.append(low[left[equal]])
            left = left[~equal]
            low[left] += 1
            left = left[low[left] < high[left]]
        return np.concatenate(mine), np.concatenate(here)


class PairBands(PipelineStep):
    """Makes one bucket of the new run, and writes the pairs of all runs as `FastMinhashBuckets` does."""

    type = "DEDUP"
    name = "bands"
    NAMES = ("first_{:03d}", "records_{:03d}", "edges_{:03d}")
    """Files of a run: first hashes, records, pairs."""

    def __init__(
        self, folder: Path, index: BandIndex, kept: int, signatures: Path, pairs: Path, config: MinhashConfig
    ) -> None:
        super().__init__()
        self.folder, self.index, self.kept, self.config = folder, index, kept, config
        self.signatures, self.pairs = signatures, pairs
        merged = [key for run in index.runs[kept:] for key in run.own]
        own = [*merged, *(index.files[number] for number in index.new)]
        self.made = Run(own=own, onto=[key for run in index.runs[:kept] for key in run.own])

    @cached_property
    def hashes(self) -> list[str]:
        return [name for name in record_dtype(self.config).names or () if name != "document"]

    @cached_property
    def dtype(self) -> np.dtype:
        """A signature's, and the number of the file among those of the run."""
        return np.dtype([*record_dtype(self.config).descr, ("file", "<u4")])

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        """Write one bucket."""
        assert world_size == self.config.num_buckets, "a task per bucket"
        runs = [_Table(self.folder / str(place), rank, self.dtype) for place in range(len(self.index.runs))]
        edges = [
            _renamed(table.edges, run.names, self._today) for table, run in zip(runs, self.index.runs, strict=True)
        ]
        if self.index.new:
            made = self._make(rank, runs)
            edges = [*edges[: self.kept], _renamed(made, self.made.names, self._today)]
        self.pairs.mkdir(parents=True, exist_ok=True)
        path = self.pairs / f"{rank:05d}_00.dups"
        path.with_suffix(".partial").write_bytes(b"".join(each.tobytes() for each in edges))
        path.with_suffix(".partial").replace(path)

    @cached_property
    def _today(self) -> dict[str, int]:
        return {key: number for number, key in enumerate(self.index.files)}

    def _make(self, bucket: int, runs: list[_Table]) -> Edges:
        """Write the records, the first hashes and the pairs of the new run."""
        numbers = {key: number for number, key in enumerate(self.made.names)}
        kept, merged = runs[: self.kept], runs[self.kept :]
        onto = [np.array([numbers[key] for key in run.own], dtype="<u4") for run in self.index.runs]
        sources = [(table.records, files) for table, files in zip(merged, onto[self.kept :], strict=True)]
        edges = [
            _renamed(table.edges, run.names, numbers)
            for table, run in zip(merged, self.index.runs[self.kept :], strict=True)
        ]
        edges = [each[each[:, 2] >= len(self.made.own)] for each in edges]  # the others are found again below
        sources += [(records, np.array([numbers[self.index.files[new]]])) for new, records in self._signatures(bucket)]
        folder = self.folder / "made"
        folder.mkdir(exist_ok=True)
        first, records, pairs = (folder / name.format(bucket) for name in self.NAMES)
        for path in (first, records, pairs):
            path.unlink(missing_ok=True)
        first_new = len(self.made.own) - len(self.index.new)
        with first.open("wb") as firsts, records.open("wb") as rest:
            for merging in self._ranges([source for source in sources if len(source[0])]):
                ordered = merging[in_order(merging)]
                firsts.write(ordered["h0"].tobytes())
                rest.write(ordered.tobytes())
                equal = np.ones(max(0, len(ordered) - 1), dtype=np.bool_)
                for name in self.hashes:
                    equal &= ordered[name][1:] == ordered[name][:-1]
                at = np.flatnonzero(equal)
                edges.append(_pairs(ordered[at], ordered[at + 1]["file"], ordered[at + 1]["document"]))
                begins = np.flatnonzero(np.concatenate(([True], ~equal)))
                asked = ordered[begins[np.maximum.reduceat(ordered["file"], begins) >= first_new]]
                for table, files in zip(kept, onto, strict=False):
                    mine, here = table.find(asked, self.hashes)
                    found = table.records[here]
                    edges.append(_pairs(asked[mine], files[found["file"]], found["document"]))
        made: Edges = np.concatenate([np.empty((0, 4), dtype="<u4"), *edges])
        pairs.write_bytes(made.tobytes())
        return made

    def _signatures(self, bucket: int) -> Iterator[tuple[int, np.ndarray]]:
        """Number of each new file, and its signatures in order."""
        dtype = record_dtype(self.config)
        for new in self.index.new:
            path = self.signatures / f"bucket_{bucket:03d}" / f"{new:05d}.minhash.sig"
            yield new, np.memmap(path, dtype, "r") if path.stat().st_size else np.empty(0, dtype)

    def _ranges(self, sources: Sequence[tuple[np.ndarray, np.ndarray]]) -> Iterator[np.ndarray]:
        """The records of sorted sources, with the numbers that their files have in the new run, range by range."""
        if not sources:
            return
        total = sum(len(records) for records, _ in sources)
        largest = max((records for records, _ in sources), key=len)
        pieces = -(-total // RANGE_RECORDS)
        bounds = [int(largest["h0"][len(largest) * piece // pieces]) for piece in range(1, pieces)]
        for low, high in zip([0, *bounds], [*bounds, 1 << 64], strict=True):
            parts = []
            for records, files in sources:
                begin, end = (bisect_left(records, bound, key=lambda each: int(each["h0"])) for bound in (low, high))
                part = np.empty(end - begin, dtype=self.dtype)
                for name in (*self.hashes, "document"):
                    part[name] = records[begin:end][name]
                part["file"] = files[records[begin:end]["file"]] if "file" in (records.dtype.names or ()) else files[0]
                parts.append(part)
            if sum(map(len, parts)):
                yield np.concatenate(parts)


def _pairs(ones: np.ndarray, files: np.ndarray, documents: np.ndarray) -> Edges:
    return np.stack((ones["file"], ones["document"], files, documents), axis=1).astype("<u4")


def _renamed(edges: Edges, names: Sequence[str], numbers: Mapping[str, int]) -> Edges:
    """Edges whose files have other numbers."""
    places = np.array([numbers.get(name, -1) for name in names], dtype=np.int64)
    found = edges.copy()
    for column in (0, 2):
        found[:, column] = places[edges[:, column]]
    return found
