"""One face for every launcher: run a function on all ranks of the execution, and start again what was killed.

A training goes on from its last checkpoint when its ranks start again, so a rank or a node that was killed costs the
steps since then. What a rank raised of its own accord is not tried again.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from infra import events
from infra.errors import UserError
from infra.execution import Execution, Launcher
from infra.launch import kubernetes, slurm
from infra.launch.local import launch
from infra.launch.node_job import NodeJob
from infra.launch.reports import RankKilledError

__all__ = ["run_job"]


def run_job(target: str, argument: Any, wide: Execution, folder: Path) -> None:
    """Run ``target`` ("package.module:function") with `argument` on the ranks of `wide` and wait for all.

    Args:
        folder: for the job's files; with more than one node, on a file system that all of them see.

    Raises:
        UserError: a rank raised it, or the execution does not add up.
        RankError: any other failure of a rank.
        RankKilledError: ranks were killed more often than ``restarts``.
        SystemExit: 143, when SIGTERM arrived and the ranks have left.
    """
    if wide.ranks % wide.nodes:
        raise UserError(f"execution.nodes {wide.nodes} does not divide the {wide.ranks} ranks")
    if wide.nodes > 1 and wide.launcher is Launcher.LOCAL:
        raise UserError(f"execution.nodes {wide.nodes} needs a launcher that reaches them: slurm or kubernetes")
    for attempt in range(wide.restarts + 1):
        try:
            _attempt(target, argument, wide, folder)
        except RankKilledError as error:
            if attempt == wide.restarts:
                raise
            line = str(error).splitlines()[0]
            events.note(f"{line}; starting again from the last checkpoint ({attempt + 1} of {wide.restarts})")
        else:
            return


def _attempt(target: str, argument: Any, wide: Execution, folder: Path) -> None:
    if wide.launcher is Launcher.LOCAL:
        launch(target, argument, wide.ranks)
        return
    job_files = folder / "launch"
    shutil.rmtree(job_files, ignore_errors=True)
    job_files.mkdir(parents=True)
    job = NodeJob(
        target=target,
        argument=argument,
        nodes=wide.nodes,
        ranks_per_node=wide.ranks // wide.nodes,
        restarts=wide.restarts,
        timeout_seconds=wide.timeout_seconds,
        reports=str(job_files),
        environment={name: value for name, value in os.environ.items() if name.startswith("DEEPMILL_")},
    )
    path = job_files / "job.json"
    path.write_text(job.model_dump_json(), encoding="utf-8")
    if wide.launcher is Launcher.SLURM:
        slurm.run(job, path, wide)
    else:
        kubernetes.run(job, path, wide)
