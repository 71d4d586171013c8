"""The alias as MLflow's file has it: what MLflow says, and "cannot tell" where that is not sure."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from infra.alias_lookup import CannotTellError, version_behind
from infra.settings import DATABASE, Settings
from infra.tracking import registry_client
from tests.flows.prepared import prepare_mlflow


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    prepare_mlflow(tmp_path)
    return Settings(root=str(tmp_path))


def test_it_is_what_mlflow_says(settings: Settings) -> None:
    client = registry_client(settings)
    for model in ("one", "two's"):
        client.create_registered_model(model)
        for _ in range(2):
            client.create_model_version(model, "file:///nowhere")
    client.set_registered_model_alias("one", "champion", "2")
    client.set_registered_model_alias("two's", "champion", "1")
    assert version_behind(settings, "one", "champion") == "2"
    assert version_behind(settings, "two's", "champion") == "1"
    assert version_behind(settings, "one", "challenger") is None
    assert version_behind(settings, "three", "champion") is None
    client.delete_registered_model_alias("one", "champion")
    assert version_behind(settings, "one", "champion") is None


def test_elsewhere_only_mlflow_can_tell(tmp_path: Path) -> None:
    for uri in ("http://127.0.0.1:5000", "postgresql://host/mlflow", f"sqlite:///{tmp_path / 'none.db'}"):
        with pytest.raises(CannotTellError):
            version_behind(Settings(root=str(tmp_path), tracking_uri=uri), "one", "champion")


def test_another_schema_or_no_database_is_not_guessed_at(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / DATABASE
    with closing(sqlite3.connect(path)) as rows, rows:
        rows.execute("ALTER TABLE registered_model_aliases RENAME COLUMN workspace TO tenant")
    with pytest.raises(CannotTellError, match="another version"):
        version_behind(settings, "one", "champion")
    path.write_bytes(b"no database")
    with pytest.raises(CannotTellError):
        version_behind(settings, "one", "champion")
