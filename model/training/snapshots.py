"""Checkpoints to resume from, in a stage's ``.work`` folder: complete or absent, checked before use, never pickled.

``latest.json`` names the newest complete snapshot with the checksums of its files, and is replaced in one step after
everything it names is on disk. A snapshot resumes in the layout (ranks, expert-parallel width) it was made in.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from infra.errors import UserError
from model.training.engine import Engine

__all__ = ["Snapshots"]


class Snapshots:
    """Saves and restores an engine together with the loop's own state."""

    def __init__(self, folder: Path, engine: Engine, fingerprint: str) -> None:
        """`fingerprint` identifies the run: another run's leavings in the folder are ignored."""
        self.folder, self._engine, self._fingerprint = folder, engine, fingerprint
        self._pointer = folder / "latest.json"

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write a snapshot of `step` finished steps; every rank calls it, with the same arguments."""
        place = self.folder / f"step-{step:08d}"
        if self._engine.rank == 0:
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
        self._barrier()
        self._engine.save(place)
        if self._engine.rank == 0:
            (place / "state.json").write_text(json.dumps(state), encoding="utf-8")
            files = {path.name: _digest_and_sync(path) for path in sorted(place.iterdir())}
            pointer = {
                "snapshot": place.name,
                "step": step,
                "layout": self._engine.layout,
                "fingerprint": self._fingerprint,
                "files": files,
            }
            fresh = self._pointer.with_suffix(".tmp")
            fresh.write_text(json.dumps(pointer), encoding="utf-8")
            _digest_and_sync(fresh)
            fresh.replace(self._pointer)
            for old in self.folder.glob("step-*"):
                if old != place:
                    shutil.rmtree(old, ignore_errors=True)
        self._barrier()

    def restore(self) -> tuple[int, dict[str, Any]] | None:
        """Load the newest snapshot into the engine: (finished steps, state), or None when there is none to use.

        Raises UserError when it was made in another layout, or a file does not match its checksum.
        """
        if not self._pointer.exists():
            return None
        pointer = json.loads(self._pointer.read_text(encoding="utf-8"))
        if pointer["fingerprint"] != self._fingerprint:
            return None
        if pointer["layout"] != self._engine.layout:
            there, here = pointer["layout"], self._engine.layout
            raise UserError(
                f"{self.folder}: the unfinished training ran on {there['ranks']} ranks with expert_parallel "
                f"{there['expert_parallel']}, this one on {here['ranks']} with {here['expert_parallel']}; "
                "run it as before, or delete the folder to start again"
            )
        place = self.folder / pointer["snapshot"]
        for name, digest in pointer["files"].items():
            mine = name == "state.json" or name.endswith(f"-{self._engine.rank}.safetensors")
            if mine and (not (place / name).exists() or _digest(place / name) != digest):
                raise UserError(f"{place / name}: missing or damaged; delete {self.folder} to start the training again")
        self._engine.load(place)
        return pointer["step"], json.loads((place / "state.json").read_text(encoding="utf-8"))

    def _barrier(self) -> None:
        if self._engine.world > 1:
            import torch.distributed as dist

            dist.barrier()


def _digest(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _digest_and_sync(path: Path) -> str:
    with path.open("rb") as handle:
        os.fsync(handle.fileno())
        return hashlib.file_digest(handle, "sha256").hexdigest()
