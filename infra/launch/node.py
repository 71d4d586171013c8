"""The part of one node: ``python -m infra.launch.node JOB`` runs torchrun with this node's share of the ranks.

Which node this is and where the first one listens is told by the scheduler: Slurm's variables, a Kubernetes completion
index, or DEEPMILL_NODE and DEEPMILL_HEAD ("host:port") for two machines started by hand. Node 0 must be the one that
DEEPMILL_HEAD names. torchrun starts killed ranks again, on all nodes, and waits for a node that comes back, so long and
no longer.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import sys
import time
import zlib
from functools import partial
from pathlib import Path

import psutil

from infra.errors import UserError
from infra.launch.node_job import ADDRESS, FIRST_PORT, HEAD, NODE, PORTS, NodeJob
from infra.supervisor import die_with_parent

__all__ = ["LOST", "command", "place"]

LOST = 75
"""Exit status of a node that the others cannot be reached from (EX_TEMPFAIL): start it again later."""
SPARE_SECONDS = 15.0
POLL_SECONDS = 0.5


def place(environment: dict[str, str]) -> tuple[int, str]:
    """Number of this node and "host:port" of node 0.

    Raises:
        UserError: no scheduler said so.
    """
    if NODE in environment and HEAD in environment:
        return int(environment[NODE]), environment[HEAD]
    if "SLURM_NODEID" in environment:
        return int(environment["SLURM_NODEID"]), _slurm_head(environment)
    raise UserError(f"neither Slurm's variables nor {NODE} and {HEAD} are set; start nodes through a launcher")


def _slurm_head(environment: dict[str, str]) -> str:
    nodes = environment["SLURM_STEP_NODELIST"]
    names = subprocess.run(
        ["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=True
    ).stdout.split()
    shown = subprocess.run(
        ["scontrol", "show", "node", "-o", names[0]], capture_output=True, text=True, check=True
    ).stdout.split()
    address = next(word.removeprefix("NodeAddr=") for word in shown if word.startswith("NodeAddr="))
    step = f"{environment['SLURM_JOB_ID']}.{environment['SLURM_STEP_ID']}"
    return f"{address}:{FIRST_PORT + zlib.crc32(step.encode()) % PORTS}"


def command(job: NodeJob, path: Path, node: int, head: str, address: str = "") -> list[str]:
    """torchrun's command line for node `node`."""
    seconds = waits_for(job)
    found = [sys.executable, "-m", "torch.distributed.run"]
    found += [f"--nnodes={job.nodes}", f"--nproc-per-node={job.ranks_per_node}"]
    found += ["--rdzv-backend=c10d", f"--rdzv-endpoint={head}", f"--rdzv-id={zlib.crc32(str(path).encode())}"]
    found += [f"--rdzv-conf=is_host={int(node == 0)},join_timeout={seconds},timeout={seconds},close_timeout=5"]
    found += [f"--max-restarts={job.restarts}", "--monitor-interval=0.2"]
    if address:
        found += [f"--local-addr={address}"]
    return [*found, "-m", "infra.launch.rank", str(path)]


def main(job_file: str) -> int:
    """Run torchrun; the exit status of this node."""
    path = Path(job_file)
    job = NodeJob.model_validate_json(path.read_text(encoding="utf-8"))
    environment = {**job.environment, **os.environ}
    node, head = place(environment)
    # With gloo a restart fails while the ranks share the agent's store, whose keys of the first attempt stay.
    environment["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    environment.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // job.ranks_per_node)))
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    arguments = command(job, path, node, head, environment.get(ADDRESS, ""))
    return _watched(arguments, environment, waits_for(job) + SPARE_SECONDS)


def waits_for(job: NodeJob) -> int:
    """Seconds that torchrun waits for the other nodes."""
    return max(30, int(job.timeout_seconds))


def _watched(arguments: list[str], environment: dict[str, str], limit: float) -> int:
    """Run torchrun to its end; its status, or `LOST` once it has been without ranks for `limit` seconds.

    It waits for the other nodes before it starts ranks, and is told how long; but with the network gone it waits in
    calls that know of no such limit.
    """
    process = subprocess.Popen(arguments, env=environment, preexec_fn=partial(die_with_parent, os.getpid()))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, frame: process.send_signal(received))
    agent = psutil.Process(process.pid)
    seen = math.inf  # a busy machine may take long to the first ranks
    while process.poll() is None:
        with contextlib.suppress(psutil.NoSuchProcess):
            # torchrun, when it is stuck, does not collect ranks that have ended
            if any(rank.status() != psutil.STATUS_ZOMBIE for rank in agent.children()):
                seen = time.monotonic()
        if time.monotonic() - seen > limit:
            sys.stderr.write(f"no rank for {limit:.0f} s: the other nodes cannot be reached; this node gives up\n")
            process.kill()  # it has no ranks that would have to save
            process.wait()
            return LOST
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(POLL_SECONDS)
    status = process.returncode
    return 128 - status if status < 0 else status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
