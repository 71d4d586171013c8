"""What is served, chatted with, promoted and loaded is what was registered: every file of it, and nothing besides."""

from __future__ import annotations

import shutil
import sqlite3
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from flows.cli import app
from flows.registry.aliases import audit_of
from flows.registry.audit import audit
from flows.registry.files import VersionFiles
from flows.registry.names import alias_holder
from flows.registry.release import promote_by_hand, rollback
from flows.serving.chat import load_version
from flows.serving.model_manager import Place, Version, prepare
from flows.serving.sources import find_source
from infra.errors import UserError
from infra.settings import Settings, quiet_network
from infra.tracking import registry_client
from model.serving.spec import EngineKind
from tests.flows.prepared import prepare_mlflow
from tests.flows.registry.registered import register
from tests.flows.registry.test_release import GOOD
from tests.model.serving.talker import ANSWER, QUESTION, save_talker

WEIGHTS = "artifacts/model/model.safetensors"


def changed(path: Path) -> None:
    """Alter one byte in the middle; size and modification time stay."""
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(bytes(body))


DAMAGES: dict[str, Callable[[Path], object]] = {
    WEIGHTS: lambda folder: changed(folder / WEIGHTS),
    "artifacts/model/tokenizer.json": lambda folder: changed(folder / "artifacts/model/tokenizer.json"),
    "pyfunc.py": lambda folder: changed(folder / "pyfunc.py"),
    "code/model/generation/generate.py": lambda folder: changed(folder / "code/model/generation/generate.py"),
    "MLmodel": lambda folder: changed(folder / "MLmodel"),
    "requirements.txt": lambda folder: (folder / "requirements.txt").unlink(),
    "code/infra/more.py": lambda folder: (folder / "code/infra/more.py").write_text("raise SystemExit(7)"),
    "artifacts/model/more.safetensors": lambda folder: (folder / "artifacts/model/more.safetensors").write_bytes(b""),
    "code/infra/errors.py": lambda folder: (folder / "code/infra/errors.py").unlink(),
    "sitecustomize.py": lambda folder: (folder / "sitecustomize.py").write_text(""),
}


@dataclass
class Shop:
    """A store with two registered versions of one model; the first was champion, the second is."""

    settings: Settings
    model: str
    folders: dict[str, Path]

    def serve(self, text: str) -> Path:
        """The files that the server would hand to an engine."""
        _, source = find_source(text, self.settings, self.settings.local_root / "serving")
        number = source.current()
        assert number is not None
        return source.fetch(number).folder


@pytest.fixture(scope="module")
def talker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_talker(tmp_path_factory.mktemp("talker"))


