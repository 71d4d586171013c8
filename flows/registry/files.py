"""The files of a registered version: where they lie, and whether they are the ones that were registered.

A version carries the checksum of every file that MLflow keeps of it: weights, tokenizer, the code that loads them, the
signature and the requirements. They are compared before every use, and what is used is a private copy of what was
compared, so that nothing can change in between. Files that were not registered are refused like damaged ones.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flows.registry.facts import facts_in
from flows.registry.names import registered_version
from infra.errors import UserError, first_line
from infra.integrity import Difference, differences, folder_digests, plain_files
from infra.paths import within
from infra.relocation import local_path
from infra.settings import Settings

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["WEIGHTS", "Recorded", "VersionFiles", "file_tags", "logged_digests"]

FILES = "deepmill.files."
"""Tags with the checksums of all files of a version, as JSON, in parts: MLflow limits the length of a tag."""
FILES_PER_TAG = 400
WEIGHTS = "artifacts/model"
"""Folder of a version that an engine reads."""
NOT_OURS = ("registered_model_meta",)
"""What MLflow itself adds to a folder that it has loaded from: the name and version."""


@dataclass(frozen=True)
class Recorded:
    """Checksums that a version was registered with."""

    digests: Mapping[str, str]
    """SHA-256 by path below the version's folder."""
    whole: bool
    """Whether they are of all its files; else of the weights' folder alone, as earlier releases recorded them."""

    @classmethod
    def of(cls, tags: Mapping[str, str]) -> Recorded | None:
        """What the tags of a version say; None for one that was registered before checksums were kept."""
        digests: dict[str, str] = {}
        for key, text in tags.items():
            if key.startswith(FILES):
                digests |= json.loads(text)
        if digests:
            return cls(digests, whole=True)
        facts = facts_in(tags, "a version of an earlier release")
        if facts is None or facts.files is None:
            return None
        return cls({f"{WEIGHTS}/{path}": digest for path, digest in facts.files.items()}, whole=False)

    def differences(self, folder: Path) -> list[Difference]:
        """What of the version in `folder` is not as registered."""
        if self.whole:
            return differences(folder, self.digests, skip=NOT_OURS, bytecode=True)
        below = {path.removeprefix(f"{WEIGHTS}/"): digest for path, digest in self.digests.items()}
        return differences(folder / WEIGHTS, below)


def file_tags(digests: Mapping[str, str]) -> dict[str, str]:
    """The tags that record the checksums of a version's files."""
    items = sorted(digests.items())
    parts = (items[start : start + FILES_PER_TAG] for start in range(0, len(items), FILES_PER_TAG))
    return {f"{FILES}{number:03d}": json.dumps(dict(part)) for number, part in enumerate(parts)}


@dataclass(frozen=True)
class VersionFiles:
    """The files of one registered version."""

    client: MlflowClient
    settings: Settings
    model: str
    version: str

    @property
    def label(self) -> str:
        """What people call the version."""
        return f"{self.model}/{self.version}"

    def recorded(self) -> Recorded | None:
        """The checksums it was registered with, if any; UserError when there is no such version."""
        return Recorded.of(registered_version(self.client, self.model, self.version).tags)

    def damage(self) -> list[Difference] | None:
        """What is not as registered, where the files lie; None for a version that was registered without checksums.

        Raises:
            UserError: there is no such version, or its files cannot be reached.
        """
        recorded = self.recorded()
        if recorded is None:
            return None
        here = self._local()
        if here is not None:
            return recorded.differences(here)
        with tempfile.TemporaryDirectory() as scratch:
            return recorded.differences(self._download(Path(scratch)))

    def fetch(self, target: Path) -> tuple[Path, Recorded | None]:
        """A private copy of the version in the folder `target`, every file compared with its checksum.

        A copy that is there already is used if it is still whole.

        Returns:
            The folder of the version, and what it was compared with; None when nothing was recorded.

        Raises:
            UserError: there is no such version, it is not ours, or a file is not as registered: the line names it.
        """
        recorded = self.recorded()
        if recorded is not None and recorded.whole and target.is_dir() and not recorded.differences(target):
            return target, recorded
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
            root = self._copy(Path(scratch))
            self._check(root, recorded)
            shutil.rmtree(target, ignore_errors=True)
            root.rename(target)  # nobody finds half of it, or what is not as registered
        return target, recorded

    def _check(self, root: Path, recorded: Recorded | None) -> None:
        wrong = recorded.differences(root) if recorded else []
        if wrong:
            more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
            path = wrong[0].path if recorded and recorded.whole else f"{WEIGHTS}/{wrong[0].path}"
            raise UserError(
                f"{self.label}: {path}: {wrong[0].what}{more}, so the version is not used; restore the file, go back "
                f"(deepmill rollback {self.model}), or register the model again"
            )
        if not (root / WEIGHTS / "config.json").is_file():
            raise UserError(f"{self.label}: not registered by deepmill, so there is nothing to serve")

    def _copy(self, scratch: Path) -> Path:
        here = self._local()
        if here is None:
            return self._download(scratch)
        root = scratch / "files"
        root.mkdir()
        for name in plain_files(here, skip=NOT_OURS):
            if "__pycache__" in name.split("/"):
                continue  # what Python compiled there is not what was registered
            copy = within(root, name)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(here / name, copy)
        return root

    def _location(self) -> str:
        registered_version(self.client, self.model, self.version)  # its absence has a message of its own
        return str(self.client.get_model_version_download_uri(self.model, self.version))

    def _local(self) -> Path | None:
        return _local_folder(self._location(), self.settings, self.label)

    def _download(self, scratch: Path) -> Path:
        return _download(self._location(), scratch, self.label)


def logged_digests(location: str, settings: Settings, label: str) -> dict[str, str]:
    """The checksum of every file at `location`, as MLflow keeps it: read back after it was logged.

    Raises:
        UserError: the files cannot be reached.
    """
    here = _local_folder(location, settings, label)
    if here is not None:
        return folder_digests(here, skip=NOT_OURS)
    with tempfile.TemporaryDirectory() as scratch:
        return folder_digests(_download(location, Path(scratch), label), skip=NOT_OURS)


def _local_folder(location: str, settings: Settings, label: str) -> Path | None:
    """The folder that `location` is, where it is on this machine; None for one that a server keeps.

    Raises:
        UserError: it should be here and is not.
    """
    path = local_path(location, settings.local_root)
    if path is not None and not path.is_dir():
        raise UserError(
            f"{label}: its files are not at {path}, where the registry says, nor in {settings.local_root}; give the "
            "store with --root, and if it was moved: deepmill doctor --relocate"
        )
    return path


def _download(location: str, scratch: Path, label: str) -> Path:
    import mlflow
    from mlflow.exceptions import MlflowException

    try:
        return Path(mlflow.artifacts.download_artifacts(location, dst_path=str(scratch)))
    except (MlflowException, OSError) as error:
        raise UserError(
            f"{label}: its files cannot be fetched ({first_line(error)}); is the artifact store {location} there?"
        ) from None
