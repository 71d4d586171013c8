"""A real Slurm for tests: a controller and two nodes from Debian's packages, on loopback, without systemd or cgroups.

Both nodes are this host under other names, so they share its file system, as a cluster's nodes share theirs. Ports,
keys, sockets and state are the test's own: several may run at once, and beside a Slurm of the machine.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from infra.supervisor import die_with_parent
from tests.infra.s3 import free_ports

HOUSE = Path(__file__).parents[2]
NODES = ("nd1", "nd2")
CPUS = 2
"""Of each node, whatever the machine has."""
GPUS = 2
"""Of each node: device files by the name of GPUs, which Slurm hands out as it would real ones (`--gres=gpu:fake:2`)."""
DAEMONS = ("munged", "slurmctld", "slurmd")
CLIENTS = ("sbatch", "scancel", "squeue", "sinfo", "srun")
CONFIG = """\
ClusterName=deepmill
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=200000
SlurmdParameters=config_overrides
ReturnToService=2
MpiDefault=none
GresTypes=gpu
KillWait=3
InactiveLimit=0
{nodes}
PartitionName=debug Nodes={names} Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"""


def missing() -> str:
    """Why there can be no Slurm here; empty when there can."""
    absent = [name for name in (*DAEMONS, *CLIENTS) if not _program(name)]
    if absent:
        return f"no Slurm: {', '.join(absent)} not installed (Debian: slurmctld slurmd slurm-client munge)"
    return "" if os.geteuid() == 0 else "no Slurm: its daemons want to be started by root"


@contextlib.contextmanager
def slurm_cluster() -> Iterator[dict[str, str]]:
    """Run two nodes of two CPUs in the partition `debug`; yields the environment that reaches them."""
    # Short and world-readable: a socket's path has at most 107 bytes, and munged wants to trust every folder above.
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/var/tmp"))
    folder.chmod(0o755)
    controller, *ports = free_ports(1 + len(NODES))
    host = socket.gethostname().split(".")[0]
    nodes = "\n".join(
        f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} "
        f"CPUs={CPUS} RealMemory=16000 Gres=gpu:fake:{GPUS}"
        for name, port in zip(NODES, ports, strict=True)
    )
    config = folder / "slurm.conf"
    config.write_text(
        CONFIG.format(host=host, controller=controller, folder=folder, nodes=nodes, names=",".join(NODES))
    )
    for gpu in range(GPUS):  # as /dev/null is
        os.mknod(folder / f"gpu{gpu}", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    (folder / "gres.conf").write_text(f"Name=gpu Type=fake File={folder}/gpu[0-{GPUS - 1}]\n")
    environment = {"SLURM_CONF": str(config)}
    daemons: list[subprocess.Popen[bytes]] = []
    try:
        daemons.append(_munged(folder))
        (folder / "state").mkdir()
        variables = os.environ | environment
        daemons.append(_start(folder, "slurmctld", "-D", "-c", "-f", str(config), environment=variables))
        for name in NODES:
            (folder / f"spool-{name}").mkdir()
            daemons.append(_slurmd(folder, name, variables))
        _wait_until_idle(variables, daemons, folder)
        yield environment
    finally:
        with contextlib.suppress(OSError, subprocess.SubprocessError):  # what a failed test has left in the queue
            command = [_program("scancel"), "--signal=KILL", "--full", "--user=root"]
            subprocess.run(command, env=os.environ | environment, timeout=10, capture_output=True, check=False)
            _wait_until_empty(os.environ | environment)
        for daemon in reversed(daemons):
            daemon.terminate()
        for daemon in daemons:
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        shutil.rmtree(folder, ignore_errors=True)


def jobs(environment: dict[str, str]) -> list[str]:
    """Identifiers of the jobs that wait, run or are ending."""
    command = [_program("squeue"), "--noheader", "--format=%i"]
    return subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, check=True, timeout=20
    ).stdout.split()


def _program(name: str) -> str:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin") or ""


def _start(
    folder: Path, name: str, *arguments: str, environment: dict[str, str], user: str | None = None
) -> subprocess.Popen[bytes]:
    with (folder / f"{name}.out").open("ab") as log:
        return subprocess.Popen(
            [_program(name), *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            user=user,
            preexec_fn=partial(die_with_parent, os.getpid()),
        )


def _slurmd(folder: Path, node: str, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """A node, and below it every job that it starts, none of which outlives this process."""
    command = [sys.executable, "-m", "infra.supervisor", str(os.getpid()), _program("slurmd"), "-D", "-N", node]
    with (folder / f"slurmd-{node}.out").open("ab") as log:
        return subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=HOUSE
        )


def _munged(folder: Path) -> subprocess.Popen[bytes]:
    """Authentication of this Slurm alone: its own key, its own socket, beside any munged of the machine."""
    owner = pwd.getpwnam("munge")
    private = folder / "munge"
    private.mkdir(mode=0o700)
    (private / "key").write_bytes(os.urandom(128))
    (private / "key").chmod(0o400)
    public = folder / "munge.socket"
    for path in (private, private / "key"):
        os.chown(path, owner.pw_uid, owner.pw_gid)
    os.chown(folder, owner.pw_uid, owner.pw_gid)
    options = (f"--key-file={private}/key", f"--log-file={private}/log", f"--pid-file={private}/pid")
    options += (f"--seed-file={private}/seed", f"--socket={public}", "--foreground", "--num-threads=2")
    return _start(folder, "munged", *options, environment=dict(os.environ), user="munge")


def _wait_until_idle(
    environment: dict[str, str], daemons: list[subprocess.Popen[bytes]], folder: Path, seconds: float = 60
) -> None:
    deadline = time.monotonic() + seconds
    command = [_program("sinfo"), "--noheader", "--Node", "--format=%N %t"]
    told = ""
    while time.monotonic() < deadline:
        gone = [daemon.args for daemon in daemons if daemon.poll() is not None]
        assert not gone, f"{gone} ended:\n{_logs(folder)}"
        with contextlib.suppress(subprocess.TimeoutExpired):
            told = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=10, check=False
            ).stdout
            if sorted(told.split("\n")) == sorted([*(f"{name} idle" for name in NODES), ""]):
                return
        time.sleep(0.2)
    raise AssertionError(f"the nodes are not idle: {told}\n{_logs(folder)}")


def _wait_until_empty(environment: dict[str, str], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and jobs(environment):
        time.sleep(0.2)


def _logs(folder: Path) -> str:
    return "\n".join(f"== {path.name}\n{path.read_text(errors='replace')[-3000:]}" for path in folder.glob("*.[lo]*"))