@pytest.fixture(scope="module")
def template(talker: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store, made once; a test works on a copy, which is a test of copied stores too."""
    quiet_network()
    root = tmp_path_factory.mktemp("template") / "store"
    prepare_mlflow(root)
    settings = Settings(root=str(root))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "dont_write_bytecode", False)  # as Python has it by itself
        for _ in range(2):
            version, _ = register(settings, "talker", talker, GOOD)
            promote_by_hand(settings, "talker", version, force=False)
    return root


@pytest.fixture
def shop(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    root = tmp_path / "store"
    shutil.copytree(template, root)
    monkeypatch.setenv("DEEPMILL_ROOT", str(root))
    settings = Settings()
    client = registry_client(settings)
    folders = {}
    for version in ("1", "2"):
        folder = VersionFiles(client, settings, "talker", version)._local()
        assert folder is not None
        assert folder.is_relative_to(root)
        folders[version] = folder
    return Shop(settings, "talker", folders)


def test_what_is_whole_is_used(shop: Shop) -> None:
    assert "__pycache__" not in {path.name for path in shop.folders["1"].rglob("*")}
    assert shop.serve("talker@champion").parts[-3:] == ("files", "artifacts", "model")
    assert (shop.serve("talker/1") / "model.safetensors").read_bytes() == (shop.folders["1"] / WEIGHTS).read_bytes()
    loaded, version = load_version(shop.settings, "talker@champion")
    answers = loaded.predict(pd.DataFrame({"question": [QUESTION]}), params={"max_new_tokens": 60})
    assert (version, answers["answer"][0]) == ("2", ANSWER)
    assert rollback(shop.settings, "talker") == "1"


def test_every_damage_is_seen(shop: Shop, tmp_path: Path) -> None:
    """By what each use of a version asks first."""
    files = VersionFiles(registry_client(shop.settings), shop.settings, "talker", "1")
    folder, whole = shop.folders["1"], tmp_path / "whole"
    shutil.copytree(folder, whole)
    for path, damage in DAMAGES.items():
        assert files.damage() == []
        damage(folder)
        assert [difference.path for difference in files.damage() or ()] == [path]
        (folder / path).unlink(missing_ok=True)
        if (whole / path).exists():
            shutil.copyfile(whole / path, folder / path)


@pytest.mark.parametrize("path", [WEIGHTS, "requirements.txt", "code/infra/more.py"])  # altered, gone, not recorded
def test_what_is_not_as_registered_is_never_used(shop: Shop, path: str) -> None:
    """Neither served, nor chatted with, nor promoted, nor gone back to, nor kept by the audit."""
    client = registry_client(shop.settings)
    DAMAGES[path](shop.folders["1"])
    uses: list[Callable[[], object]] = [
        lambda: shop.serve("talker/1"),
        lambda: load_version(shop.settings, "talker/1"),
        lambda: app(["chat", "talker/1", "-q", "hello"], standalone_mode=False),
        lambda: app(["promote", "talker", "1"], standalone_mode=False),
        lambda: promote_by_hand(shop.settings, "talker", "1", force=False),
        lambda: rollback(shop.settings, "talker"),
    ]
    for use in uses:
        with pytest.raises(UserError) as told:
            use()
        assert path in str(told.value)
        assert "talker" in str(told.value)
        assert "\n" not in str(told.value)
    assert alias_holder(client, "talker", "champion") == "2"
    client.set_registered_model_alias("talker", "champion", "1")  # the way back by hand, in MLflow
    verdict = audit(shop.settings, "talker")
    assert (verdict.version, "checksums" in verdict.message) == ("2", True)
    assert "its gates pass" not in verdict.message
    assert shop.serve("talker@champion")  # version 2 is whole


def test_the_line_names_version_file_and_remedy(shop: Shop) -> None:
    changed(shop.folders["2"] / WEIGHTS)
    with pytest.raises(UserError, match=rf"^talker/2: {WEIGHTS}: the checksum differs .*deepmill rollback talker"):
        shop.serve("talker@champion")


@pytest.mark.parametrize("path", [WEIGHTS, "code/model/generation/generate.py", "artifacts/model/more", "code/more.py"])
def test_whoever_loads_it_with_mlflow_alone_is_told(shop: Shop, path: str) -> None:
    """`mlflow.pyfunc.load_model` knows nothing of our registry; the model compares its own files."""
    import mlflow

    from infra.relocation import relocate

    relocate(shop.settings.local_root)
    registry_client(shop.settings)
    mlflow.pyfunc.load_model("models:/talker/1")
    mlflow.pyfunc.load_model("models:/talker/1")  # what Python and MLflow left there is no damage
    assert shop.serve("talker/1")
    target = shop.folders["1"] / path
    if target.exists():
        changed(target)
    else:
        target.write_text("")
    with pytest.raises(Exception, match=str(target.name)) as told:
        mlflow.pyfunc.load_model("models:/talker/1")
    assert "logged" in str(told.value)


def test_a_private_copy_is_verified_again_and_not_fetched_again(shop: Shop) -> None:
    first = shop.serve("talker@champion")
    stamp = (first / "model.safetensors").stat().st_ino
    assert (shop.serve("talker@champion") / "model.safetensors").stat().st_ino == stamp
    changed(first / "model.safetensors")
    again = shop.serve("talker@champion") / "model.safetensors"
    assert again.stat().st_ino != stamp
    assert again.read_bytes() == (shop.folders["2"] / WEIGHTS).read_bytes()


def test_the_alias_goes_back_to_what_is_whole_and_judged(shop: Shop, talker: Path) -> None:
    """Somebody makes a bad version champion by hand while the champion's own files were damaged: the one before is."""
    client = registry_client(shop.settings)
    bad, _ = register(shop.settings, "talker", talker, GOOD | {"quantization_kl": 0.4})
    changed(shop.folders["2"] / WEIGHTS)
    client.set_registered_model_alias("talker", "champion", bad)
    verdict = audit(shop.settings, "talker")
    assert verdict.version == alias_holder(client, "talker", "champion") == "1"
    assert "version 2 cannot take its place" in verdict.message
    (shop.folders["1"] / "pyfunc.py").unlink()
    client.set_registered_model_alias("talker", "champion", bad)
    assert audit(shop.settings, "talker").version is None
    assert alias_holder(client, "talker", "champion") is None
    assert audit_of(client, "talker")[-1].version is None


def test_a_model_folder_is_compared_with_its_artifact(talker: Path, tmp_path: Path) -> None:
    """`deepmill serve FOLDER`, where the folder is an export's."""
    from infra.store import LocalStore
    from tests.infra.test_store import stage_files

    store = LocalStore(tmp_path / "store")
    staging, manifest = stage_files(store)
    shutil.copytree(talker, staging.artifact / "model")
    from infra.manifest import record_files

    files, content = record_files(staging.artifact)
    store.publish(staging, manifest.model_copy(update={"files": files, "content": content}))
    folder = store.path(manifest.stage, manifest.identity) / "model"
    _, source = find_source(str(folder), Settings(root=str(tmp_path)), tmp_path / "cache")
    assert source.fetch("").folder == folder
    changed(folder / "model.safetensors")
    with pytest.raises(UserError, match=r"model\.safetensors: the checksum differs"):
        source.fetch("")


def test_a_store_whose_files_are_elsewhere_says_what_to_do(shop: Shop) -> None:
    """The registry was moved without the files, or the other way round."""
    shutil.move(shop.settings.local_root / "mlartifacts", shop.settings.local_root / "elsewhere")
    with sqlite3.connect(shop.settings.local_root / "mlflow.db") as rows:
        rows.execute("UPDATE model_versions SET storage_location = replace(storage_location, 'template', 'gone')")
    for use in (lambda: shop.serve("talker@champion"), lambda: load_version(shop.settings, "talker/1")):
        with pytest.raises(UserError, match=r"talker/\d: its files are not at .*deepmill doctor --relocate") as told:
            use()
        assert "\n" not in str(told.value)


def test_what_an_engine_reads_is_what_was_made_of_the_version(talker: Path, tmp_path: Path) -> None:
    """The GGUF file beside a fetched version: its tokenizer is compared like its weights."""
    place = Place(EngineKind.LLAMA, 128, 1, 1, tmp_path / "cache")
    folder = tmp_path / "model"
    shutil.copytree(talker, folder)
    version = Version("model", "", folder)
    made = prepare(version, place)[1]
    whole = made.read_bytes()
    before = made.stat().st_ctime_ns
    assert prepare(version, place)[1].stat().st_ctime_ns == before
    at = whole.index(b"tokenizer.ggml.tokens") + 200
    made.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    assert prepare(version, place)[1].read_bytes() == whole
    tokenizer = folder / "tokenizer.json"  # another model of the same name and weights
    tokenizer.write_text(tokenizer.read_text() + "\n")
    before = made.stat().st_ctime_ns
    assert prepare(version, place)[1].stat().st_ctime_ns != before
