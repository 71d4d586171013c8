"""Looks at everything a run needs and says, line by line, what is right and what to do about what is not."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from flows.operations.connection import connect, servers_up
from flows.run.server_settings import ServerSettings
from infra.errors import DeepmillError, first_line
from infra.relocation import moved
from infra.settings import DATABASE, Settings, without_password
from infra.units import size

__all__ = ["Finding", "examine"]

PINNED = ("prefect", "mlflow", "fastapi", "sqlalchemy", "torch", "deepspeed", "transformers", "datatrove", "pyarrow")
LEAST_FREE = 5 << 30
CRON_SECONDS = 150
"""A cron run starts at a full minute, and the scheduler looks every few seconds."""


@dataclass(frozen=True)
class Finding:
    """One line of the examination."""

    what: str
    good: bool
    text: str


def examine(settings: Settings, *, cron: bool = False) -> Iterator[Finding]:
    """Everything, in the order in which a first run would stumble over it; `cron` waits for a scheduled run."""
    servers = ServerSettings()
    checks: list[tuple[str, Callable[[], tuple[bool, str]]]] = [
        ("python", _python),
        ("packages", _packages),
        ("processors", _processors),
        ("gpu", _gpu),
        ("disk", lambda: _disk(settings)),
        ("store", lambda: _store(settings)),
        ("paths", lambda: _paths(settings)),
        ("mlflow", lambda: _mlflow(settings)),
        ("servers", lambda: _servers(settings, servers)),
    ]
    if cron:
        checks.append(("schedule", lambda: _cron(settings)))
    for what, check in checks:
        try:
            good, text = check()
        except DeepmillError as error:
            good, text = False, str(error)
        except Exception as error:
            good, text = False, f"{type(error).__name__}: {first_line(error)}"
        yield Finding(what, good, text)


def _python() -> tuple[bool, str]:
    good = sys.version_info[:2] == (3, 11)
    return good, f"{platform.python_version()}, {sys.prefix}" + ("" if good else "; the project wants 3.11")


def _packages() -> tuple[bool, str]:
    """The versions that only work together: pip does not see when they do not."""
    from packaging.requirements import Requirement

    wrong = []
    for line in importlib.metadata.requires("deepmill") or [] if _installed("deepmill") else []:
        wanted = Requirement(line)
        if wanted.marker and not wanted.marker.evaluate({"extra": ""}):
            continue
        if not _installed(wanted.name):
            wrong.append(f"{wanted.name} is missing")
        elif not wanted.specifier.contains(importlib.metadata.version(wanted.name), prereleases=True):
            wrong.append(f"{wanted.name} is {importlib.metadata.version(wanted.name)}, wants {wanted.specifier}")
    found = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PINNED if _installed(name))
    return not wrong, f"{'; '.join(wrong)}; set up again with make setup" if wrong else found


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _processors() -> tuple[bool, str]:
    import psutil

    cores = len(os.sched_getaffinity(0))
    memory = psutil.virtual_memory()
    return (
        memory.available > 4 << 30,
        f"{cores} cores, {size(memory.available)} of {size(memory.total)} memory available",
    )


def _gpu() -> tuple[bool, str]:
    """Asked of the driver, in its own program: importing torch takes seconds and may hang on a broken one."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return True, "none; training runs on the processors"
    command = [program, "--query-gpu=name,driver_version,memory.free", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    lines = (done.stdout or done.stderr).strip().splitlines() or ["no answer"]
    return done.returncode == 0, "; ".join(lines)


def _disk(settings: Settings) -> tuple[bool, str]:
    settings.local_root.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(settings.local_root).free
    return free > LEAST_FREE, f"{size(free)} free at {settings.local_root}" + (
        "" if free > LEAST_FREE else "; deepmill gc shows what is not needed"
    )


def _store(settings: Settings) -> tuple[bool, str]:
    """Write, read, list and delete: what a run does, and what rights on a bucket often lack one of."""
    from infra.open_store import open_store

    store = open_store(settings)
    started = time.monotonic()
    name = f"doctor-{os.getpid()}"
    store.write_note(name, {"pid": os.getpid()})
    if store.read_note(name) != {"pid": os.getpid()}:
        return False, f"{store.address}: what was written is not what is read"
    store.delete_note(name)
    runs = len(store.runs())
    return True, f"{store.address} takes and gives files in {1000 * (time.monotonic() - started):.0f} ms; {runs} runs"


def _paths(settings: Settings) -> tuple[bool, str]:
    """Whether the registry names its files where the store is."""
    stale = moved(settings.local_root)
    if stale:
        return (
            False,
            f"{stale} paths in the registry lead to where the store was; mend them: deepmill doctor --relocate",
        )
    return True, "the registry names its files in this store"


def _mlflow(settings: Settings) -> tuple[bool, str]:
    from infra.tracking import look_at_artifacts, registry_client

    connect(settings)
    now = Settings()
    if not now.tracking_uri and not (now.local_root / DATABASE).exists():
        return True, "no database yet; the first run makes it"
    client = registry_client(now)
    models = client.search_registered_models()
    place = look_at_artifacts(client, now.experiment)
    return True, f"{without_password(now.mlflow_uri)} answers; {len(models)} registered models; artifacts in {place}"


def _servers(settings: Settings, servers: ServerSettings) -> tuple[bool, str]:
    state = servers_up(settings)
    if state is None:
        servers.check()
        return True, "not up, and their ports are free; deepmill up starts them"
    told = ", ".join(f"{name} {entry.state}" for name, entry in state.services.items() if not entry.once)
    good = state.state == "up"
    return good, told if good else f"{told}; deepmill logs NAME says why"


def _cron(settings: Settings) -> tuple[bool, str]:
    """Deploy the heartbeat once a minute, wait until the scheduler, a worker and MLflow have played their part."""
    if not connect(settings):
        return False, "the servers are not up, so nothing is scheduled; deepmill up starts them"
    from flows.operations.deployments import Deployment, deploy
    from flows.operations.pools import UPKEEP

    pool = ServerSettings().deployed_pools[0]
    name = deploy(
        Deployment(
            "flows.operations.flows:heartbeat",
            f"doctor-{os.getpid()}",
            "Made by doctor.",
            cron="* * * * *",
            pool=pool,
            queue=UPKEEP,
            at_once=None,  # a deployment's limit goes with it, and a run that holds it could then not report its end
        )
    )
    started = time.monotonic()
    seen = "nothing was scheduled"
    try:
        for runs in _watch(name):
            if runs:
                seen = f"the latest run is {runs[0].state_name.lower()}" + (
                    f": {runs[0].state.message}" if runs[0].state and runs[0].state.message else ""
                )
            if any(run.state_type == "COMPLETED" for run in runs):
                return True, f"a cron run completed {time.monotonic() - started:.0f} s after it was deployed"
    finally:
        _undeploy(name)
    return (
        False,
        f"no cron run completed within {CRON_SECONDS} s ({seen}); deepmill logs shows the server's and worker's",
    )


def _watch(name: str) -> Iterator[list[Any]]:
    """The latest runs of a deployment that are due or ended, again and again, newest first.

    Not simply its newest runs: the scheduler makes those of the next hour beforehand, sixty of them.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import (
        DeploymentFilter,
        DeploymentFilterId,
        FlowRunFilter,
        FlowRunFilterExpectedStartTime,
    )
    from prefect.client.schemas.sorting import FlowRunSort

    deadline = time.monotonic() + CRON_SECONDS
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name(name)
        wanted = DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id]))
        while time.monotonic() < deadline:
            due = FlowRunFilter(expected_start_time=FlowRunFilterExpectedStartTime(before_=datetime.now(UTC)))
            yield client.read_flow_runs(
                flow_run_filter=due, deployment_filter=wanted, sort=FlowRunSort.EXPECTED_START_TIME_DESC, limit=5
            )
            time.sleep(2)


def _undeploy(name: str) -> None:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        client._client.delete(f"/deployments/{client.read_deployment_by_name(name).id}")
