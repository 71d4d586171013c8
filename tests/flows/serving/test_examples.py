"""The programs of `examples/` run, on the real thing; `predict.py` in `tests/flows/test_mill.py`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.recipe.plan import make_plan
from flows.recipe.recipe import load_recipe
from infra.open_store import open_store
from infra.settings import Settings
from tests.flows.example import example_run
from tests.flows.serving.live import Shelf, live, sure
from tests.model.serving.talker import ANSWER, QUESTION, THOUGHT

EXAMPLES = Path(__file__).parents[3] / "examples"


def _run(name: str, *arguments: str, cwd: Path, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(EXAMPLES.parent)} | variables,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_listed() -> None:
    listed = (EXAMPLES / "README.md").read_text()
    names = {path.name + "/" * path.is_dir() for path in EXAMPLES.iterdir()} - {"README.md"}
    assert not [name for name in names if f"`{name}`" not in listed]


def test_the_recipe_plans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "books").mkdir()
    (tmp_path / "books" / "a.txt").write_text("A book.")
    (tmp_path / "notes.jsonl").write_text('{"body": "A note."}\n')
    recipe = load_recipe(str(EXAMPLES / "own_text.yaml"))
    found = make_plan(recipe, open_store(Settings(root=str(tmp_path / "store"))))
    assert "export" in str(found)


def test_chat(talkers: dict[str, Path], tmp_path: Path) -> None:
    with live(Shelf({"1": sure(talkers["1"], tmp_path / "sure")}), tmp_path / "cache", keys=("secret",)) as server:
        said = _run("chat.py", QUESTION, cwd=tmp_path, DEEPMILL_URL=server.url, DEEPMILL_KEY="secret")
    assert said.strip() == f"reasoning: {THOUGHT}\nanswer: {ANSWER}"


def test_runs(tmp_path: Path) -> None:
    record, store = example_run(tmp_path)
    said = _run("runs.py", str(store.local), cwd=tmp_path)
    assert said.startswith(f"{record['run_id']}: completed")
    assert "extract: cached, 0.0 s, 3,774,000 of 13,000,000 characters" in said
