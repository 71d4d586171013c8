"""The page to open in the morning: what runs, how the last nights went, who is champion, what comes next, what failed.

All of it is read from the store's records and manifests, but for the schedule, which Prefect is asked for.
"""

from __future__ import annotations

import shutil
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from statistics import fmean
from threading import Lock

from flows.operations.schedule import Coming
from flows.report.report import write_report
from flows.report.sparkline import sparkline
from flows.report.templating import templates
from flows.run.links import links_of
from flows.run.record import GateRecord, RunRecord, read_record
from flows.run.time_left import TimeLeft
from infra.durable import write_durably
from infra.errors import DeepmillError
from infra.events import Advanced, Begun, Event, EventReader, Measured
from infra.manifest import Manifest
from infra.store import Store
from infra.units import decimal, duration, percent, size

__all__ = [
    "OverviewRow",
    "Progress",
    "ProgressReader",
    "overview_page",
    "write_overview",
]

RUNS_SHOWN = 60
NIGHTS = 14
"""Runs of a recipe whose trend is drawn."""
FEW_BYTES = 10 << 30
"""Free space below which the disk is a worry."""
MOST_FAILURES = 5


@dataclass(frozen=True)
class Progress:
    """How far the stage is that a run is at."""

    stage: str
    phase: str = ""
    done: float = 0
    total: float = 0
    """0 where nobody knows."""
    unit: str = ""
    loss: float | None = None
    left: float | None = None
    """Seconds of this phase; None while that cannot be known."""

    @property
    def share(self) -> float | None:
        """Of the phase that is done."""
        return min(1.0, self.done / self.total) if self.total else None


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
    planned: int
    """Stages that it was to have."""
    model: str
    promoted: bool
    gates: Sequence[GateRecord]
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
            planned=max(len(record.plan), len(record.stages)),
            model=f"{release.model} v{release.version}" if release.version else "",
            promoted=release.promoted,
            gates=release.gates,
            accuracy=next((gate.value for gate in release.gates if gate.gate == "accuracy"), None),
            error=(record.error or "").split("\n")[0],
            links={title: where for title, where in links_of(record).items() if title != "Report"},
        )


@dataclass(frozen=True)
class Trend:
    """One number of a recipe over its last runs."""

    what: str
    last: str
    drawn: str
    """An SVG; empty where there are fewer than two runs that have it."""


class ProgressReader:
    """How far the stages are that run, by their events; only those are read that came since it was asked before."""

    def __init__(self) -> None:
        self._followed: dict[str, _Followed] = {}
        self._turn = Lock()

    def read(self, running: Mapping[str, tuple[str, Path]], now: float) -> dict[str, Progress]:
        """By run, how far its stage is. Other runs than these are forgotten: a server lives for months.

        Args:
            running: the stage that each run is at, and the file of its events.
            now: in seconds since 1970, as events say when they were written.
        """
        with self._turn:
            self._followed = {run_id: self._follow(run_id, *at) for run_id, at in running.items()}
            return {run_id: followed.progress(now) for run_id, followed in self._followed.items()}

    def _follow(self, run_id: str, stage: str, path: Path) -> _Followed:
        found = self._followed.get(run_id)
        if found is None or found.reader.path != path or _bytes(path) < found.reader.offset:  # begun again
            found = _Followed(stage, EventReader(path))
        for event in found.reader.new():
            found.take(event)
        return found


@dataclass
class _Followed:
    """What the events of one stage have said."""

    stage: str
    reader: EventReader
    phase: str = ""
    unit: str = ""
    loss: float | None = None
    rate: TimeLeft = field(default_factory=lambda: TimeLeft(0))

    def take(self, event: Event) -> None:
        match event:
            case Begun():
                self.phase, self.unit, self.loss = event.phase, event.unit, None
                self.rate = TimeLeft(event.total, event.done)
            case Advanced() if event.at is not None:
                self.rate.advance(event.amount, event.at)
            case Advanced():
                self.rate.done += event.amount
            case Measured():
                self.loss = event.values.get("loss", self.loss)

    def progress(self, now: float) -> Progress:
        left = self.rate.seconds(now) if self.rate.total else None
        return Progress(self.stage, self.phase, self.rate.done, self.rate.total, self.unit, self.loss, left)


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def overview_page(
    store: Store,
    links: Mapping[str, str],
    coming: Sequence[Coming] | None = None,
    reader: ProgressReader | None = None,
) -> str:
    """The overview as one HTML page.

    Args:
        links: of its head, title to address; none where the page is a file.
        coming: what is scheduled; None where nobody could be asked.
        reader: kept from one page to the next, or all events of what runs are read for each.
    """
    found = [record for name in reversed(store.runs()[-RUNS_SHOWN:]) if (record := read_record(store, name))]
    rows = [OverviewRow.of(record) for record in found]
    progress = (reader or ProgressReader()).read(_running(found, store), time.time())
    page = templates().get_template("overview.html")
    return page.render(
        rows=rows,
        running=[(row, progress.get(row.run_id)) for row in rows if _runs(row)],
        nights=list(_nights(found, rows, store)),
        champions=list(_champions(rows)),
        failures=[row for row in rows if row.state in ("failed", "interrupted")][:MOST_FAILURES],
        cards=_cards(rows, store),
        coming=coming,
        links=links,
        store=_address(store),
        served=bool(links),
        now=datetime.now(UTC).strftime("%-d %B %Y, %H:%M UTC"),
    )


