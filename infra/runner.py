"""Makes one artifact: lease, staging, supervised process, publication. The flows call `make` and are told of progress.

What can go wrong ends in one of three ways: `UserError` (one line, the user can mend it), `StageError` (the stage
broke; its log is named) or `StageKilledError` (a signal; running again resumes).
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from infra import cleanup_hooks, events
from infra import execution as execution_module
from infra.digests import Take
from infra.disk import disk_problem
from infra.errors import DeepmillError, UserError
from infra.events import Begun, Listener, Noted, Stuck, Waiting
from infra.execution import Execution
from infra.fingerprint import environment, fingerprint, has_changed, packages
from infra.hashing import digest
from infra.json_objects import JsonObject
from infra.kept_parts import FOLDER, PartsPlace, installed
from infra.manifest import Manifest, record_files, split_address
from infra.processes import python_path
from infra.stage_job import Outcome, StageJob
from infra.stage_process import Begin, begin
from infra.store import Send, Staging, Store
from infra.threads import patience

__all__ = ["Elsewhere", "Job", "StageError", "StageKilledError", "StageTimeoutError", "drift", "make", "rebuild"]

POLL_SECONDS = 0.05
FULL = 1 << 20
"""Bytes free on a disk that counts as full."""


class StageError(DeepmillError):
    """A stage broke; the text names what and where its log is."""


class StageKilledError(DeepmillError):
    """A signal ended a stage; the same command resumes it."""


class StageTimeoutError(StageKilledError):
    """A stage was stopped because it took too long, or reported nothing for too long."""


@dataclass(frozen=True)
class Elsewhere:
    """What does the work around a stage that grows with its bytes: the tasks of a cluster."""

    take: Take
    """Checksums."""
    send: Send
    """To the store."""


@dataclass(frozen=True)
class Job:
    """All that is needed to make one artifact."""

    stage: str
    version: int
    identity: str
    entrypoint: str
    config: JsonObject
    inputs: Mapping[str, str] = field(default_factory=dict)
    """``stage/identity`` of each input artifact, by the role it plays."""
    external: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of each file from outside the store."""
    execution: Execution = field(default_factory=Execution)
    run_id: str = ""
    keep_parts: bool = False
    """Whether what single tasks make is kept for later artifacts, and taken from earlier ones."""
    imports: tuple[str, ...] = ()
    """Modules that the stage imports as it runs, which a run may do once for all its stages."""


def make(
    store: Store,
    job: Job,
    listen: Listener,
    *,
    stale: Callable[[Manifest], bool] = lambda manifest: False,
    elsewhere: Elsewhere | None = None,
) -> tuple[Manifest, bool]:
    """The manifest of the artifact of `job`, and whether it was there already.

    `listen` gets the stage's events, and `Waiting` while another run makes the artifact.
    An artifact that is `stale` is made again and replaced once the new one is ready. Checksums and uploads of many
    bytes are left to `elsewhere`.

    Raises:
        UserError, StageError, StageKilledError: there is no artifact; what was done is kept for the next attempt.
    """

    def found() -> Manifest | None:
        manifest = store.find(job.stage, job.identity)
        return None if manifest and stale(manifest) else manifest

    if manifest := found():
        return manifest, True
    with store.lease(job.stage, job.identity, lambda holder: listen(Waiting(holder=holder))) as lease:
        if manifest := found():
            return manifest, True
        staging = store.staging(job.stage, job.identity)
        manifest = _build(store, job, staging, listen, lease, elsewhere)
        try:
            if present := store.find(job.stage, job.identity):
                if not stale(present):  # this process was frozen, its lease ran out, and another run was quicker
                    staging.remove()
                    return present, True
                store.withdraw(job.stage, job.identity)
            store.publish(staging, manifest, elsewhere.send if elsewhere else None)
        except OSError as error:
            raise _disk_error(error, staging.folder) from error
        return manifest, False


def drift(store: Store, job: Job, manifest: Manifest) -> str:
    """Why an artifact is not what today's code would make of today's inputs; empty when it is."""
    if has_changed(manifest.fingerprint, job.entrypoint):
        return "the code has changed since it was made"
    for role, where in job.inputs.items():
        current = store.find(*split_address(where))
        if current and manifest.input_contents.get(role, current.content) != current.content:
            return f"{current.stage} was made again and came out different"
    return ""


def rebuild(store: Store, job: Job, listen: Listener) -> Manifest:
    """Make the artifact of `job` again from its published inputs, look at the bytes, and throw them away."""
    with store.lease(f"rerun-{job.stage}", job.identity, lambda holder: None) as lease:
        staging = store.staging(job.stage, job.identity, ".rerun")
        staging.remove()
        try:
            return _build(store, job, staging, listen, lease)
        finally:
            staging.remove()


