"""Ranks over the nodes of a Slurm cluster: one `srun` with one task per node, in its own allocation or in the one that
this process already runs in.

A rank that is killed is started again by torchrun inside the allocation; when a node goes, the step ends and the
caller asks for another.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import FrameType

from infra.errors import UserError
from infra.execution import Execution
from infra.launch.node_job import NodeJob
from infra.launch.reports import RankKilledError, newest_report, raise_report

__all__ = ["command", "run"]


def command(path: Path, wide: Execution) -> list[str]:
    """`srun`'s command line."""
    options = wide.slurm
    found = ["srun", f"--nodes={wide.nodes}", f"--ntasks={wide.nodes}", "--ntasks-per-node=1", "--kill-on-bad-exit=1"]
    found += ["--export=ALL", "--unbuffered", "--job-name=deepmill"]
    for name, value in (("partition", options.partition), ("account", options.account), ("qos", options.qos)):
        found += [f"--{name}={value}"] if value else []
    found += [f"--time={options.time_limit}"] if "SLURM_JOB_ID" not in os.environ else []
    found += [f"--{name}={value}" for name, value in options.arguments.items()]
    return [*found, sys.executable, "-m", "infra.launch.node", str(path)]


def run(job: NodeJob, path: Path, wide: Execution) -> None:
    """Run the job and wait for it; see `infra.launch.job.run_job` for what it raises."""
    if shutil.which("srun") is None:
        raise UserError("execution.launcher slurm: there is no srun here; run on a node of the cluster, or use local")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    terminated = threading.Event()
    process = subprocess.Popen(command(path, wide), env=environment, stdin=subprocess.DEVNULL)

    def forward(signum: int, frame: FrameType | None) -> None:
        terminated.set()
        process.send_signal(signal.SIGTERM)  # srun passes it on to its tasks, torchrun to the ranks

    is_main = threading.current_thread() is threading.main_thread()
    previous = signal.signal(signal.SIGTERM, forward) if is_main else None
    try:
        status = process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
        if previous is not None:
            signal.signal(signal.SIGTERM, previous)
    if terminated.is_set():
        raise SystemExit(128 + signal.SIGTERM)
    if not status:
        return
    report = newest_report(Path(job.reports))
    if report and (report.is_user_error or not report.is_lost):
        raise_report(report)
    raise RankKilledError(f"srun ended with status {status}: a rank or a node of the step was killed")
