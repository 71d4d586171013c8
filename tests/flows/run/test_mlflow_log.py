"""The log of a run in MLflow: what becomes of it when MLflow does not take it."""

from __future__ import annotations

from pathlib import Path

from flows.run.mlflow_log import MlflowLog
from flows.run.record import RunRecord
from infra.settings import Settings

RECORD = RunRecord(run_id="one", recipe_name="tiny", recipe={"name": "tiny", "execution": {}})


def test_trouble_is_told_once_and_stays_in_the_record(tmp_path: Path) -> None:
    told: list[str] = []
    log = MlflowLog(Settings(root=str(tmp_path), tracking_uri="nobody://knows"), RECORD, told.append)
    log.describe(lambda: "more that cannot be written")
    ids = log.close("completed")
    assert told == [ids["trouble"]]
    assert "MLflow does not take the log of this run" in ids["trouble"]
    assert "the run goes on without" in ids["trouble"]
