"""Makes the virtual environment: ``python3.11 infra/deploy/set_up.py run|test FOLDER``. Standard library alone.

The versions are known (`constraints.txt`) and so is what needs what (`run.txt`, `test.txt`, which a test holds to the
packages' own metadata), so pip has nothing to search for: two processes of it unpack half of the packages each. uv does
it where it is there and no index is configured for pip alone. What is there already in the right version is left.
Afterwards `trim.py` deletes the packages' own tests, and `warm.py` has bytecode made of what runs import.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CONSTRAINTS = ROOT / "constraints.txt"
LISTS = {"run": ("run",), "test": ("run", "test")}
EXTRAS = {"run": "all", "test": "all,cluster,operations,dev,docs"}
HEAVY = ("torch", "transformers", "llvmlite", "pyarrow", "scipy", "playwright", "ray", "pandas", "sympy")
"""About half of what there is to unpack."""
OWN_DEPENDENCIES = ("torch",)
"""Builds of it differ in what they need (CUDA's libraries), which only its own metadata tells."""


def main(purpose: str, folder: Path) -> None:
    """Fill `folder`, or say in a line what went wrong and end with status 1."""
    clock = time.monotonic()
    python = folder / "bin" / "python"
    names = [name for part in LISTS[purpose] for name in (HERE / f"{part}.txt").read_text().split()]
    print(f"Setting up {folder} for `make {purpose}`: {len(names)} packages", flush=True)
    if not python.exists():
        _call([sys.executable, "-m", "venv", str(folder)])
    site = next(folder.glob("lib/python*/site-packages"))
    with _progress(lambda: len(list(site.glob("*.dist-info"))), len(names)):
        _install(python, names)
    subprocess.run([sys.executable, str(HERE / "trim.py"), str(site)], check=False)
    print("  compiling what runs import", flush=True)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # it was meant for other programs than this
    _together([[str(python), str(HERE / "warm.py"), part] for part in ("loops", "text", "servers")], may_fail=True)
    print(f"  ready after {time.monotonic() - clock:.0f} s", flush=True)


def _install(python: Path, names: list[str]) -> None:
    project = ["--editable", str(ROOT)]
    if uv := _uv():
        pip = [uv, "pip", "install", "--quiet", "--python", str(python), "--constraint", str(CONSTRAINTS)]
        _call([*pip, "--no-deps", *names])
        _call([*pip, *OWN_DEPENDENCIES])
        _call([*pip, "--no-deps", *project])
        return
    pip = [str(python), "-m", "pip", "install", "--quiet", "--quiet", "--no-compile"]
    pip += ["--disable-pip-version-check", "--no-warn-script-location", "--constraint", str(CONSTRAINTS)]
    heavy = [name for name in names if name in HEAVY]
    light = [name for name in names if name not in HEAVY]
    _together([[*pip, "--no-deps", *half] for half in (heavy, light)])
    _call([*pip, *OWN_DEPENDENCIES])
    _call([*pip, "--no-deps", "--no-build-isolation", *project])


def _uv() -> str | None:
    """uv, unless only pip knows where the packages come from."""
    found = shutil.which("uv")
    if not found or any(name.startswith("UV_") for name in os.environ):
        return found
    configured = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True)
    words = ("index-url", "find-links", "no-index")
    return None if any(word in configured.stdout for word in words) else found


def _call(command: list[str]) -> None:
    _together([command])


def _together(commands: list[list[str]], *, may_fail: bool = False) -> None:
    """Run commands at once; the first that fails ends the set-up with what it said."""
    with tempfile.TemporaryFile("w+") as said:
        running = [(command, subprocess.Popen(command, stdout=said, stderr=said)) for command in commands]
        failed = [command for command, process in running if process.wait()]
        if failed and not may_fail:
            said.seek(0)
            sys.stderr.write(said.read())
            sys.exit(f"error {' '.join(failed[0][:4])} failed; the same command goes on with what is left")


@contextmanager
def _progress(done: Callable[[], int], total: int) -> Iterator[None]:
    """Tell how many packages are there: on a terminal in one line, elsewhere at every quarter."""
    ended = Event()
    thread = Thread(target=_tell, args=(ended, done, total))
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _tell(ended: Event, done: Callable[[], int], total: int) -> None:
    clock, told = time.monotonic(), 0
    terminal = sys.stdout.isatty()
    while not ended.wait(0.5):
        now = min(done(), total)
        if terminal or now >= told + total / 4:
            told = now
            line = f"  {now} of {total} packages, {time.monotonic() - clock:.0f} s"
            print(f"\r{line}" if terminal else line, end="" if terminal else "\n", flush=True)
    if terminal:
        print()


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in LISTS:
        sys.exit("usage: set_up.py run|test FOLDER")
    main(sys.argv[1], Path(sys.argv[2]))
