"""Two machines on one: network namespaces joined by a pair of virtual interfaces, each with a hostname of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Namespaces", "missing", "two_namespaces"]


@dataclass(frozen=True)
class Namespaces:
    """Names and addresses of the two."""

    names: tuple[str, str]
    addresses: tuple[str, str]

    def inside(self, node: int, command: list[str]) -> list[str]:
        """`command`, run in the namespace of `node`."""
        return ["ip", "netns", "exec", self.names[node], *command]

    def cut(self, node: int, *, off: bool) -> None:
        """Pull the cable of `node`, or put it back."""
        subprocess.run(
            self.inside(node, ["ip", "link", "set", "eth0", "down" if off else "up"]), check=True, capture_output=True
        )


def missing() -> str:
    """Why there can be none here; empty when there can."""
    if shutil.which("ip") is None:
        return "no network namespaces: ip is not installed (Debian: iproute2)"
    if os.geteuid() != 0:
        return "no network namespaces: they want root"
    probe = subprocess.run(
        ["ip", "netns", "add", f"dm-probe-{os.getpid()}"], capture_output=True, text=True, check=False
    )
    if probe.returncode:
        return f"no network namespaces: {probe.stderr.strip()}"
    subprocess.run(["ip", "netns", "delete", f"dm-probe-{os.getpid()}"], check=False)
    return ""


@contextlib.contextmanager
def two_namespaces() -> Iterator[Namespaces]:
    """Make them; they are gone afterwards."""
    tag = f"dm{os.getpid() % 100_000}"
    net = f"10.{100 + os.getpid() % 100}.{os.getpid() // 100 % 250}"
    spaces = Namespaces((f"{tag}a", f"{tag}b"), (f"{net}.1", f"{net}.2"))
    hosts = "".join(f"{address} {name}\n" for name, address in zip(spaces.names, spaces.addresses, strict=True))
    etc = [Path("/etc/netns", name) for name in spaces.names]
    try:
        for name, folder in zip(spaces.names, etc, strict=True):
            _ip("netns", "add", name)
            folder.mkdir(parents=True)
            own = f"127.0.0.1 localhost\n{hosts}"
            # every namespace keeps the machine's hostname, which must lead to its own address
            address = spaces.addresses[spaces.names.index(name)]
            (folder / "hosts").write_text(f"{address} {os.uname().nodename}\n{own}")
        _ip("link", "add", f"{tag}v0", "type", "veth", "peer", "name", f"{tag}v1")
        for number, name in enumerate(spaces.names):
            _ip("link", "set", f"{tag}v{number}", "netns", name)
            _ip("-n", name, "link", "set", f"{tag}v{number}", "name", "eth0")
            _ip("-n", name, "address", "add", f"{spaces.addresses[number]}/24", "dev", "eth0")
            _ip("-n", name, "link", "set", "eth0", "up")
            _ip("-n", name, "link", "set", "lo", "up")
        yield spaces
    finally:
        for name, folder in zip(spaces.names, etc, strict=True):
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)
            shutil.rmtree(folder, ignore_errors=True)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
