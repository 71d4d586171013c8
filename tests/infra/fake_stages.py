"""Stages small enough to kill, fail and race in tests of the runner."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from infra import events
from infra.cleanup_hooks import cleanup_hook
from infra.errors import UserError
from infra.kept_parts import kept_parts
from infra.section import Section


class FakeConfig(Section):
    text: str = "hello"
    seconds: float = 0.0
    pid_file: str = ""


def write(config: FakeConfig, inputs: Mapping[str, Path], out_dir: Path) -> dict[str, Any]:
    """Writes `text` and what its inputs hold; counts how often it ran in a file beside the store."""
    events.begin("writing", 2, "files")
    parts = [config.text] + [(path / "out.txt").read_text() for path in inputs.values()]
    attempts = out_dir / ".work" / "attempts"
    attempts.parent.mkdir(exist_ok=True)
    before = int(attempts.read_text()) if attempts.exists() else 0
    attempts.write_text(str(before + 1))
    if config.pid_file:  # last: whoever waits for it kills
        with Path(config.pid_file).open("a") as handle:
            handle.write(f"{os.getpid()}\n")
    time.sleep(config.seconds)
    (out_dir / "out.txt").write_text("+".join(parts))
    events.advance(2)
    events.metrics({"loss": 1.5}, step=3)
    return {"length": len(parts), "attempts": before + 1}


def refuse(config: FakeConfig, inputs: Mapping[str, Path], out_dir: Path) -> dict[str, Any]:
    raise UserError("corpus.xml: record 7: not closed; fetch the file again")


def crash(config: FakeConfig, inputs: Mapping[str, Path], out_dir: Path) -> dict[str, Any]:
    raise RuntimeError("first line\nlast line")


def fill_disk(config: FakeConfig, inputs: Mapping[str, Path], out_dir: Path) -> dict[str, Any]:
    raise OSError(errno.ENOSPC, "No space left on device", str(out_dir / "big"))


def with_descendants(config: FakeConfig, inputs: Mapping[str, Path], out_dir: Path) -> dict[str, Any]:
    """Starts a grandchild that ignores SIGTERM and has left the session, and waits."""
    code = "import os,signal,time;signal.signal(15,signal.SIG_IGN);os.setsid();time.sleep(600)"
    orphan = f"import subprocess,sys;p=subprocess.Popen([sys.executable,'-c',{code!r}]);print(p.pid,flush=True)"
    process = subprocess.Popen([sys.executable, "-c", orphan], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    grandchild = process.stdout.readline().strip()
    Path(config.pid_file).write_text(f"{os.getpid()}\n{grandchild}\n")
    time.sleep(600)
    return {}


def with_work_elsewhere(config: FakeConfig, inputs: Mapping[str, Path], out_dir: Path) -> dict[str, Any]:
    """Says who it is and waits, to be killed; the second time, tells whether the ending ran before it started."""
    pids = Path(config.pid_file)
    if pids.exists():
        return {"ran": Path(config.text).exists()}
    with cleanup_hook(["touch", config.text]):
        pids.write_text(f"{os.getpid()}\n")
        time.sleep(600)
    return {}


def keeps_a_part(config: FakeConfig, inputs: Mapping[str, Path], out_dir: Path) -> dict[str, Any]:
    """Takes a part that its first attempt keeps, whatever its text."""
    parts, files = kept_parts(), {"out": out_dir / "out.txt"}
    taken = parts is not None and parts.take("the part", files)
    if not taken:
        files["out"].write_text("made")
        if parts is not None:
            parts.keep("the part", files)
    return {"keeps": parts is not None, "taken": taken}


def tells_how_it_runs(config: FakeConfig, inputs: Mapping[str, Path], out_dir: Path) -> dict[str, Any]:
    """What a stage can see of its own process; waits for the file `text` after it has written `pid_file`."""
    if config.pid_file:
        Path(config.pid_file).write_text(f"{os.getpid()}\n")
        while not Path(config.text).exists():
            time.sleep(0.01)
    mask, supervisor = os.umask(0), psutil.Process().parent()
    os.umask(mask)
    assert supervisor is not None
    return {
        "above": supervisor.ppid(),
        "program": supervisor.cmdline()[2],
        "folder": str(Path.cwd()),
        "umask": mask,
        "leads": os.getsid(0) == os.getpid(),
        "open": sorted(name for name in map(_shown, Path("/proc/self/fd").iterdir()) if name),
        "variables": {
            name: os.environ.get(name)
            for name in ("DEEPMILL_EXECUTION", "DEEPMILL_TEST", "OTHER_TEST", "GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
        },
        "handlers": [
            str(getattr(signal.getsignal(number), "__name__", "")) for number in (signal.SIGINT, signal.SIGTERM)
        ],
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
    }


def _shown(descriptor: Path) -> str:
    try:
        return f"{descriptor.name} {descriptor.readlink().name}"
    except OSError:  # of the listing itself
        return ""
