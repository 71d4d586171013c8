"""The names of registered models, and their files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from infra.errors import UserError

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["Name", "alias_holder", "download", "parse_name", "resolve"]


@dataclass(frozen=True)
class Name:
    """``MODEL@ALIAS`` or ``MODEL/VERSION``."""

    model: str
    alias: str = "champion"
    version: str | None = None
    """Set where the name fixes one; else the alias decides, whenever it is asked."""

    def __str__(self) -> str:
        return f"{self.model}/{self.version}" if self.version else f"{self.model}@{self.alias}"


def parse_name(text: str) -> Name:
    """A name as people write it; UserError for anything else, paths among it."""
    match = re.fullmatch(r"([\w][\w .+-]*)(?:@([\w-]+)|/(\d+))?", text)
    if match is None:
        raise UserError(f"{text}: write the model as NAME@ALIAS or NAME/VERSION")
    return Name(match[1], match[2] or "champion", match[3])


def alias_holder(client: MlflowClient, model: str, alias: str) -> str | None:
    """The version that an alias names, None when there is none. Other failures of the registry are raised."""
    from mlflow.exceptions import MlflowException

    try:
        return str(client.get_model_version_by_alias(model, alias).version)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def resolve(client: MlflowClient, name: Name) -> str:
    """The version that `name` means now; UserError when there is none."""
    version = name.version or alias_holder(client, name.model, name.alias)
    if version is None:
        raise UserError(f"{name}: not in the registry; see deepmill models")
    return version


def download(client: MlflowClient, model: str, version: str, target: Path) -> Path:
    """The folder of a version's weights, fetched below `target` where it is not on this machine.

    Raises:
        UserError: there is no such version, or it is not one of ours.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    try:
        client.get_model_version(model, version)
    except MlflowException:
        raise UserError(f"{model}/{version}: not in the registry; see deepmill models") from None
    target.mkdir(parents=True, exist_ok=True)
    try:
        root = Path(mlflow.artifacts.download_artifacts(f"models:/{model}/{version}", dst_path=str(target)))
    except (MlflowException, OSError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{model}/{version}: its files cannot be fetched ({first}); is the artifact store there?"
        ) from (None)
    folder = root / "artifacts" / "model"
    if not (folder / "config.json").is_file():
        raise UserError(f"{model}/{version}: not registered by deepmill, so there is nothing to serve")
    return folder