def _build(
    store: Store,
    job: Job,
    staging: Staging,
    listen: Listener,
    lease: int | None,
    elsewhere: Elsewhere | None = None,
) -> Manifest:
    code = fingerprint(job.entrypoint)
    started, clock = datetime.now(UTC), time.monotonic()
    try:
        if staging.prepare(code) and (finished := staging.finished()):
            return finished  # made before, but the store could not take it
        if staging.set_aside is not None:
            text = (
                f"begins anew: the code has changed; what was half made waits in {staging.set_aside} for the old code"
            )
            listen(Noted(text=text))
        take = elsewhere.take if elsewhere else None
        inputs = {role: str(store.verified(*split_address(where), take)) for role, where in job.inputs.items()}
        order = StageJob(
            entrypoint=job.entrypoint,
            config=job.config,
            inputs=inputs,
            out_dir=str(staging.artifact),
            result=str(staging.result),
            parts=_parts(store, job, code) if job.keep_parts else None,
        )
        staging.job.write_text(order.model_dump_json())
        status, spent = _run(job, staging, listen, lease)
        metrics = _metrics(job.stage, staging, status)
        listen(Begun(phase="checksums", total=0, unit="files"))
        files, content = record_files(staging.artifact, take)
    except OSError as error:
        raise _disk_error(error, staging.folder) from error
    return Manifest(
        stage=job.stage,
        version=job.version,
        identity=job.identity,
        config=job.config,
        inputs=dict(job.inputs),
        input_contents={
            role: found.content for role, where in job.inputs.items() if (found := store.find(*split_address(where)))
        },
        external=dict(job.external),
        files=files,
        content=content,
        fingerprint=code,
        packages=packages(),
        environment=environment(),
        execution=job.execution.model_dump(mode="json"),
        metrics=metrics,
        cost=_cost(job, spent, time.monotonic() - clock),
        started=started.isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - clock, 2),
        run_id=job.run_id,
    )


def _parts(store: Store, job: Job, code: str) -> PartsPlace:
    """Where the stage keeps parts: what made them is the code, and any package there is."""
    folder = (store.local / FOLDER / job.stage).absolute()
    return PartsPlace(folder=str(folder), made_by=digest([code, *installed()]), external=dict(job.external))


def _cost(job: Job, cpu_seconds: float, seconds: float) -> dict[str, float]:
    gpus = len(list(Path("/proc/driver/nvidia/gpus").glob("*"))) if job.entrypoint.startswith("model.") else 0
    return {"cpu_seconds": round(cpu_seconds, 2), "gpu_seconds": round(seconds * min(gpus, job.execution.ranks), 2)}


def _run(job: Job, staging: Staging, listen: Listener, lease: int | None) -> tuple[int, float]:
    """Run the stage's process under its supervisor and pass its events on; its exit status and processor seconds."""
    variables = {
        **os.environ,
        **patience(os.environ),
        cleanup_hooks.ENVIRONMENT_KEY: str(staging.cleanup_hooks),
        events.ENVIRONMENT_KEY: str(staging.events),
        execution_module.ENVIRONMENT_KEY: job.execution.model_dump_json(),
        "PYTHONPATH": python_path(),
        "PYTHONWARNINGS": "ignore",
    }
    reader = events.EventReader(staging.events)
    with staging.log.open("ab") as log:
        modules = (job.entrypoint.split(":")[0], *job.imports)
        process = begin(Begin(staging.job, modules, variables, log.fileno(), lease))
    watch = _Watch(job, listen)
    try:
        while (status := process.poll()) is None:
            for event in reader.new():
                listen(event)
                watch.progress()
            watch.look()
            time.sleep(POLL_SECONDS)
    except BaseException:
        process.stop()
        raise
    for event in reader.new():
        listen(event)
    return status, process.cpu_seconds


class _Watch:
    """Notices a stage that takes too long, or that says nothing any more."""

    def __init__(self, job: Job, listen: Listener) -> None:
        self._job, self._listen = job, listen
        self._began = self._heard = self._told = time.monotonic()

    def progress(self) -> None:
        self._heard = self._told = time.monotonic()

    def look(self) -> None:
        """Tell of a stuck stage, once per `stuck_minutes`.

        Raises:
            StageTimeoutError: it has to be stopped.
        """
        now, execution = time.monotonic(), self._job.execution
        limit = execution.time_limit_minutes
        if limit and now - self._began > 60 * limit:
            raise StageTimeoutError(
                f"{self._job.stage}: stopped after {limit:g} minutes, its execution.time_limit_minutes; "
                "run the same command to go on from where it was"
            )
        if now - self._told > 60 * execution.stuck_minutes:
            self._told = now
            minutes = (now - self._heard) / 60
            if execution.stop_stuck:
                raise StageTimeoutError(
                    f"{self._job.stage}: stopped, for it reported no progress for {minutes:.3g} minutes; "
                    "run the same command to go on from where it was"
                )
            self._listen(Stuck(minutes=minutes))


def _metrics(stage: str, staging: Staging, status: int) -> JsonObject:
    if staging.result.exists():
        outcome = Outcome.of(staging.result.read_text())
        if outcome.failure is None:
            return outcome.metrics or {}
        if outcome.failure.kind == "user":
            raise UserError(outcome.failure.error)
        raise StageError(f"{stage}: {outcome.failure.error}; the whole story is in {staging.log}")
    if status > 128:
        name = signal.Signals(status - 128).name
        hint = " (out of memory?)" if name == "SIGKILL" else ""
        raise StageKilledError(f"{stage}: stopped by {name}{hint}; run the same command to go on from where it was")
    if shutil.disk_usage(staging.folder).free < FULL:  # no room for the stage to say so
        raise _disk_error(OSError(errno.ENOSPC, "No space left on device"), staging.folder)
    raise StageError(f"{stage}: left with status {status} and no result; the whole story is in {staging.log}")


def _disk_error(error: OSError, folder: Path) -> DeepmillError:
    if problem := disk_problem(error, folder):
        return UserError(problem)
    return StageError(f"{error.filename or folder}: {error}")