def write_overview(store: Store) -> Path:
    """The overview as a file beside the reports, for where nothing is served."""
    path = store.local / "runs" / "index.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    for name in store.runs()[-RUNS_SHOWN:]:
        report = path.parent / f"{name}.html"
        if not report.exists() and (record := read_record(store, name)):
            write_report(record, store, report)
    write_durably(path, overview_page(store, {}).encode())
    return path


def _running(records: Iterable[RunRecord], store: Store) -> dict[str, tuple[str, Path]]:
    """By run that is at a stage, this stage and where on this machine its events are."""
    return {
        record.run_id: (name, store.staging(name, stage.identity).events)
        for record in records
        if record.state_now == "running"
        for name, stage in record.stages.items()
        if stage.state == "running"
    }


def _address(store: Store) -> str:
    """Of the store, whole: a folder that is named from somewhere says little on a page."""
    return store.address if "://" in store.address else str(Path(store.address).resolve())


def _runs(row: OverviewRow) -> bool:
    return row.state == "running"


def _nights(
    found: Sequence[RunRecord], rows: Sequence[OverviewRow], store: Store
) -> Iterator[tuple[str, list[OverviewRow], list[Trend]]]:
    """For each recipe its last runs, the oldest first, and how its numbers went."""
    by_recipe: dict[str, list[tuple[RunRecord, OverviewRow]]] = defaultdict(list)
    for record, row in zip(found, rows, strict=True):
        if len(by_recipe[record.recipe_name]) < NIGHTS:
            by_recipe[record.recipe_name].insert(0, (record, row))
    for recipe, pairs in by_recipe.items():
        yield recipe, [row for _, row in pairs], trends_of([record for record, _ in pairs], store)


def trends_of(found: Sequence[RunRecord], store: Store) -> list[Trend]:
    """Accuracy, bits per byte, CPU hours and time of completed runs, in their order."""
    done = [record for record in found if record.state == "completed"]
    numbers = {
        "accuracy": ([_evaluated(record, store, "accuracy") for record in done], percent),
        "bits per byte": ([_evaluated(record, store, "bits_per_byte") for record in done], decimal),
        "CPU hours": ([_processor_hours(record, store) for record in done], decimal),
        "time": ([record.seconds for record in done], duration),
    }
    trends = []
    for what, (values, form) in numbers.items():
        known = [value for value in values if value is not None]
        if known:
            trends.append(Trend(what, form(known[-1]), sparkline(known, f"{what}: {', '.join(map(form, known))}")))
    return trends


def _evaluated(record: RunRecord, store: Store, what: str) -> float | None:
    """A measure of the served weights or of the last checkpoint that the run's evaluation tells of, the mean over its
    sources."""
    manifest = _manifest(record, store, "evaluate_release") or _manifest(record, store, "evaluate")
    if manifest is None:
        return None
    numbers = {name: float(value) for name, value in manifest.metrics.items() if isinstance(value, int | float)}
    checkpoints = [name.removeprefix("loss_") for name in numbers if name.startswith("loss_")]
    mine = f"{what}_{checkpoints[-1]}" if checkpoints else what
    found = [value for name, value in numbers.items() if name == mine or name.startswith(f"{mine}_")]
    return fmean(found) if found else None


def _processor_hours(record: RunRecord, store: Store) -> float | None:
    """That the stages took which the run made itself."""
    made = [name for name, stage in record.stages.items() if stage.state == "made"]
    costs = [manifest.cost.get("cpu_seconds", 0.0) for name in made if (manifest := _manifest(record, store, name))]
    return sum(costs) / 3600 if costs else None


def _manifest(record: RunRecord, store: Store, stage: str) -> Manifest | None:
    entry = record.stages.get(stage)
    is_there = entry is not None and entry.identity and entry.state not in ("running", "failed")
    if not (entry and is_there):
        return None
    try:
        return _kept_manifest(store, stage, entry.identity)
    except (OSError, DeepmillError, LookupError):
        return None  # one number less on a page


@lru_cache(maxsize=4096)
def _kept_manifest(store: Store, stage: str, identity: str) -> Manifest:
    """A manifest, which never changes once it is there: the page asks for the same ones every half minute.

    What is raised is not kept: a store that did not answer may do so the next time.

    Raises:
        LookupError: there is none; OSError, DeepmillError: see `Store.find`.
    """
    manifest = store.find(stage, identity)
    if manifest is None:
        raise LookupError(f"{stage}/{identity}: not there")
    return manifest


def _champions(rows: Sequence[OverviewRow]) -> Iterator[OverviewRow]:
    """The latest promotion of each model."""
    seen = set()
    for row in rows:
        name = row.model.rpartition(" ")[0]
        if row.promoted and name not in seen:
            seen.add(name)
            yield row


def _cards(rows: Sequence[OverviewRow], store: Store) -> list[tuple[str, str, str]]:
    """The few numbers at the top: value, what it is, and a remark."""
    ended = [row for row in rows if not _runs(row)]
    good = [row for row in ended if row.state == "completed"]
    disk = shutil.disk_usage(store.local)
    low = "! little is left: deepmill gc" if disk.free < FEW_BYTES else f"of {size(disk.total)}"
    return [
        (str(len(rows) - len(ended)), "running", ""),
        (percent(len(good) / len(ended)) if ended else "–", "of the latest runs completed", f"{len(ended)} ended"),
        (size(disk.free), "free on the store's disk", low),
    ]
