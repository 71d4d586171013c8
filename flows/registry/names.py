"""The names of registered models, their aliases and versions.

That there is no such thing, and that the registry does not say, are never the same value: absence is what the registry
itself states, every other answer is raised as MLflow's error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from infra.errors import UserError
from infra.nearest import hint
from infra.settings import Settings

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

__all__ = ["Name", "absent", "alias_holder", "has_model", "parse_name", "registered_version", "resolve", "tags_of"]


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
        away = "no such file or folder; " if text.startswith((".", "/", "~")) else ""
        raise UserError(f"{text}: {away}write the model as NAME@ALIAS or NAME/VERSION")
    return Name(match[1], match[2] or "champion", match[3])


def has_model(client: MlflowClient, model: str) -> bool:
    """Whether the registry has a model of this name.

    Raises:
        MlflowException: the registry does not answer.
    """
    return bool(client.search_registered_models(f"name = '{model}'", max_results=1))


def alias_holder(client: MlflowClient, model: str, alias: str) -> str | None:
    """The version that an alias names; None only where the registry states that there is none.

    Raises:
        MlflowException: the registry does not answer, or not about the alias.
    """
    from mlflow.exceptions import MlflowException

    try:
        return str(client.get_model_version_by_alias(model, alias).version)
    except MlflowException as error:
        # MLflow says "invalid parameter" of an alias that is not there, and of much else: ask for the whole list
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        if has_model(client, model) and alias in client.get_registered_model(model).aliases:
            raise
        return None


def registered_version(client: MlflowClient, model: str, version: str) -> ModelVersion:
    """A version of a model.

    Raises:
        UserError: the registry has no such version.
        MlflowException: the registry does not answer.
    """
    from mlflow.exceptions import MlflowException

    told = f"{model} version {version}: not in the registry; see deepmill models"
    if not version.isdigit():
        raise UserError(told)
    try:
        return client.get_model_version(model, version)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise UserError(told) from None


def resolve(client: MlflowClient, name: Name) -> str:
    """The version that `name` means now; UserError when there is none, with the nearest name there is."""
    version = name.version or alias_holder(client, name.model, name.alias)
    if version is None:
        raise absent(client, name)
    return version


def absent(client: MlflowClient, name: Name) -> UserError:
    """That there is no such model or alias, with the nearest there is."""
    near = hint(str(name), _named(client), "see deepmill models", 0.8)
    return UserError(f"{name}: not in the registry; {near}")


def tags_of(settings: Settings, text: str) -> dict[str, str]:
    """The tags of the version that ``MODEL@ALIAS`` or ``MODEL/VERSION`` means now; UserError when there is none."""
    from infra.tracking import registry_client

    client, name = registry_client(settings), parse_name(text)
    return dict(registered_version(client, name.model, resolve(client, name)).tags)


def _named(client: MlflowClient) -> list[str]:
    """Every alias of every model."""
    return [f"{model.name}@{alias}" for model in client.search_registered_models() for alias in model.aliases]
