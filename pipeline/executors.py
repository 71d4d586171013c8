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

import atexit
import contextlib
import json
import multiprocessing
import os
import secrets
import shlex
import shutil
import sys
import tempfile
import traceback
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from copy import deepcopy
from pathlib import Path
from typing import Any

import dill
from datatrove.executor.base import PipelineExecutor
from datatrove.executor.local import LocalPipelineExecutor
from datatrove.executor.ray import RayPipelineExecutor
from datatrove.executor.slurm import SlurmPipelineExecutor
from loguru import logger

from infra import events, slurm
from infra.endings import ended_by
from infra.errors import DeepmillError, UserError
from infra.execution import Execution, Executor
from infra.supervisor import die_with_parent

__all__ = ["TaskError", "run_tasks"]

GIB = 1 << 30
ATTEMPTS = 4
"""At starting a Ray: on a busy machine it gives up too soon."""
PASSED_ON = ("DEEPMILL_", "AWS_", "PYTHON", "OMP_", "HF_", "LD_")
"""Variables that the workers of a Ray cluster get from the stage; Slurm passes all of them on."""


class TaskError(DeepmillError):
    """A task broke, or was lost; the text names which and where its log is."""


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
    run = _run_on_ray if execution.executor is Executor.RAY else _run_on_slurm
    run(steps, tasks, folder, execution)
    _raise_failure(folder)


class _Reporting(PipelineExecutor):
    """Writes why a task failed to where the stage looks for it."""

    def _run_for_rank(self, rank: int, local_rank: int = 0, node_rank: int = -1) -> Any:
        try:
            return super()._run_for_rank(rank, local_rank, node_rank)
        except Exception as error:
            report = {
                "is_user_error": isinstance(error, UserError),
                "message": str(error) or type(error).__name__,
                "traceback": traceback.format_exc(),
            }
            failures = Path(self.logging_dir.resolve_paths("failures"))
            failures.mkdir(parents=True, exist_ok=True)
            unfinished = failures / f".{rank:05d}"
            unfinished.write_text(json.dumps(report))
            unfinished.replace(failures / f"{rank:05d}.json")
            raise


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
            sorted({"pipeline.documents", *(type(step).__module__ for step in self.pipeline)})
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


class _Ray(_Reporting, RayPipelineExecutor):
    """Actors of one task each."""

    def _run_for_rank(self, rank: int, local_rank: int = 0, node_rank: int = -1) -> Any:
        die_with_parent()  # this is a process of the actor's pool, which would outlive a killed actor
        return super()._run_for_rank(rank, local_rank, node_rank)


class _Slurm(_Reporting, SlurmPipelineExecutor):
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
            _raise_failure(folder)
            reasons = {reason for reason in jobs.values() if reason not in ("RUNNING", "COMPLETING", "None")}
            if not told and len(reasons) and not any(state == "RUNNING" for state in jobs.values()):
                events.note(f"{len(jobs)} jobs wait in Slurm's queue: {', '.join(sorted(reasons))}")
                told = True
    _raise_failure(folder)
    _check_complete(executor, folder, "slurm_logs")


def _run_on_ray(steps: list[Any], tasks: int, folder: Path, execution: Execution) -> None:
    executor = _Ray(
        pipeline=steps,
        tasks=tasks,
        workers=execution.workers or (-1 if execution.ray.address else execution.processes),
        mem_per_cpu_gb=execution.task_memory_gb,
        logging_dir=str(folder),
    )
    if not executor.get_incomplete_ranks():
        return
    _check_room(_connect(execution), execution)
    executor.run()
    _raise_failure(folder)
    _check_complete(executor, folder, "logs")


def _connect(execution: Execution) -> Any:
    """Join the cluster, or start a Ray of this process's own on loopback; either lasts as long as the process."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"  # what Ray asks for lest it warns
    if not execution.ray.address:  # a key that only its own processes know, and no file in the user's home
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    elif (Path.home() / ".ray" / "auth_token").exists():  # where Ray keeps the key of a cluster
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    try:
        import ray
    except ImportError:
        raise UserError(
            "ray is not installed; pip install 'deepmill[ray]', or choose another execution.executor"
        ) from None

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if ray.is_initialized():
        return ray
    if address := execution.ray.address:
        variables = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
        variables["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        try:
            ray.init(address=address, runtime_env={"env_vars": variables}, **quiet)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise UserError(
                f"execution.ray.address {address}: no Ray answers there ({error}); check the address and RAY_AUTH_TOKEN"
            ) from None
        return ray
    workers = execution.processes
    last = contextlib.ExitStack()
    atexit.register(last.close)
    # Below /tmp, for Ray makes sockets in it, whose paths have at most 107 bytes.
    scratch = last.enter_context(tempfile.TemporaryDirectory(prefix="deepmill-ray-", ignore_cleanup_errors=True))
    last.enter_context(ended_by(["rm", "-rf", scratch]))
    last.callback(ray.shutdown)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            ray.init(
                num_cpus=workers,
                object_store_memory=100 << 20,
                include_dashboard=False,
                _memory=int(workers * execution.task_memory_gb * GIB) + GIB,
                _node_ip_address="127.0.0.1",
                _temp_dir=scratch,  # its workers inherit the variables of this process
                **quiet,
            )
            break
        except Exception:  # a bare Exception is what says that it did not start within Ray's 30 seconds
            ray.shutdown()
            if attempt == ATTEMPTS:
                raise
            events.note("Ray does not start; once more")
    return ray


def _check_room(ray: Any, execution: Execution) -> None:
    """Raise a UserError where Ray would wait for ever."""
    room = ray.cluster_resources()
    if room.get("CPU", 0) < 1 or room.get("memory", 0) < execution.task_memory_gb * GIB:
        raise UserError(
            f"Ray has {room.get('CPU', 0):g} cores and {room.get('memory', 0) / GIB:.1f} GiB: no room for a task of "
            f"1 core and {execution.task_memory_gb:g} GiB; lower execution.task_memory_gb or add nodes"
        )


def _raise_failure(folder: Path) -> None:
    """Raise what the first of the failed tasks reported."""
    for path in sorted((folder / "failures").glob("*.json"))[:1]:
        report = json.loads(path.read_text())
        if report["is_user_error"]:
            raise UserError(report["message"])
        sys.stderr.write(report["traceback"])
        raise TaskError(f"task {int(path.stem)} failed: {report['message']}; its log is in {folder / 'logs'}")


def _check_complete(executor: PipelineExecutor, folder: Path, logs: str) -> None:
    if missing := executor.get_incomplete_ranks():
        raise TaskError(
            f"{len(missing)} of {executor.world_size} tasks did not end (the first is {missing[0]}): out of memory or "
            f"time, a lost node, or one that does not share {folder}? See {folder / logs}; the same command runs these "
            "again"
        )
