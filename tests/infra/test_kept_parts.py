"""Parts of artifacts that later ones take over: whole, verified, or not at all."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from infra import kept_parts as module
from infra.kept_parts import KeptParts, PartsPlace, unused
from infra.runner import make
from infra.store import LocalStore
from tests.infra.test_runner import job_of


@pytest.fixture
def parts(tmp_path: Path) -> KeptParts:
    return KeptParts(PartsPlace(folder=str(tmp_path / ".parts" / "stage"), made_by="this code"))


def _made(folder: Path, **texts: str) -> dict[str, Path]:
    """Where files of these names belong; those with a text are there."""
    folder.mkdir()
    files = {name: folder / "deep" / f"{name}.txt" for name in texts}
    for name, text in texts.items():
        files[name].parent.mkdir(exist_ok=True)
        if text:
            files[name].write_text(text)
    return files


def test_a_part_is_taken_with_what_it_has_not(parts: KeptParts, tmp_path: Path) -> None:
    parts.keep(["task", 1], _made(tmp_path / "first", documents="text", rejects=""))
    later = _made(tmp_path / "later", documents="", rejects="of a killed attempt")
    assert not parts.take(["task", 2], later)
    assert not later["rejects"].exists()  # nothing that a task would write over is left
    assert parts.take(["task", 1], later)
    assert later["documents"].read_text() == "text"
    assert not later["rejects"].exists()
    assert later["documents"].stat().st_ino == (tmp_path / "first" / "deep" / "documents.txt").stat().st_ino


def test_other_code_takes_nothing(parts: KeptParts, tmp_path: Path) -> None:
    files = _made(tmp_path / "first", documents="text")
    parts.keep("key", files)
    changed = KeptParts(PartsPlace(folder=str(parts.folder), made_by="other code"))
    assert not changed.take("key", files)


@pytest.mark.parametrize("harm", ["changed", "gone", "unreadable"])
def test_a_damaged_part_is_none_and_goes(parts: KeptParts, tmp_path: Path, harm: str) -> None:
    parts.keep("key", _made(tmp_path / "first", documents="text", ledger="counts"))
    (part,) = parts.folder.iterdir()
    match harm:
        case "changed":
            (part / "ledger").unlink()
            (part / "ledger").write_text("other")
        case "gone":
            (part / "ledger").unlink()
        case "unreadable":
            (part / "part.json").write_text("{")
    later = _made(tmp_path / "later", documents="", ledger="")
    assert not parts.take("key", later)
    assert not any(path.exists() for path in later.values())
    assert not part.exists()


def test_without_hard_links_it_is_a_copy(parts: KeptParts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(module.NO_LINKS[0], "no links here")

    monkeypatch.setattr(os, "link", refuse)
    files = _made(tmp_path / "first", documents="text")
    parts.keep("key", files)
    files["documents"].write_text("another")
    assert parts.take("key", files)
    assert files["documents"].read_text() == "text"


def test_the_runner_tells_a_stage_of_parts_only_where_they_are_kept(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    taken = []
    for keep, text in ((False, "a"), (True, "b"), (True, "c"), (False, "d")):
        job = job_of("keeps_a_part", text=text)
        manifest, _ = make(store, type(job)(**{**vars(job), "keep_parts": keep}), lambda event: None)
        taken.append((manifest.metrics["keeps"], manifest.metrics["taken"]))
    assert taken == [(False, False), (True, False), (True, True), (False, False)]


def test_parts_that_nobody_takes_grow_old(parts: KeptParts, tmp_path: Path) -> None:
    files = _made(tmp_path / "first", shared="12345", alone="123")
    for key in ("old", "young"):
        parts.keep(key, files)
    files["alone"].unlink()
    old = parts.folder / parts.key("old")
    os.utime(old, (0, 0))
    ((path, freed),) = unused(tmp_path, time.time() - 3600)
    assert path == old
    assert freed == (old / module.RECORD).stat().st_size  # its files are linked from elsewhere, and cost nothing
    assert parts.take("old", files)
    assert not list(unused(tmp_path, time.time() - 3600))  # for it was taken
