"""Killed in every stage, a run ends with the artifacts of one that nobody disturbed."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import psutil
import pytest

from flows.recipe.plan import make_plan
from flows.recipe.recipe import load_recipe
from infra.runner import StageKilledError, make
from infra.store import LocalStore
from tests.flows.golden import Milled, golden
from tests.flows.prepared import prepare_mlflow
from tests.flows.tiny import SERVER, STAGES, ask, deepmill, start, write_recipe

DYING = Path(__file__).with_name("dying")
OWN_WAY = ("decontaminate", "shards", "pretrain", "evaluate", "quantize")
"""Stages that go on in a way of their own, but for those that are killed by day anyway: `dedup` below, `grpo` in
`tests.model.rl`. The others share one with these, or begin anew."""
GONE_SECONDS = 60
STOPPED = "stopped; finished stages are kept; the same command goes on from there\n"


@pytest.fixture(scope="module")
def undisturbed() -> Milled:
    return golden()


def events_of(store: LocalStore, stage: str, identity: str) -> int:
    """How many events the stage told when it made the artifact."""
    log = store.path(stage, identity) / ".logs" / "events.jsonl"
    return len(log.read_text().splitlines())


@contextlib.contextmanager
def dying(monkeypatch: pytest.MonkeyPatch, events: int) -> Iterator[None]:
    """Processes of stages that are started in the block are killed once they have told so many events."""
    with monkeypatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{DYING}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        patch.setenv("DEEPMILL_TEST_DIES_AFTER", str(events))
        yield


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "stages", [pytest.param(OWN_WAY, id="own way"), pytest.param(STAGES, id="all", marks=pytest.mark.nightly)]
)
def test_each_stage_is_killed_in_the_middle_of_its_work(
    stages: Sequence[str], undisturbed: Milled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under the runner, which every flow uses: the stage's process is killed when half of its events are told."""
    store = LocalStore(tmp_path / "store")
    monkeypatch.chdir(write_recipe(tmp_path).parent)
    undisturbed.lend(tmp_path, (name for name in STAGES if name not in stages))
    for item in make_plan(load_recipe("tiny.yaml"), store).stages:
        if item.stage.name not in stages:
            continue
        name, identity = item.stage.name, item.job.identity
        half = max(1, events_of(undisturbed.store, name, identity) // 2)
        with pytest.raises(StageKilledError, match=f"^{name}: stopped by SIGKILL"), dying(monkeypatch, half):
            make(store, item.job, lambda event: None)
        assert store.find(name, identity) is None
        make(store, item.job, lambda event: None)
    assert Milled(tmp_path).contents() == undisturbed.made()


def _has_begun(staging: Path, since: float) -> bool:
    """Whether a stage has, in the run that began then: the run before may have been killed just as it went on to it."""
    for path in staging.glob("*/events*"):
        with contextlib.suppress(FileNotFoundError):  # made anew
            if path.stat().st_mtime > since:
                return True
    return False


def kill_in(root: Path, name: str, *settings: str, number: int = signal.SIGKILL) -> str:
    """What `deepmill run` said, which got the signal once the stage worked; nothing of it may be left."""
    begun = time.time()
    process = start(root, "run", "tiny.yaml", *settings)
    deadline = time.monotonic() + 240
    while not _has_begun(root / "store" / ".staging" / name, begun) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert process.poll() is None, f"{name}: {process.communicate()[0]}"
    family: list[Any] = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, number)
    said, _ = process.communicate()
    _, alive = psutil.wait_procs(family, timeout=GONE_SECONDS)
    assert not alive, f"{name}: left running: {alive}"
    return said


@pytest.mark.drill
@pytest.mark.timeout(600)
def test_the_command_line_is_killed_and_goes_on(
    undisturbed: Milled, tmp_path: Path, prefect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a stage with tasks of its own; what the undisturbed run made before and after is there.

    The run that is killed has a Prefect server of its own, which must be gone as well.
    """
    write_recipe(tmp_path)
    wanted = ("dedup",)
    undisturbed.lend(tmp_path, (name for name in STAGES if name not in wanted))
    prepare_mlflow(tmp_path / "store")
    short = ("--set", "export=null")  # nothing to register
    for name in wanted:
        kill_in(tmp_path, name, *short)
        monkeypatch.setenv(SERVER, prefect)
    deepmill(tmp_path, "run", "tiny.yaml", *short)
    assert Milled(tmp_path).contents() == undisturbed.made()
    assert ask(tmp_path, "status").count("interrupted") == len(wanted)


@pytest.mark.drill
@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_the_command_line_is_killed_in_every_stage(undisturbed: Milled, tmp_path: Path) -> None:
    write_recipe(tmp_path)
    signals = dict(zip(STAGES, cycle((signal.SIGKILL, signal.SIGINT, signal.SIGTERM)), strict=False))
    for name, number in signals.items():
        said = kill_in(tmp_path, name, number=number)
        assert "Traceback" not in said
        assert said.endswith(STOPPED) == (number != signal.SIGKILL), said
    deepmill(tmp_path, "run", "tiny.yaml")
    assert Milled(tmp_path).contents() == undisturbed.made()
    status = ask(tmp_path, "status")
    killed = list(signals.values()).count(signal.SIGKILL)
    assert (status.count("interrupted"), status.count("cancelled")) == (killed, len(STAGES) - killed)
