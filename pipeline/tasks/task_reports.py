"""How the stage learns what became of its tasks, wherever they ran: reports of failures, marks of completion.

A task that fails writes why into `<folder>/failures`; the first of these is raised in the stage, as a UserError where
it was one. A task that ended without a mark and without a report was lost.
"""

from __future__ import annotations

import json
import sys
import traceback
from pathlib import Path
from typing import Any

from datatrove.executor.base import PipelineExecutor

from infra.disk import disk_problem
from infra.durable import write_whole
from infra.errors import DeepmillError, UserError

__all__ = ["Reporting", "TaskError", "check_complete", "raise_failure"]


class TaskError(DeepmillError):
    """A task broke, or was lost; the text names which and where its log is."""


class Reporting(PipelineExecutor):
    """Writes why a task failed to where the stage looks for it."""

    def _run_for_rank(self, rank: int, local_rank: int = 0, node_rank: int = -1) -> Any:
        try:
            return super()._run_for_rank(rank, local_rank, node_rank)
        except Exception as error:
            problem = disk_problem(error, self.logging_dir.resolve_paths(""))
            report = {
                "is_user_error": isinstance(error, UserError) or problem is not None,
                "message": problem or str(error) or type(error).__name__,
                "traceback": traceback.format_exc(),
            }
            failures = Path(self.logging_dir.resolve_paths("failures"))
            failures.mkdir(parents=True, exist_ok=True)
            write_whole(failures / f"{rank:05d}.json", json.dumps(report).encode())
            raise


def raise_failure(folder: Path) -> None:
    """Go on where no task has failed.

    Raises:
        UserError, TaskError: what the first of the failed ones reported.
    """
    for path in sorted((folder / "failures").glob("*.json"))[:1]:
        report = json.loads(path.read_text())
        if report["is_user_error"]:
            raise UserError(report["message"])
        sys.stderr.write(report["traceback"])
        raise TaskError(f"task {int(path.stem)} failed: {report['message']}; its log is in {folder / 'logs'}")


def check_complete(executor: PipelineExecutor, folder: Path, logs: str) -> None:
    """Raise a TaskError where tasks have left no mark."""
    if missing := executor.get_incomplete_ranks():
        raise TaskError(
            f"{len(missing)} of {executor.world_size} tasks did not end (the first is {missing[0]}): out of memory or "
            f"time, a lost node, or one that does not share {folder}? See {folder / logs}; the same command runs these "
            "again"
        )
