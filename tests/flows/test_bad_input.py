"""What a user gets wrong: one clear line that names the file, the record and the remedy, and no artifact."""

from __future__ import annotations

import gzip
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.cli import main
from flows.recipe.recipe import load_recipe
from infra.errors import UserError
from infra.settings import DATABASE
from pipeline.extract import extract
from tests.flows.prepared import prepare_mlflow
from tests.flows.tiny import ask, deepmill, write_recipe
from tests.pipeline.corpus import set_workers


def refused(root: Path, *arguments: str) -> str:
    """The one line of error."""
    printed = deepmill(root, *arguments, status=1)
    assert "Traceback" not in printed
    lines = [line for line in printed.splitlines() if line.startswith("error ")]
    assert len(lines) == 1, printed
    assert not [path for path in (root / "store" / "extract").glob("*") if path.is_dir()]
    return lines[0]


def with_source(root: Path, name: str, kind: str, content: bytes) -> str:
    """A recipe whose only source is one file."""
    write_recipe(root)
    (root / name).write_bytes(content)
    recipe: dict[str, Any] = yaml.safe_load((root / "tiny.yaml").read_text())
    recipe["extract"] = {"sources": {"it": {"kind": kind, "paths": [name]}}}
    (root / "tiny.yaml").write_text(yaml.safe_dump(recipe))
    return "tiny.yaml"


def warc() -> bytes:
    body = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html><body>" + b"<p>Some words here.</p>" * 500
    head = (
        b"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: http://example.test/\r\n"
        b"WARC-Record-ID: <urn:uuid:00000000-0000-0000-0000-000000000001>\r\nWARC-Date: 2026-01-01T00:00:00Z\r\n"
        b"Content-Type: application/http; msgtype=response\r\nContent-Length: %d\r\n\r\n" % len(body)
    )
    return gzip.compress(head + body + b"\r\n\r\n")


def test_a_typo_in_a_key(tmp_path: Path) -> None:
    write_recipe(tmp_path)
    assert "did you mean steps?" in refused(tmp_path, "run", "tiny.yaml", "--set", "pretrain.stepz=3")


def test_a_kernel_that_pretraining_could_not_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told before the corpus is made."""
    monkeypatch.setattr("model.architecture.varlen._installed", lambda package: None)
    write_recipe(tmp_path)
    run = ("run", "tiny.yaml", "--set", "execution.attention=flash3")
    with pytest.raises(UserError, match=r"^execution\.attention flash3: flash-attn-3 is not installed"):
        ask(tmp_path, *run)
    with pytest.raises(UserError, match=r"execution\.attention flash3: heads of the model are 256 wide"):
        ask(tmp_path, *run, "--set", "pretrain.model.v_head_dim=256")


def test_a_missing_file(tmp_path: Path) -> None:
    write_recipe(tmp_path)
    (tmp_path / "corpus" / "notes.jsonl").unlink()
    with pytest.raises(
        UserError, match=r"^extract\.sources\.\w+\.paths: \S*notes\.jsonl: no such file; correct the path"
    ):
        ask(tmp_path, "run", "tiny.yaml")


def test_a_root_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line of an error of the system, by the whole command in this process."""
    write_recipe(tmp_path)
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["deepmill", "run", "tiny.yaml", "--root", "file/store"])
    with pytest.raises(SystemExit, match="1"):
        main()
    told = capsys.readouterr().err
    assert told.startswith("error ")
    assert "file/store" in told
    assert len(told.splitlines()) == 1


LITTLE = 300
"""Kilobytes of a disk that some stages fill."""
DAMAGED = {
    "truncated WARC": ("pages.warc.gz", "web", warc()[:-40]),
    "malformed XML": ("dump.xml", "wiki", b"<mediawiki><page><title>A</titl"),
    "invalid UTF-8": ("rows.jsonl", "jsonl", b'{"text": "Good."}\n' * 20 + b'{"text": "Then \xff\xfe\xfa bad."}\n'),
    "empty corpus": ("rows.jsonl", "jsonl", b""),
    "broken row": ("rows.jsonl", "jsonl", b'{"text": "good"}\n{"text": \n'),
}


@pytest.mark.usefixtures("on_prefect")
def test_a_damaged_source(tmp_path: Path) -> None:
    recipe = with_source(tmp_path, *DAMAGED["broken row"])
    prepare_mlflow(tmp_path / "store")
    assert "rows.jsonl" in refused(tmp_path, "run", recipe)


@pytest.mark.parametrize("kind", list(DAMAGED))
def test_every_damage_is_named(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As above, where the runner hears of it (`tests.infra.test_runner`: it passes the one line on)."""
    monkeypatch.chdir(tmp_path)
    set_workers(monkeypatch, 1)
    recipe = load_recipe(with_source(tmp_path, *DAMAGED[kind]))
    with pytest.raises(UserError, match=re.escape(DAMAGED[kind][0])) as raised:
        extract(recipe.extract, {}, tmp_path / "out")
    assert "\n" not in str(raised.value)


@pytest.mark.drill
@pytest.mark.usefixtures("on_prefect")
def test_a_full_disk_keeps_what_is_done(tmp_path: Path) -> None:
    prepare_mlflow(tmp_path)
    room = (tmp_path / DATABASE).stat().st_size // 1024 + LITTLE
    small = tmp_path / "small"
    small.mkdir()
    mount = shutil.which("mount")
    if (
        not mount
        or subprocess.run([mount, "-t", "tmpfs", "-o", f"size={room}k", "tmpfs", str(small)], check=False).returncode
    ):
        pytest.skip("mounting a small file system is not allowed here")
    try:
        write_recipe(tmp_path)
        prepare_mlflow(small / "store")
        line = deepmill(tmp_path, "run", "tiny.yaml", "--root", str(small / "store"), status=1).splitlines()[-1]
        assert "the disk is full; free space and run the same command" in line
    finally:
        subprocess.run(["umount", str(small)], check=True)
