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
from pathlib import Path

from infra.errors import UserError
from infra.execution import Execution
from infra.launch.node_job import NodeJob
from infra.launch.reports import RankKilledError, newest_report, raise_report
from infra.signals import sigterm_event
from infra.slurm import sbatch_options

__all__ = ["command", "run"]


def command(path: Path, wide: Execution) -> list[str]:
    """`srun`'s command line."""
    within_a_job = "SLURM_JOB_ID" in os.environ
    options = sbatch_options(wide.slurm.model_copy(update={"time_limit": ""}) if within_a_job else wide.slurm)
    found = ["srun", f"--nodes={wide.nodes}", f"--ntasks={wide.nodes}", "--ntasks-per-node=1", "--kill-on-bad-exit=1"]
    found += ["--export=ALL", "--unbuffered", "--job-name=deepmill"]
    found += [f"--{name}={value}" for name, value in options.items()]
    return [*found, sys.executable, "-m", "infra.launch.node", str(path)]


def run(job: NodeJob, path: Path, wide: Execution) -> None:
    """Run the job and wait for it; see `infra.launch.job.run_job` for what it raises."""
    if shutil.which("srun") is None:
        raise UserError("execution.launcher slurm: there is no srun here; run on a node of the cluster, or use local")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen(command(path, wide), env=environment, stdin=subprocess.DEVNULL)
    with sigterm_event(process.terminate) as terminated:  # srun passes it on to its tasks, torchrun to the ranks
        try:
            status = process.wait()
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    if terminated.is_set():
        raise SystemExit(128 + signal.SIGTERM)
    if not status:
        return
    report = newest_report(Path(job.reports))
    if report and (report.is_user_error or not report.is_lost):
        raise_report(report)
    raise RankKilledError(f"srun ended with status {status}: a rank or a node of the step was killed")
