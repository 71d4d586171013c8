"""The command disclose, for a run and for a registered model."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.cli import app
from flows.report.disclosure_pages import FACTS, PAGES
from flows.run.record import RUN_ID
from infra.errors import UserError
from infra.settings import Settings
from tests.flows.example import example_run
from tests.flows.prepared import prepare_mlflow
from tests.flows.registry.test_release import GOOD, versions


def test_a_run_and_the_model_it_made_say_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record, store = example_run(tmp_path, until="shards")
    monkeypatch.setenv("DEEPMILL_ROOT", str(store.local))
    prepare_mlflow(store.local)
    settings = Settings()
    client = versions(settings, "told", GOOD, GOOD)
    client.set_model_version_tag("told", "2", RUN_ID, record["run_id"])
    client.set_registered_model_alias("told", "champion", "2")
    for folder, name in (("run", "20261124"), ("alias", "told@champion"), ("version", "told/2")):
        app(["disclose", name, "--to", str(tmp_path / folder)], standalone_mode=False)
        for file in (*PAGES, FACTS):
            assert (tmp_path / folder / file).read_bytes() == (tmp_path / "run" / file).read_bytes()
    with pytest.raises(UserError, match=r"told/1: its run \(not recorded\) is not in"):
        app(["disclose", "told/1"], standalone_mode=False)
    stated = tmp_path / "stated.yaml"
    stated.write_text("disclosure: {provider: Somebody}\n")
    app(["disclose", "20261124", "--recipe", str(stated)], standalone_mode=False)
    beside = store.local / "runs" / f"{record['run_id']}.disclosure"
    assert "- Name: Somebody\n" in (beside / "training-content.md").read_text()
    assert store.runs() == [record["run_id"]], "the folder beside the record is no run"
