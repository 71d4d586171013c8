"""Real images for tests: a base made of Debian's packages, buildah, podman, and no registry.

Storage, network names and limits are the test's own, beside any podman of the machine. What is inside comes from where
this machine has it: apt's mirror, and wheels that its own pip fetches.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.wheel import tracked

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent / "deploy" / "images"
PROGRAMS = ("podman", "buildah", "mmdebstrap")
PACKAGES = ("python3.11", "python3.11-venv", "python-is-python3", "ca-certificates")
BASE = "localhost/deepmill-base:bookworm"
CONFINED = ("--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges")
"""As compose.yaml and the manifests confine a container."""
PATIENCE = 3600
"""Seconds for a command, which is no measure of anything: a crowded machine took 15 minutes to fetch the wheels."""
SETTINGS = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
runtime = "{runtime}"
"""
STORAGE = """\
[storage]
driver = "{driver}"
graphroot = "{folder}/graph"
runroot = "{folder}/run"
"""


def missing() -> str:
    """Why there can be no images here; empty when there may be (`house` finds out)."""
    absent = [name for name in PROGRAMS if not shutil.which(name)]
    absent += [] if _runtime() else ["runc"]
    if absent:
        return f"no images: {', '.join(absent)} not installed (Debian: podman buildah runc mmdebstrap)"
    return "" if os.geteuid() == 0 else "no images: the base is made and containers are run by root"


def _runtime() -> str:
    """runc first: crun refuses a machine with control groups of both versions."""
    return next((name for name in ("runc", "crun") if shutil.which(name)), "")


class NoContainersError(Exception):
    """The programs are here, and this machine runs no container."""


@dataclass(frozen=True)
class House:
    """A place to build and run images in."""

    folder: Path
    variables: dict[str, str]

    def call(self, *command: str, **more: str) -> str:
        """What a command said; it must succeed."""
        done = subprocess.run(
            command, env=self.variables | more, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout

    def build(self, name: str, dockerfile: Path, context: Path, *options: str, **arguments: str) -> int:
        """Build an image; its size in bytes."""
        given = [f"--build-arg={key}={value}" for key, value in ({"BASE": BASE} | arguments).items()]
        command = ["buildah", "bud", "--isolation=chroot", "--network=host", "--tag", name, *given, *options]
        self.call(*command, "--file", str(dockerfile), str(context))
        return int(self.call("podman", "image", "inspect", "--format", "{{.Size}}", name))

    def run(self, image: str, *command: str, options: Sequence[str] = ()) -> str:
        """What a confined container said."""
        return self.call("podman", "run", "--rm", *CONFINED, *options, image, *command)


@contextlib.contextmanager
def house() -> Iterator[House]:
    """A place with a base image in it.

    Raises:
        NoContainersError: there is no base here, or a container with no more to do than `true` does not run.
    """
    folder = Path(tempfile.mkdtemp(prefix="images-", dir="/var/tmp"))
    try:
        made = House(folder, _settings(folder))
        try:
            made.call("podman", "info")  # soon said, where this machine has no containers
            _make_base(made)
            made.run(BASE, "true")
        except AssertionError as error:
            raise NoContainersError(f"no images: {str(error).strip().splitlines()[-1]}") from None
        yield made
        made.call("podman", "rm", "--all", "--force")
    finally:
        for mounted in sorted(line.split()[1] for line in Path("/proc/mounts").read_text().splitlines())[::-1]:
            if mounted.startswith(str(folder)):
                subprocess.run(["umount", "--lazy", mounted], check=False)
        shutil.rmtree(folder, ignore_errors=True)


def _make_base(house: House) -> None:
    tar = house.folder / "base.tar"
    house.call("mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(PACKAGES)}", "bookworm", str(tar))
    house.call("podman", "import", "--quiet", str(tar), BASE)
    tar.unlink()


def _settings(folder: Path) -> dict[str, str]:
    (folder / "containers.conf").write_text(SETTINGS.format(runtime=_runtime()))
    (folder / "storage.conf").write_text(STORAGE.format(folder=folder, driver="overlay"))
    return os.environ | {
        "CONTAINERS_CONF": str(folder / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
    }


def source(folder: Path) -> Path:
    """What git tracks, as a context to build from: no file of this checkout gets into an image by chance."""
    target = folder / f"source-{uuid.uuid4().hex[:8]}"
    for name in tracked():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target / name)
    return target


def wheels(folder: Path, extras: str, context: Path) -> Path:
    """Wheels of the project's dependencies, as this machine's own pip finds them."""
    found = folder / "wheels"
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"]
    wanted = [f"deepmill{extras} @ file://{context}", "setuptools>=77"]
    constraint = ["--constraint", str(ROOT / "constraints.txt")]
    done = subprocess.run(
        [*pip, *constraint, "--wheel-dir", str(found), *wanted],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return found
