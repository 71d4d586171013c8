"""Training over two nodes, in network namespaces and in Slurm: killed ranks and nodes cost nothing but time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.execution import ENVIRONMENT_KEY, Execution
from infra.launch import launch, run_job
from infra.launch.node import LOST
from infra.launch.node_job import ADDRESS, HEAD, NODE, NodeJob
from infra.launch.reports import RankKilledError
from tests.infra import namespaces
from tests.infra.namespaces import Namespaces, two_namespaces
from tests.infra.s3 import free_ports

TARGET = "tests.model.training.crashes:run_rank"
HOUSE = Path(__file__).parents[2]
WIDE = {"ranks": 2, "expert_parallel": 2, "nodes": 2, "checkpoints": {"seconds": 0}, "timeout_seconds": 30}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two ranks on one machine make of it."""
    out = tmp_path_factory.mktemp("undisturbed")
    launch(TARGET, {"out": str(out)}, 2, environment={ENVIRONMENT_KEY: json.dumps(WIDE)})
    return out


def _same(out: Path, undisturbed: Path) -> None:
    for name in ("history.json", "model/model.safetensors"):
        assert (out / name).read_bytes() == (undisturbed / name).read_bytes()


@pytest.fixture(scope="module")
def spaces() -> Iterator[Namespaces]:
    if reason := namespaces.missing():
        pytest.skip(reason)
    with two_namespaces() as made:
        yield made


class _Nodes:
    """The two nodes of a job in two namespaces, each started as a scheduler would."""

    def __init__(self, spaces: Namespaces, out: Path, timeout_seconds: float, **argument: Any) -> None:
        self.spaces, self.out = spaces, out
        self.reports = out / "reports"
        self.reports.mkdir()
        wide = json.dumps(WIDE | {"timeout_seconds": timeout_seconds})
        job = NodeJob(
            target=TARGET,
            argument={"out": str(out), **argument},
            nodes=2,
            ranks_per_node=1,
            restarts=2,
            timeout_seconds=timeout_seconds,
            reports=str(self.reports),
            environment={ENVIRONMENT_KEY: wide},
        )
        self.job = out / "job.json"
        self.job.write_text(job.model_dump_json())
        self.head = f"{spaces.addresses[0]}:{free_ports(1)[0]}"
        self.processes = [self.start(0), self.start(1)]

    def start(self, node: int) -> subprocess.Popen[bytes]:
        variables = os.environ | {
            NODE: str(node),
            HEAD: self.head,
            ADDRESS: self.spaces.addresses[node],
            "GLOO_SOCKET_IFNAME": "eth0",
            "PYTHONPATH": str(HOUSE),
        }
        command = self.spaces.inside(node, [sys.executable, "-m", "infra.launch.node", str(self.job)])
        with (self.out / f"node-{node}.log").open("ab") as log:
            return subprocess.Popen(command, env=variables, stdout=log, stderr=log, start_new_session=True)

    def wait(self, seconds: float) -> list[int]:
        deadline = time.monotonic() + seconds
        return [process.wait(max(0.1, deadline - time.monotonic())) for process in self.processes]

    def until(self, sign: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not (self.out / sign).exists():
            assert time.monotonic() < deadline, f"no sign of {sign}"
            time.sleep(0.1)

    def end(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@pytest.mark.drill
@pytest.mark.nightly  # Slurm's below does the same, and the lost network has two namespaces
@pytest.mark.timeout(600)
def test_two_namespaces_survive_a_killed_rank_and_a_killed_node(
    spaces: Namespaces, undisturbed: Path, tmp_path: Path
) -> None:
    nodes = _Nodes(spaces, tmp_path, 60, rank_at=2, node_at=4)
    try:
        nodes.until("node", 300)
        nodes.processes[1].wait(60)  # torchrun of node 1 is gone with its rank: the scheduler starts it anew
        nodes.processes[1] = nodes.start(1)
        assert nodes.wait(300) == [0, 0]
    finally:
        nodes.end()
    assert (tmp_path / "rank").exists()
    _same(tmp_path, undisturbed)


@pytest.mark.drill
@pytest.mark.timeout(600)
def test_a_lost_network_is_reported_in_bounded_time(spaces: Namespaces, tmp_path: Path) -> None:
    nodes = _Nodes(spaces, tmp_path, 10, steps=100_000, wait_at=3)
    try:
        nodes.until("waiting", 300)
        spaces.cut(1, off=True)
        for rank in (0, 1):  # the ranks' time is 10 seconds; the rest is for a busy machine
            nodes.until(f"reports/error-0-{rank}.json", 90)
        reported = time.monotonic()
        ended = nodes.wait(120)  # torchrun alone would wait for the lost node for minutes
        assert LOST in ended
        assert 0 not in ended
        print(f"both nodes gave up {time.monotonic() - reported:.0f} s after their ranks")
    finally:
        nodes.end()
        spaces.cut(1, off=False)
    for rank in (0, 1):
        report = json.loads((nodes.reports / f"error-0-{rank}.json").read_text())
        assert report["is_lost"], report["message"]


@pytest.mark.drill
@pytest.mark.timeout(300)
def test_slurm_gives_each_node_its_gpus_and_each_rank_one(
    slurm_variables: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Device files stand for them: what Slurm says to the ranks, and which device each takes, is as it would be."""
    for name, value in slurm_variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(HOUSE)
    layout = {"launcher": "slurm", "ranks": 4, "nodes": 2, "restarts": 0, "timeout_seconds": 60}
    for asked in ("gpu:fake:2", "gpu:fake:3"):
        wide = Execution.model_validate(layout | {"slurm": {"arguments": {"gres": asked, "immediate": "60"}}})
        monkeypatch.setenv(ENVIRONMENT_KEY, wide.model_dump_json())
        out = tmp_path / asked[-1]
        out.mkdir()
        if asked.endswith("3"):  # of which no node has so many: the step ends, and nothing waits for ever
            with pytest.raises(RankKilledError, match="srun ended with status"):
                run_job("tests.infra.gpus:tell", {"out": str(out)}, wide, tmp_path / "refused")
            continue
        run_job("tests.infra.gpus:tell", {"out": str(out)}, wide, tmp_path / "work")
        told = [json.loads((out / f"{rank}.json").read_text()) for rank in range(4)]
        assert [each["visible"] for each in told] == ["0,1"] * 4
        assert [each["local_rank"] for each in told] == ["0", "1", "0", "1"]
        assert len({each["node"] for each in told}) == 2


@pytest.mark.drill
@pytest.mark.timeout(600)
def test_a_slurm_of_two_nodes_survives_a_killed_rank_and_a_killed_node(
    slurm_variables: dict[str, str], undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in slurm_variables.items():
        monkeypatch.setenv(name, value)
    wide = Execution.model_validate(WIDE | {"launcher": "slurm", "restarts": 2})
    monkeypatch.setenv(ENVIRONMENT_KEY, wide.model_dump_json())
    monkeypatch.chdir(HOUSE)
    run_job(TARGET, {"out": str(tmp_path), "rank_at": 2, "node_at": 4}, wide, tmp_path / "work")
    assert (tmp_path / "rank").exists()
    assert (tmp_path / "node").exists()
    _same(tmp_path, undisturbed)
