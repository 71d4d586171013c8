"""Runs the tasks of a data stage on Ray: a cluster's, or one of this process's own on loopback, which ends with it.

Tasks, not actors: Ray keeps a task's process for the next one, so that a stage pays for as many Pythons as it has
tasks at once, however many passes and tasks it has. datatrove's executor makes an actor, a placement group and a pool
of processes for every task. Ray runs a task again whose process or node was lost.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import secrets
import sys
import tempfile
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dill
from datatrove.executor.base import DistributedEnvVars

from infra import events
from infra.cleanup_hooks import cleanup_hook
from infra.errors import UserError
from infra.execution import Execution
from pipeline.tasks.task_reports import Reporting, TaskError, check_complete, raise_failure

__all__ = ["run_on_ray"]

GIB = 1 << 30
ATTEMPTS = 4
"""At starting a Ray: on a busy machine it gives up too soon."""
LOST = 3
"""Times that a task is tried again whose process or node was lost."""
OWN = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_worker_niceness": "0"}
"""Has a Ray of one's own bind to loopback and to nothing else, and run its tasks as urgently as the stage itself, where
Ray gives way to all else on the machine; read when it is imported."""
PASSED_ON = ("DEEPMILL_", "AWS_", "OMP_", "HF_")
"""Variables that the tasks get from the stage. They go with the task, not as a runtime environment of Ray's, for which
it would have to start processes other than those that it has ready."""


def run_on_ray(steps: list[Any], tasks: int, folder: Path, execution: Execution) -> None:
    """Run datatrove `steps` as `tasks` tasks; ends them all at the first error that one reports.

    Raises:
        UserError: what a task raised as such; no cluster answers, or it has no room for a task.
        TaskError: a task failed in another way, or was lost too often.
    """
    executor = _Ray(steps, tasks, folder, execution)
    if not executor.get_incomplete_ranks():
        return
    _check_room(_connect(execution), execution)
    executor.run()
    raise_failure(folder)
    try:
        check_complete(executor, folder, "logs")
    except TaskError as error:
        raise error from executor.untold


class _Ray(Reporting):
    """A Ray task for each of datatrove's."""

    def __init__(self, steps: list[Any], tasks: int, folder: Path, execution: Execution) -> None:
        super().__init__(steps, str(folder))
        self.tasks, self.memory = tasks, int(execution.task_memory_gb * GIB)
        self.at_once = execution.workers or (tasks if execution.ray.address else execution.processes)
        self.untold: Exception | None = None
        """What a task ended with, in case that it could not report it."""

    @property
    def world_size(self) -> int:
        return self.tasks

    def get_distributed_env(self, node_rank: int = -1) -> DistributedEnvVars:
        return DistributedEnvVars(
            datatrove_node_ips="",
            datatrove_cpus_per_task="1",
            datatrove_mem_per_cpu=str(self.memory / GIB),
            datatrove_gpus_on_node="0",
            datatrove_executor="RAY",
        )

    def run(self) -> None:
        import ray

        run = ray.remote(num_cpus=1, memory=self.memory, max_retries=LOST)(_task())
        variables = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
        given = ray.put((variables, [path for path in sys.path if path], dill.dumps(self, byref=True)))
        left = deque(self.get_incomplete_ranks())
        running: list[Any] = []
        while left or running:
            while left and len(running) < self.at_once:
                running.append(run.remote(given, left.popleft()))
            done, running = ray.wait(running)
            try:
                ray.get(done)
            except ray.exceptions.RayTaskError as error:
                self.untold = error
                for task in running:
                    # With its process: an interrupt may come when that has gone on to a task of the next pass, whose
                    # half-done imports would then stay in it. Of a process that is gone Ray runs the task again.
                    ray.cancel(task, force=True)
                if running:
                    ray.wait(running, num_returns=len(running), timeout=10)
                return
            except ray.exceptions.RayError as error:  # lost, and no mark will say that it was done
                self.untold = error


def _task() -> Callable[[tuple[dict[str, str], list[str], bytes], int], None]:
    """What a process of Ray's calls. No function of this module, for which it would have to find the module first."""

    def run_rank(given: tuple[dict[str, str], list[str], bytes], rank: int) -> None:
        import os
        import sys

        variables, paths, executor = given
        os.environ.update(variables)
        sys.path += [path for path in paths if path not in sys.path]
        import dill

        dill.loads(executor)._run_for_rank(rank, local_rank=1)  # the first, 0, would write to the console

    return run_rank


def _connect(execution: Execution) -> Any:
    """Join the cluster, or start a Ray of this process's own on loopback; either lasts as long as the process."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"  # what Ray asks for lest it warns
    if not execution.ray.address:  # a key that only its own processes know, and no file in the user's home
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), **OWN}
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
        try:
            ray.init(address=address, **quiet)
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
    last.enter_context(cleanup_hook(["rm", "-rf", scratch]))
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
