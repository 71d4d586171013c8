"""Serves what no other UI shows: an overview of the runs, their reports, the artifacts, and numbers for Prometheus.

Reads the store at every request and writes nothing but reports. Asks for the login of the settings, as Prefect and
MLflow do; ``/health`` is open.
"""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, Response

from flows.report.report import write_report
from flows.report.templating import templates
from flows.run.links import links_of
from flows.run.record import RunRecord, read_record
from flows.run.server_settings import ServerSettings
from infra.durable import write_durably
from infra.login_guard import LoginGuard
from infra.open_store import open_store
from infra.settings import Settings
from infra.store import Store
from infra.units import percent, size

__all__ = ["create_app", "overview_page", "overview_rows", "prometheus_text", "write_overview"]

RUNS_SHOWN = 60
CONTENT = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; frame-ancestors 'none'"


def create_app(settings: Settings, servers: ServerSettings) -> FastAPI:
    """The application; the store is opened once."""
    app = FastAPI(title="Deepmill", docs_url=None, redoc_url=None, openapi_url=None)
    store = open_store(settings)

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

    @app.get("/", response_class=HTMLResponse)
    def overview() -> str:
        return overview_page(
            store, {"Prefect": servers.prefect_url, "MLflow": servers.mlflow_url, "metrics": "/metrics"}
        )

    @app.get("/runs/{run_id}")
    def report(run_id: str) -> Response:
        record = read_record(store, run_id) if run_id in store.runs() else None
        if record is None:
            return PlainTextResponse(f"{run_id}: no such run", 404)
        path = store.local / "runs" / f"{run_id}.html"
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


def overview_page(store: Store, links: Mapping[str, str]) -> str:
    """The latest runs as one HTML page; `links` are those of its head, title to address."""
    rows = overview_rows(store, RUNS_SHOWN)
    return (
        templates()
        .get_template("overview.html")
        .render(
            rows=rows,
            cards=_cards(rows, store),
            links=links,
            store=store.address,
            served=bool(links),
            now=datetime.now(UTC).strftime("%-d %B %Y, %H:%M UTC"),
        )
    )


def write_overview(store: Store) -> Path:
    """The overview as a file beside the reports, for where nothing is served."""
    path = store.local / "runs" / "index.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    for row in overview_rows(store, RUNS_SHOWN):
        report = path.parent / f"{row.run_id}.html"
        record = read_record(store, row.run_id)
        if record and not report.exists():
            write_report(record, store, report)
    write_durably(path, overview_page(store, {}).encode())
    return path


@dataclass(frozen=True)
class OverviewRow:
    """What a person wants to see of a run."""

    run_id: str
    recipe: str
    state: str
    started: str
    seconds: float | None
    made: int
    """Stages that the run made,"""
    stages: int
    """of so many."""
    model: str
    promoted: bool
    accuracy: float | None
    error: str
    links: Mapping[str, str]
    """Title to address."""

    @classmethod
    def of(cls, record: RunRecord) -> OverviewRow:
        """From the record of the run."""
        release = record.release
        return cls(
            run_id=record.run_id,
            recipe=record.recipe_name,
            state=record.state_now,
            started=record.started,
            seconds=record.seconds,
            made=sum(entry.state == "made" for entry in record.stages.values()),
            stages=len(record.stages),
            model=f"{release.model} v{release.version}" if release.version else "",
            promoted=release.promoted,
            accuracy=next((gate.value for gate in release.gates if gate.gate == "accuracy"), None),
            error=(record.error or "").split("\n")[0],
            links={title: where for title, where in links_of(record).items() if title != "Report"},
        )


def overview_rows(store: Store, limit: int) -> list[OverviewRow]:
    """The latest runs, newest first."""
    found = (read_record(store, name) for name in reversed(store.runs()[-limit:]))
    return [OverviewRow.of(record) for record in found if record is not None]


def _cards(rows: list[OverviewRow], store: Store) -> list[tuple[str, str, str]]:
    """The few numbers at the top: value, what it is, and a remark."""
    ended = [row for row in rows if row.state != "running"]
    good = [row for row in ended if row.state == "completed"]
    champion = next((row for row in rows if row.promoted), None)
    cards = [
        (str(len(rows) - len(ended)), "running", ""),
        (percent(len(good) / len(ended)) if ended else "–", "of the latest runs completed", f"{len(ended)} ended"),
        (size(shutil.disk_usage(store.local).free), "free", str(store.local)),
    ]
    if champion:
        cards.append((champion.model, "latest promotion", champion.started[:10]))
    return cards


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
