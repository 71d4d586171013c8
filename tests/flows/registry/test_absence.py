"""A registry that does not answer is not a registry without a champion: nothing is concluded, nothing is changed."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from flows.cli import main
from flows.recipe.sections import PromoteConfig
from flows.registry.audit import audit
from flows.registry.names import alias_holder, parse_name, registered_version, resolve
from flows.registry.release import promote_by_hand, released_version, rollback
from infra.errors import UserError
from infra.processes import free_ports
from infra.settings import Settings
from infra.tracking import registry_client
from tests.flows.prepared import prepare_mlflow
from tests.flows.registry.test_release import GOOD, versions
from tests.infra.faults import Faults, faulty

CONFIG = PromoteConfig(min_accuracy=0.3)


def silent(name: str, settings: Settings) -> None:
    """Every use of the registry raises, and says neither "none" nor "not in the registry"."""
    client = registry_client(settings)
    uses: list[Callable[[], object]] = [
        lambda: alias_holder(client, name, "champion"),
        lambda: resolve(client, parse_name(f"{name}@champion")),
        lambda: registered_version(client, name, "1"),
        lambda: released_version(client, name, "artifact1"),
        lambda: promote_by_hand(settings, name, "3", CONFIG, force=False),
        lambda: promote_by_hand(settings, name, "3", CONFIG, force=True),
        lambda: rollback(settings, name),
        lambda: audit(settings, name),
    ]
    for use in uses:
        with pytest.raises(MlflowException):
            use()


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    prepare_mlflow(tmp_path / "store")
    monkeypatch.setenv("DEEPMILL_ROOT", str(tmp_path / "store"))
    return Settings()


def test_a_database_that_cannot_be_read(settings: Settings) -> None:
    client = versions(settings, "broken", GOOD, GOOD, GOOD | {"accuracy_high": 0.45})
    for version in ("1", "2"):
        promote_by_hand(settings, "broken", version, CONFIG, force=False)
    with sqlite3.connect(settings.local_root / "mlflow.db") as rows:
        rows.execute("ALTER TABLE registered_model_aliases RENAME TO gone")
        rows.execute("ALTER TABLE model_versions RENAME TO away")
    silent("broken", settings)
    with sqlite3.connect(settings.local_root / "mlflow.db") as rows:
        rows.execute("ALTER TABLE gone RENAME TO registered_model_aliases")
        rows.execute("ALTER TABLE away RENAME TO model_versions")
    assert alias_holder(client, "broken", "champion") == "2"
    assert rollback(settings, "broken") == "1"


def test_the_command_line_says_it_in_a_line(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    versions(settings, "line", GOOD)
    with sqlite3.connect(settings.local_root / "mlflow.db") as rows:
        rows.execute("ALTER TABLE model_versions RENAME TO away")
    for words in (["promote", "line", "1"], ["rollback", "line"], ["chat", "line@champion", "-q", "1"]):
        monkeypatch.setattr(sys, "argv", ["deepmill", *words])
        with pytest.raises(SystemExit) as left:
            main()
        assert left.value.code == 1
        told = capsys.readouterr().err
        assert told.startswith("error MLflow does not answer as it should"), told
        assert len(told.splitlines()) == 1
        assert "not in the registry" not in told


def test_what_is_absent_is_absent(settings: Settings) -> None:
    client = versions(settings, "there", GOOD)
    assert alias_holder(client, "there", "champion") is None
    assert alias_holder(client, "nobody", "champion") is None
    assert audit(settings, "nobody").version is None
    for version in ("7", "two", "-1"):
        with pytest.raises(UserError, match=f"there version {version}: not in the registry"):
            registered_version(client, "there", version)


@pytest.fixture
def flaky(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Settings, Faults]]:
    """A real tracking server behind a proxy that refuses what it is told to."""
    faults = Faults()
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("DEEPMILL_ROOT", str(tmp_path / "here"))
    with faulty(server, faults) as address:
        monkeypatch.setenv("DEEPMILL_TRACKING_URI", address)
        yield Settings(), faults


@pytest.mark.parametrize("status", [403, 404, 500, 503])
def test_a_server_that_refuses_the_alias_alone(flaky: tuple[Settings, Faults], status: int) -> None:
    """A challenger that is worse than the champion, and a server that does not say who the champion is."""
    settings, faults = flaky
    worse = GOOD | {"accuracy": 0.45, "accuracy_low": 0.4, "accuracy_high": 0.49}
    best = GOOD | {"accuracy_low": 0.55}
    name = f"served-{status}"
    client = versions(settings, name, best, best, worse, source="s3://models")
    promote_by_hand(settings, name, "1", CONFIG, force=False)
    promote_by_hand(settings, name, "2", CONFIG, force=False)
    faults.refuse, faults.status = "registered-models/alias", status
    for force in (False, True):
        with pytest.raises(MlflowException):
            promote_by_hand(settings, name, "3", CONFIG, force=force)
    with pytest.raises(MlflowException):
        rollback(settings, name)
    assert faults.refused
    faults.refuse = ""
    assert alias_holder(client, name, "champion") == "2"
    assert rollback(settings, name) == "1"


def test_no_other_registry_is_read_in_place_of_one_that_is_away(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The servers of `deepmill up` on another machine are down: the empty registry beside the store is not theirs."""
    from flows.operations.connection import connect

    (port,) = free_ports()
    monkeypatch.setenv("DEEPMILL_SERVERS", "127.0.0.1")
    monkeypatch.setenv("DEEPMILL_MLFLOW_PORT", str(port))
    monkeypatch.setenv("DEEPMILL_TRACKING_URI", "to be restored")
    monkeypatch.delenv("DEEPMILL_TRACKING_URI")
    assert not connect(settings)
    assert Settings().tracking_uri == f"http://127.0.0.1:{port}"
