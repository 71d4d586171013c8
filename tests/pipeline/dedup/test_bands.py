"""The kept index of bands joins the documents that pairing all of them at once joins, whatever happens to it."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from datatrove.pipeline.dedup.minhash import MinhashConfig

from infra.kept_parts import KeptParts, PartsPlace
from pipeline.dedup import bands
from pipeline.dedup.bands import KeptBands
from pipeline.dedup.clusters import join, near_edges
from pipeline.dedup.minhash import FastMinhashBuckets, in_order, record_dtype

CONFIG = MinhashConfig(num_buckets=3, hashes_per_bucket=2)
DTYPE = record_dtype(CONFIG)


@pytest.fixture(autouse=True)
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bands, "RANGE_RECORDS", 64)


@pytest.fixture
def kept(tmp_path: Path) -> KeptParts:
    return KeptParts(PartsPlace(folder=str(tmp_path / ".parts"), made_by="this code"))


Files = dict[str, list[np.ndarray]]
"""By a file's key, the signatures of each bucket."""


def _files(seed: int, names: list[str]) -> Files:
    """Most signatures are of one document alone; some are of many, or share the first hash alone."""
    source = random.Random(seed)

    def records() -> np.ndarray:
        count = source.choice((0, 1, 30, 60))
        found = np.empty(count, dtype=DTYPE)
        found["h0"] = [source.choice((source.randrange(5), source.randrange(1 << 62))) for _ in range(count)]
        found["h1"] = [source.randrange(4) for _ in range(count)]
        found["document"] = np.arange(count)
        return found[in_order(found)]

    return {name: [records() for _ in range(CONFIG.num_buckets)] for name in names}


def _clusters(pairs: Path) -> set[tuple[int, ...]]:
    begins = np.arange(1000, dtype=np.int64) * 1000
    found = join(near_edges(pairs, begins))
    return {
        tuple(found.nodes[found.labels == label].tolist()) for label in range(int(found.labels.max(initial=-1)) + 1)
    }


def _night(
    kept: KeptParts, work: Path, files: Files, *, killed_after: int | None = None
) -> tuple[set[tuple[int, ...]], int]:
    """The clusters by the kept index, and how many runs it has then."""
    index = KeptBands(kept, work / "bands", list(files), CONFIG.num_buckets)
    for bucket in range(CONFIG.num_buckets):
        folder = work / "signatures" / f"bucket_{bucket:03d}"
        folder.mkdir(parents=True, exist_ok=True)
        for number, records in enumerate(files.values()):
            if number not in index.covered:  # of the others there are no signatures
                (folder / f"{number:05d}.minhash.sig").write_bytes(records[bucket].tobytes())
    step = index.pairing(work / "signatures", work / "pairs", CONFIG)
    for bucket in range(CONFIG.num_buckets):
        if bucket == killed_after:
            return set(), 0
        step.run(None, bucket, CONFIG.num_buckets)
    index.keep(step)
    return _clusters(work / "pairs"), step.kept + bool(index.index.new)


def _at_once(work: Path, files: Files) -> set[tuple[int, ...]]:
    for bucket in range(CONFIG.num_buckets):
        folder = work / "signatures" / f"bucket_{bucket:03d}"
        folder.mkdir(parents=True)
        for number, records in enumerate(files.values()):
            (folder / f"{number:05d}.minhash.sig").write_bytes(records[bucket].tobytes())
        FastMinhashBuckets(work / "signatures", work / "pairs", CONFIG).run(None, bucket, CONFIG.num_buckets)
    return _clusters(work / "pairs")


@pytest.mark.parametrize("seed", range(3))
def test_every_night_joins_what_one_run_does(kept: KeptParts, tmp_path: Path, seed: int) -> None:
    files: Files = {}
    most = 0
    source = random.Random(seed)
    for night in range(12):
        new = _files(100 * seed + night, [f"night-{night}-{number}" for number in range(source.choice((1, 2, 6)))])
        files = {**new, **files} if night % 3 == 0 else {**files, **new}  # numbers of the files before change
        found, runs = _night(kept, tmp_path / f"night-{night}", files)
        assert found == _at_once(tmp_path / f"once-{night}", files)
        most = max(most, runs)
    assert 1 < most < 8
    indices = list(kept.folder.glob("bands-*"))
    assert len(indices) == 1  # what it goes beyond is gone, with the runs that were merged
    assert len(list(kept.folder.iterdir())) == 1 + runs


def test_a_night_without_new_files(kept: KeptParts, tmp_path: Path) -> None:
    files = _files(1, ["a", "b", "c"])
    first, _ = _night(kept, tmp_path / "first", files)
    assert _night(kept, tmp_path / "again", dict(reversed(files.items())))[0] == _at_once(
        tmp_path / "once", dict(reversed(files.items()))
    )
    assert _night(kept, tmp_path / "third", files)[0] == first != set()


def test_a_file_that_is_taken_out(kept: KeptParts, tmp_path: Path) -> None:
    files = _files(2, ["a", "b", "c"])
    _night(kept, tmp_path / "first", files)
    fewer = {name: files[name] for name in ("a", "c")}
    assert _night(kept, tmp_path / "second", fewer)[0] == _at_once(tmp_path / "once", fewer)


@pytest.mark.parametrize("harm", ["run", "index"])
def test_a_damaged_index_is_made_again(kept: KeptParts, tmp_path: Path, harm: str) -> None:
    files = _files(3, ["a", "b"])
    _night(kept, tmp_path / "first", files)
    if harm == "index":
        next(kept.folder.glob("bands-*/index.json")).write_text("{")
    else:
        record = next(path for path in kept.folder.glob("*/records_001"))
        record.unlink()
        record.write_bytes(b"other")
    files |= _files(4, ["c"])
    assert _night(kept, tmp_path / "second", files)[0] == _at_once(tmp_path / "once", files)


def test_a_killed_night_goes_on_with_what_it_chose(kept: KeptParts, tmp_path: Path) -> None:
    files = _files(5, ["a", "b"])
    _night(kept, tmp_path / "first", files)
    grown = files | _files(6, ["c"])
    _night(kept, tmp_path / "second", grown, killed_after=1)
    _night(kept, tmp_path / "meanwhile", grown | _files(7, ["d"]))  # another run goes beyond the index that it took
    shutil.rmtree(kept.folder)  # and somebody deletes all that is kept
    assert _night(kept, tmp_path / "second", grown)[0] == _at_once(tmp_path / "once", grown)
