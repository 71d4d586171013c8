"""The tiny recipe's whole run from the command line, once per session, and what tests ask of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from infra.store import LocalStore
from tests.flows.tiny import STAGES, deepmill, write_recipe
from tests.shared import made_once

PRINTED = "printed.txt"


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

    def made(self) -> dict[str, str]:
        """As `contents`, of what the first run made."""
        contents = self.contents()
        identities = [entry["identity"] for name, entry in self.records[0]["stages"].items() if name in STAGES]
        return {identity: contents[identity] for identity in identities}


def golden() -> Milled:
    """The run: with a Prefect server of its own, and MLflow's database made on the way. Tests that add to its store
    use names of their own."""
    return Milled(made_once("golden/run", _run))


def _run(root: Path) -> None:
    write_recipe(root)
    printed = deepmill(root, "run", "tiny.yaml")
    (root / PRINTED).write_text(printed)
