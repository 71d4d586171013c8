"""The corpus flow on an S3 store, and a run without any network. The artifacts are those of the golden run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import s3fs

from infra.open_store import open_store
from infra.settings import Settings
from tests.flows.golden import DOCUMENTS, golden, why_not_alone
from tests.flows.tiny import SECONDS, environment, write_recipe

CORPUS = (
    "from flows.mill import corpus; from flows.recipe.recipe import load_recipe\n"
    "from flows.run.prefect_server import PrefectServer\n"
    "with PrefectServer() as server:\n    server.wait()\n    corpus(load_recipe('tiny.yaml'))\n"
)
"""Runs the flow `corpus` alone, as a scheduler would."""
KEPT = (*DOCUMENTS, "tokenizer")
"""Stages whose artifacts are on S3 already; `tests.flows.test_scale` makes all of them there."""


@pytest.mark.drill
@pytest.mark.usefixtures("on_s3", "on_prefect")
def test_the_corpus_flow_gives_the_golden_artifacts_on_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    golden().lend(tmp_path, KEPT)
    for stage in KEPT:
        s3fs.S3FileSystem().put(f"{tmp_path}/store/{stage}", f"test/places/{stage}", recursive=True)
    write_recipe(tmp_path)
    places = {"DEEPMILL_ROOT": "s3://test/places", "DEEPMILL_SCRATCH": str(tmp_path / "scratch")}
    subprocess.run(
        [sys.executable, "-c", CORPUS], env=environment(tmp_path) | places, cwd=tmp_path, check=True, timeout=SECONDS
    )
    for name, value in places.items():
        monkeypatch.setenv(name, value)
    store = open_store(Settings())
    stages = (*DOCUMENTS, "tokenizer", "shards")
    contents = {item.identity: item.content for name in stages for item in store.manifests(name)}
    assert len(contents) == len(stages)
    assert contents.items() <= golden().made().items()
    (record,) = [store.read_run(name) for name in store.runs()]
    assert record is not None
    assert record["state"] == "completed"
    assert {name for name, entry in record["stages"].items() if entry["state"] == "cached"} == set(KEPT)


@pytest.mark.drill
def test_without_a_network_it_is_the_same() -> None:
    """The golden run has nothing but loopback, from raw text to a registered model."""
    if why := why_not_alone():
        pytest.skip(why)
    milled = golden()
    assert milled.records[0]["state"] == "completed"
    assert "All connection attempts failed" not in milled.printed
