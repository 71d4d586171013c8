"""The folder that runs a model in a browser: what is in it, what it refuses, and what a run does with it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from flows.browser.export import FACTS, export_for_browser, follow_champion
from flows.cli import app
from flows.recipe.recipe import Recipe
from flows.registry.files import WEIGHTS
from infra.errors import UserError
from infra.integrity import folder_digests
from model.serving.gguf_file import gguf_file
from tests.flows.browser.registry import Registry, make_registry, need_wllama, small_parts


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    root = tmp_path_factory.mktemp("registry")
    need_wllama(root / "wllama")
    return make_registry(root)


def test_the_same_version_gives_the_same_bytes(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_parts(monkeypatch)
    done = export_for_browser(registry.settings, "talker@champion", tmp_path / "here")
    assert done.label == "talker/1"
    digests = folder_digests(done.folder)
    assert done.bytes == sum(path.stat().st_size for path in done.folder.rglob("*") if path.is_file())
    facts = json.loads((done.folder / FACTS).read_text())
    assert (facts["temperature"], facts["context"], facts["begun"]) == (0.0, 256, "")
    cache = registry.settings.local_root / "serving"
    served = gguf_file(cache / "talker-1" / "files" / WEIGHTS, "talker/1", cache).read_bytes()
    parts = [part["path"] for part in facts["files"]["model"]["parts"]]
    assert len(parts) > 1
    joined = b"".join((done.folder / path).read_bytes() for path in parts)
    assert joined == served, "the file that `deepmill serve` computes with"
    assert facts["sha256"] == hashlib.sha256(joined).hexdigest()
    for file in facts["files"].values():
        for part in file["parts"]:
            body = (done.folder / part["path"]).read_bytes()
            chunks = [body[at : at + facts["chunk"]] for at in range(0, len(body), facts["chunk"])]
            assert (part["bytes"], part["digests"]) == (
                len(body),
                [hashlib.sha256(each).hexdigest() for each in chunks],
            )
    (done.folder / "README.txt").write_text("changed")
    app(["export", "--browser", "talker/1", str(done.folder), "--root", registry.settings.root], standalone_mode=False)
    assert folder_digests(done.folder) == digests, "an earlier export is replaced"
    assert {path.name for path in tmp_path.iterdir()} == {"here"}


def test_nothing_else_is_overwritten(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "mine.txt").write_text("mine")
    for target, why in (("letters", "holds something else"), ("letters/mine.txt", "a file is there")):
        with pytest.raises(UserError, match=why):
            export_for_browser(registry.settings, "talker@champion", tmp_path / target)
    for model, why in (
        ("nobody@champion", "nobody@champion: not in the registry"),
        ("talkr@champion", "did you mean talker@champion"),
        ("talker/7", "not in the registry"),
    ):
        with pytest.raises(UserError, match=why):
            export_for_browser(registry.settings, model, tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["letters"]
    with pytest.raises(UserError, match="say --browser"):
        app(["export", "talker/1", str(tmp_path / "new")], standalone_mode=False)


def test_the_end_of_a_run_writes_the_champion_once(registry: Registry, tmp_path: Path) -> None:
    assert Recipe().registry.browser == ""
    target = tmp_path / "site"
    assert "has talker/1 for browsers now" in follow_champion(registry.settings, "talker", "1", target)
    before = (target / FACTS).stat().st_ino
    assert follow_champion(registry.settings, "talker", "1", target) == f"{target} has talker/1 already"
    assert (target / FACTS).stat().st_ino == before
    told = follow_champion(registry.settings, "talker", "8", target)  # the release stands, whatever becomes of the page
    assert "talker/8 was not written for browsers" in told
    assert (target / FACTS).stat().st_ino == before
