"""The tiny recipe's whole run from the command line, once per session, and what tests ask of it.

It runs in a network namespace with nothing but loopback, where that is allowed: whatever calls home fails or hangs.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from infra.store import LocalStore
from tests.flows.tiny import SERVER, STAGES, deepmill, write_recipe
from tests.shared import made_once

PRINTED = "printed.txt"
ALONE = ("unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$0" "$@"')
"""Runs the command behind it without a network."""
DOCUMENTS = ("extract", "clean", "dedup", "reasoning", "decontaminate")
"""The stages before the tokenizer."""


class Milled:
    """A run and the folder it was made in."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = LocalStore(root / "store")

    @property
    def printed(self) -> str:
        """What the golden run said."""
        return (self.root / PRINTED).read_text()

    @property
    def records(self) -> list[dict[str, Any]]:
        return [record for name in self.store.runs() if (record := self.store.read_run(name))]

    @property
    def run_id(self) -> str:
        """Of the first run."""
        return str(self.records[0]["run_id"])

    def contents(self) -> dict[str, str]:
        """Content digest of every artifact, by the identity."""
        return {item.identity: item.content for name in STAGES for item in self.store.manifests(name)}

    def lend(self, root: Path, stages: Iterable[str]) -> None:
        """Put what the first run made in those stages into the store below `root`, as if a run there had made it."""
        for name in stages:
            identity = self.records[0]["stages"][name]["identity"]
            shutil.copytree(self.store.path(name, identity), root / "store" / name / identity)

    def made(self) -> dict[str, str]:
        """As `contents`, of what the first run made."""
        contents = self.contents()
        identities = [entry["identity"] for name, entry in self.records[0]["stages"].items() if name in STAGES]
        return {identity: contents[identity] for identity in identities}


def why_not_alone() -> str:
    """Why a process cannot be kept from the network here; empty when it can."""
    tried = subprocess.run([*ALONE, "true"], capture_output=True, text=True, check=False)
    return f"network namespaces are not allowed here: {tried.stderr.strip()}" if tried.returncode else ""


def golden() -> Milled:
    """The run: with a Prefect server of its own, and MLflow's database made on the way. Tests that add to its store
    use names of their own."""
    return Milled(made_once("golden/run", _run))


def _run(root: Path) -> None:
    write_recipe(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(SERVER, raising=False)  # of the test that is the first to want it
        printed = deepmill(root, "run", "tiny.yaml", inside=() if why_not_alone() else ALONE)
    (root / PRINTED).write_text(printed)
