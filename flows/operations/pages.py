"""Serves what no other UI shows: an overview of the runs, their reports, the artifacts, and numbers for Prometheus.

Reads the store at every request and writes nothing but reports. Asks for the login of the settings, as Prefect and
MLflow do; ``/health`` is open.
"""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, Response

from flows.operations.overview import ProgressReader, overview_page
from flows.operations.schedule import coming_runs
from flows.report.report import write_report
from flows.report.templating import templates
from flows.run.record import RunRecord, read_record, report_file
from flows.run.server_settings import ServerSettings
from infra.login_guard import LoginGuard
from infra.open_store import open_store
from infra.settings import Settings
from infra.store import Store

__all__ = ["create_app"]

CONTENT = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; frame-ancestors 'none'"
REFRESH_SECONDS = "30"
"""After which the overview is asked for again: it may hang on a wall."""


def create_app(settings: Settings, servers: ServerSettings) -> FastAPI:
    """The application; the store is opened once."""
    app = FastAPI(title="Deepmill", docs_url=None, redoc_url=None, openapi_url=None)
    store = open_store(settings)
    reader = ProgressReader()

    @app.middleware("http")
    async def harden(request: Request, proceed: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await proceed(request)
        response.headers["Content-Security-Policy"] = CONTENT
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    if credential := servers.credentials():
        app.add_middleware(LoginGuard, credential=credential, is_open=lambda scope: scope["path"] == "/health")

    @app.get("/health")
    def health() -> PlainTextResponse:
        return PlainTextResponse("ok")

    @app.get("/")
    def overview() -> HTMLResponse:
        links = {"Prefect": servers.prefect_url, "MLflow": servers.mlflow_url, "metrics": "/metrics"}
        page = overview_page(store, links, coming_runs(servers), reader)
        return HTMLResponse(page, headers={"Refresh": REFRESH_SECONDS})

    @app.get("/runs/{run_id}")
    def report(run_id: str) -> Response:
        record = read_record(store, run_id) if run_id in store.runs() else None
        if record is None:
            return PlainTextResponse(f"{run_id}: no such run", 404)
        path = report_file(store, run_id)
        if record.state == "running" or not path.exists():
            write_report(record, store, path)
        return HTMLResponse(path.read_text(encoding="utf-8"))

    @app.get("/artifacts/{stage}/{identity}")
    def artifact(stage: str, identity: str) -> Response:
        manifest = store.find(stage, identity) if stage.isidentifier() and identity.isalnum() else None
        if manifest is None:
            return PlainTextResponse(f"{stage}/{identity}: no such artifact", 404)
        page = templates().get_template("artifact.html").render(manifest=manifest, place=store.place(stage, identity))
        return HTMLResponse(page)

    @app.get("/metrics")
    def metrics() -> Response:
        from prometheus_client import CONTENT_TYPE_LATEST

        return Response(prometheus_text(store), media_type=CONTENT_TYPE_LATEST)

    return app


def prometheus_text(store: Store) -> bytes:
    """The state of the mill in Prometheus' format, from the records of the runs."""
    from prometheus_client import CollectorRegistry, Gauge, generate_latest

    registry = CollectorRegistry()

    def gauge(name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"deepmill_{name}", text, labels, registry=registry)

    runs = gauge("runs", "Runs on record, by state", "recipe", "state")
    last = gauge("last_run_seconds", "Duration of the latest run that ended", "recipe")
    success = gauge("last_success_timestamp_seconds", "When a run last completed", "recipe")
    stages = gauge("stage_seconds", "What a stage took when it was last made", "recipe", "stage")
    gauge("store_free_bytes", "Free on the disk of the local store").set(shutil.disk_usage(store.local).free)
    for name in store.runs():
        record = read_record(store, name)
        if record is None:
            continue
        recipe = record.recipe_name
        runs.labels(recipe, record.state_now).inc()
        if record.ended:
            last.labels(recipe).set(record.seconds or 0.0)
        if record.state == "completed" and record.ended:
            success.labels(recipe).set(datetime.fromisoformat(record.ended).timestamp())
        _stage_seconds(stages, record)
    return bytes(generate_latest(registry))


def _stage_seconds(gauge: Any, record: RunRecord) -> None:
    for stage, entry in record.stages.items():
        if entry.state == "made":
            gauge.labels(record.recipe_name, stage).set(entry.seconds)
