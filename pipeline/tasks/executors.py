"""Runs the tasks of a data stage where `execution.executor` says: on this machine, on Ray or on Slurm.

datatrove's executors do the work, each task in a process of its own; a finished task leaves a mark in `<folder>/
completions`, and tasks with a mark are not run again, whatever executor ran them before. Added here is what datatrove
leaves out: a task that fails says why in `<folder>/failures`, which is raised in the stage wherever the task ran; the
stage waits for the cluster, and the cluster's work ends with the stage, however that ends; a cluster that loses tasks
silently is found out.

On a cluster, `<folder>` (below the store's folder, or below `DEEPMILL_SCRATCH` where the store is on S3), the code and
its Python must lie on a file system that the nodes share. Raw files on S3 are read by the nodes themselves.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shlex
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import dill
from datatrove.executor.local import LocalPipelineExecutor
from datatrove.executor.slurm import SlurmPipelineExecutor
from loguru import logger
from loguru._better_exceptions import ExceptionFormatter

from infra import events, slurm
from infra.errors import UserError
from infra.execution import Execution, Executor
from pipeline.tasks.ray_tasks import run_on_ray
from pipeline.tasks.task_reports import Reporting, TaskError, check_complete, raise_failure

__all__ = ["TaskError", "run_tasks"]


def run_tasks(steps: list[Any], tasks: int, folder: Path, execution: Execution, *, here: bool = False) -> None:
    """Run datatrove `steps` as `tasks` tasks; `here` keeps them in this process, for work that is hardly any.

    Raises:
        UserError: what the first task raised as such, or the cluster cannot be reached.
        TaskError: a task failed in another way, or did not end.
    """
    logger.remove()
    shutil.rmtree(folder / "failures", ignore_errors=True)
    if here or execution.executor is Executor.LOCAL:
        workers = 1 if here else max(1, min(execution.processes, tasks))
        _Local(pipeline=steps, tasks=tasks, workers=workers, logging_dir=str(folder)).run()
        return
    if execution.executor is Executor.RAY:
        run_on_ray(steps, tasks, folder, execution)
    else:
        _run_on_slurm(steps, tasks, folder, execution)


# datatrove gives each task three handlers, and with every one loguru asks sysconfig for the folders of libraries:
# they do not change, and asking takes milliseconds.
setattr(ExceptionFormatter, "_get_lib_dirs", staticmethod(cache(ExceptionFormatter._get_lib_dirs)))  # noqa: B010


class _Local(LocalPipelineExecutor):
    """datatrove's executor on a pool that notices when a worker is killed: datatrove's own then waits for ever."""

    def run(self) -> None:
        ranks = self.get_incomplete_ranks()
        if self.workers == 1:
            for rank in ranks:
                deepcopy(self).run_quietly(rank)
            return
        if not ranks:
            return
        pickled = dill.dumps(self, byref=True)
        context = multiprocessing.get_context("forkserver")
        # Imported once, by the server that all pools of this process fork from, and not by each worker.
        context.set_forkserver_preload(
            sorted({"pipeline.tasks.documents", *(type(step).__module__ for step in self.pipeline)})
        )
        with ProcessPoolExecutor(min(self.workers, len(ranks)), mp_context=context) as pool:
            futures = [pool.submit(_run_pickled, pickled, rank) for rank in ranks]
            try:
                for future in as_completed(futures):
                    future.result()
            except BrokenProcessPool:
                missing = self.get_incomplete_ranks()
                raise TaskError(
                    f"a worker was killed (out of memory?) while {len(missing)} of {self.world_size} tasks were left; "
                    "the same command runs these; fewer execution.workers need less memory"
                ) from None
            finally:
                pool.shutdown(cancel_futures=True)

    def run_quietly(self, rank: int) -> None:
        """Run a task; its log goes to its own file and not to the stage's standard error as well."""
        with Path(os.devnull).open("w") as sink, contextlib.redirect_stderr(sink):
            try:
                self._run_for_rank(rank)
            finally:
                logger.remove()


def _run_pickled(executor: bytes, rank: int) -> None:
    dill.loads(executor).run_quietly(rank)


class _Slurm(Reporting, SlurmPipelineExecutor):
    """An array of jobs that call this very Python, with no job after it to add up statistics."""

    def launch_merge_stats(self) -> None:
        pass

    def get_sbatch_args(self, max_array: int = 1) -> dict[str, Any]:
        options = dict(super().get_sbatch_args(max_array))
        return {name: value for name, value in options.items() if value or name == "requeue"}

    def get_launch_file_contents(self, sbatch_args: dict[str, Any], run_script: str) -> str:
        options = "".join(f"#SBATCH --{name}{f'={value}' if value else ''}\n" for name, value in sbatch_args.items())
        pickled = shlex.quote(self.logging_dir.resolve_paths("executor.pik"))
        command = f"{shlex.quote(sys.executable)} -m datatrove.tools.launch_pickled_pipeline {pickled}"
        return f"#!/bin/sh\n{options}exec {command}\n"


def _run_on_slurm(steps: list[Any], tasks: int, folder: Path, execution: Execution) -> None:
    options = execution.slurm
    name = slurm.unique_name(folder.name)
    executor = _Slurm(
        pipeline=steps,
        tasks=tasks,
        workers=execution.workers or -1,
        tasks_per_job=options.tasks_per_job,
        time=options.time_limit,
        partition=options.partition,
        qos=options.qos,
        job_name=name,
        logging_dir=str(folder),
        with_srun=False,
        sbatch_args={
            "mem-per-cpu": f"{max(1, round(execution.task_memory_gb * 1024))}M",
            "chdir": str(Path.cwd()),
            **slurm.sbatch_options(options),
        },
    )
    if not executor.get_incomplete_ranks():
        return
    with slurm.cancelled_at_the_end(name):
        with slurm.outside_of_any_job():
            try:
                executor.run()
            except Exception as error:  # sbatch has said why on standard error, which is the stage's log
                raise UserError(f"sbatch refused the job ({error}); see the log, and execution.slurm") from error
        told = False
        for jobs in slurm.while_queued(name):
            raise_failure(folder)
            reasons = {reason for reason in jobs.values() if reason not in ("RUNNING", "COMPLETING", "None")}
            if not told and len(reasons) and not any(state == "RUNNING" for state in jobs.values()):
                events.note(f"{len(jobs)} jobs wait in Slurm's queue: {', '.join(sorted(reasons))}")
                told = True
    raise_failure(folder)
    check_complete(executor, folder, "slurm_logs")
