"""Jobs on Slurm that end with the stage that asked for them.

A job is known by a name of its own from before it is submitted, so that `cancelled_at_the_end` can be registered first
and no moment is left in which a killed stage would leave a job behind. The clients (`sbatch`, `squeue`, `scancel`) and
their configuration (`SLURM_CONF`) are those of the machine.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator

from infra.cleanup_hooks import cleanup_hook
from infra.errors import UserError
from infra.execution import SlurmOptions

__all__ = ["cancelled_at_the_end", "outside_of_any_job", "sbatch_options", "unique_name", "waiting", "while_queued"]

FIRST_POLL, LAST_POLL = 0.2, 10.0
"""Seconds between two looks at the queue: short jobs are seen to end soon, long ones do not burden the controller."""
AWAY_SECONDS = 600.0
"""How long the controller may be unreachable before the wait is given up."""


def unique_name(stage: str) -> str:
    """A job name that no other run has."""
    return f"deepmill-{stage}-{uuid.uuid4().hex[:12]}"


def cancelled_at_the_end(name: str) -> contextlib.AbstractContextManager[None]:
    """Cancel the jobs called `name` should the block end in any way but well.

    Raises:
        UserError: Slurm's clients are not installed.
    """
    for program in ("sbatch", "squeue", "scancel"):
        if shutil.which(program) is None:
            raise UserError(
                f"{program}: no such program; run deepmill where Slurm's clients are, "
                "or choose another execution.executor"
            )
    return cleanup_hook(["scancel", "--quiet", f"--user={getpass.getuser()}", f"--name={name}"])


def sbatch_options(options: SlurmOptions) -> dict[str, str]:
    """The options of the recipe by sbatch's long names; what is left empty is the cluster's to decide."""
    named = {
        "partition": options.partition,
        "account": options.account,
        "qos": options.qos,
        "time": options.time_limit,
    }
    return {name: value for name, value in named.items() if value} | dict(options.arguments)


@contextlib.contextmanager
def outside_of_any_job() -> Iterator[None]:
    """Hide that this process is itself part of a job: sbatch takes the variables of one for defaults of the next."""
    hidden = {name: os.environ.pop(name) for name in list(os.environ) if _belongs_to_a_job(name)}
    try:
        yield
    finally:
        os.environ.update(hidden)


def _belongs_to_a_job(name: str) -> bool:
    return name.startswith(("SLURM_", "SBATCH_", "SRUN_")) and name != "SLURM_CONF"


def waiting(name: str) -> dict[str, str] | None:
    """State or reason of each job called `name` that has not ended; None when the controller does not answer."""
    command = ["squeue", "--noheader", "--array", f"--user={getpass.getuser()}", f"--name={name}", "--format=%i %T %r"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    fields = (line.split(maxsplit=2) for line in done.stdout.splitlines() if line.strip())
    return {job: reason if state == "PENDING" else state for job, state, reason in fields}


def while_queued(name: str) -> Iterator[dict[str, str]]:
    """Yield `waiting(name)` again and again until all have ended.

    Raises:
        UserError: the controller did not answer for `AWAY_SECONDS`.
    """
    pause, last_answer = FIRST_POLL, time.monotonic()
    while True:
        found = waiting(name)
        if found is not None:
            last_answer = time.monotonic()
            if not found:
                return
            yield found
        elif time.monotonic() - last_answer > AWAY_SECONDS:
            raise UserError("squeue: Slurm's controller does not answer; see `sinfo`, then run the same command again")
        time.sleep(pause)
        pause = min(pause * 1.3, LAST_POLL)
