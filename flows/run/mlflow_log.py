"""Logs a run to MLflow from a thread of its own: importing MLflow and writing to it never holds up a stage.

Everything is queued in order. A failure is told once, and the work goes on without the log.
"""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Mapping

from flows.recipe.plan import PlannedStage
from flows.run.record import RUN_ID, RunRecord
from infra.errors import first_line
from infra.events import Event, Measured
from infra.json_objects import flatten
from infra.manifest import Manifest
from infra.settings import Settings, without_password
from infra.tracking import RunLog, Tracker

__all__ = ["MlflowLog", "StageLog"]

CLOSE_SECONDS = 60.0
HURRY_SECONDS = 4.0
"""For a run that was cancelled or failed: whoever stopped it waits for the process to be gone."""


class MlflowLog:
    """The parent run, and the queue that all writes go through."""

    def __init__(self, settings: Settings, record: RunRecord, tell: Callable[[str], None]) -> None:
        self._settings, self._tell = settings, tell
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._tracker: Tracker | None = None
        self._parent: RunLog | None = None
        self.trouble = ""
        """Why the run is not, or not wholly, in MLflow; empty as long as all goes well."""
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()
        name, recipe = record.run_id, record.recipe
        tags = {
            RUN_ID: name,
            "deepmill.recipe": record.recipe_name,
            "deepmill.revision": record.revision,
        }

        def begin() -> None:
            self._tracker = Tracker(self._settings)
            self._parent = self._tracker.start(name, tags)
            self._parent.parameters({"recipe": recipe["name"], "execution": recipe["execution"]})
            self._parent.text(json.dumps(recipe, indent=2, sort_keys=True), "recipe.json")

        self._put(begin)

    def _put(self, action: Callable[[], None]) -> None:
        self._queue.put(action)

    def _work(self) -> None:
        while (action := self._queue.get()) is not None:
            if self.trouble:
                continue
            try:
                action()
            except Exception as error:
                self._fail(first_line(error))

    def _fail(self, reason: str) -> None:
        self.trouble = f"MLflow does not take the log of this run ({reason}); the run goes on without"
        self._tell(self.trouble)

    @property
    def ids(self) -> dict[str, str]:
        """Where the parent run is; empty as long as it is not there."""
        if self._tracker is None or self._parent is None:
            return {}
        return {
            "uri": without_password(self._settings.mlflow_uri),
            "experiment_id": self._tracker.experiment,
            "run_id": self._parent.run_id,
        }

    def stage(self, item: PlannedStage, inputs: Mapping[str, Manifest]) -> StageLog:
        """Open the child run of a stage."""
        return StageLog(self, item, inputs)

    def describe(self, text: Callable[[], str]) -> None:
        """Show Markdown as the description of the parent run; `text` is asked for once the run is there."""
        self._put(lambda: self._parent.tags({"mlflow.note.content": text()}) if self._parent else None)

    def flush(self) -> dict[str, str]:
        """Wait until everything so far is written; where the parent run is."""
        done = threading.Event()
        self._queue.put(done.set)
        if not self.trouble:
            done.wait(CLOSE_SECONDS)
        return self.ids

    def close(self, state: str) -> dict[str, str]:
        """End the parent run; where it is, and what trouble there was."""
        status = {"completed": "FINISHED", "failed": "FAILED"}.get(state, "KILLED")
        self._put(lambda: self._parent.end(status) if self._parent else None)
        self._queue.put(None)
        seconds = CLOSE_SECONDS if state == "completed" else HURRY_SECONDS
        self._thread.join(seconds)
        if self._thread.is_alive() and not self.trouble:
            self._fail(f"it was not done {seconds:.0f} s after the end")
        return self.ids | ({"trouble": self.trouble} if self.trouble else {})


class StageLog:
    """The child run of one stage."""

    def __init__(self, log: MlflowLog, item: PlannedStage, inputs: Mapping[str, Manifest]) -> None:
        self._log, self._item = log, item
        self._run: RunLog | None = None
        name, job = item.stage.name, item.job

        def begin() -> None:
            assert log._tracker is not None
            assert log._parent is not None
            tags = {"deepmill.stage": name, "deepmill.identity": job.identity, "deepmill.why": item.why}
            self._run = log._tracker.start(name, tags, parent=log._parent.run_id)
            self._run.parameters(job.config)
            for manifest in inputs.values():
                profile = json.dumps({"files": len(manifest.files), "bytes": manifest.size})
                self._run.dataset(manifest.stage, manifest.content, manifest.address, profile, "input")

        log._put(begin)

    def event(self, event: Event) -> None:
        """Pass a series on."""
        if isinstance(event, Measured):
            self._log._put(lambda: self._run.metrics(event.values, event.step) if self._run else None)

    def end(self, status: str, manifest: Manifest | None, place: str = "") -> None:
        """Log what came out, and close."""

        def finish() -> None:
            if self._run is None or self._log._parent is None:
                return
            if manifest is not None:
                name = self._item.stage.name
                self._run.metrics({**manifest.metrics, "seconds": manifest.seconds, "bytes": manifest.size})
                self._run.tags({"deepmill.content": manifest.content, "deepmill.artifact": place})
                self._run.text(manifest.model_dump_json(indent=2), "manifest.json")
                numbers = {key: value for key, value in flatten(manifest.metrics).items() if key.count(".") == 0}
                self._log._parent.metrics({f"{name}.{key}": value for key, value in numbers.items()})
            self._run.end(status)

        self._log._put(finish)
