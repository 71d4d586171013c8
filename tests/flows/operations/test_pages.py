"""The pages beside Prefect and MLflow: overview, reports, artifacts, numbers for Prometheus, behind the login."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from flows.operations.overview import write_overview
from flows.operations.pages import create_app
from flows.run.server_settings import ServerSettings
from infra.settings import Settings
from infra.store import LocalStore
from tests.flows.example import example_run, identity
from tests.flows.operations.stores import record

RUN = "20261124-114612-sample-3f2a"


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    _, store = example_run(tmp_path)
    assert isinstance(store, LocalStore)
    record(store, "20261125-000000-tiny", {}, state="failed", error="notes.jsonl: record 7: not JSON")
    return store


def client(store: LocalStore, login: str = "") -> TestClient:
    return TestClient(create_app(Settings(root=str(store.root)), ServerSettings(login=login)))  # type: ignore[arg-type]


def test_overview_report_and_artifact(store: LocalStore) -> None:
    pages = client(store)
    overview = pages.get("/")
    assert overview.headers["content-security-policy"].startswith("default-src 'none'")
    for word in (RUN, "deepmill-sample v3", "notes.jsonl: record 7: not JSON"):
        assert word in overview.text
    assert RUN in pages.get(f"/runs/{RUN}").text
    assert "data.bin" in pages.get(f"/artifacts/pretrain/{identity('pretrain')}").text
    for path in ("/runs/nothing", "/runs/..%2f..%2fetc", "/artifacts/pretrain/nothing", "/artifacts/..%2f/x"):
        assert pages.get(path).status_code == 404, path


def test_a_login_is_asked_for(store: LocalStore) -> None:
    pages = client(store, "team:not-a-secret-in-a-test")
    for path in ("/", "/metrics", f"/runs/{RUN}"):
        assert pages.get(path).status_code == 401
        assert pages.get(path, auth=("team", "something-else-entirely")).status_code == 401
        assert pages.get(path, auth=("team", "not-a-secret-in-a-test")).status_code == 200
    assert pages.get("/health").status_code == 200


def test_prometheus_reads_the_metrics(store: LocalStore) -> None:
    text = client(store).get("/metrics").text
    found = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found["deepmill_runs", (("recipe", "sample"), ("state", "completed"))] == 1
    assert found["deepmill_runs", (("recipe", "tiny"), ("state", "failed"))] == 1
    assert found["deepmill_last_run_seconds", (("recipe", "sample"),)] == 252
    assert found["deepmill_stage_seconds", (("recipe", "sample"), ("stage", "pretrain"))] == 12.3
    assert ("deepmill_stage_seconds", (("recipe", "sample"), ("stage", "extract"))) not in found  # it was cached
    assert found["deepmill_store_free_bytes", ()] > 0


def test_the_overview_as_a_file(store: LocalStore) -> None:
    page = write_overview(store).read_text()
    assert f"{RUN}.html" in page
    assert "http://" not in page
