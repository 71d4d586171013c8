"""A promotion that nobody judged: made by hand in MLflow, or by a script. It is noticed, judged, and kept or undone.

Every move of the alias that Deepmill makes leaves an entry in the model's audit. An alias that names another version
than the latest entry was moved by other hands. The version is judged by the gates it was registered with, beside the
version that the audit knows; if it passes, the audit gains the entry, else the alias goes back. A way back to the
champion before is always open, as it is for `rollback`. An alias that was taken away stays away.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flows.recipe.sections import PromoteConfig
from flows.registry.file_gates import evidence_gates
from flows.registry.gates import Gate, judge
from flows.registry.lock import registry_lock
from flows.registry.names import alias_holder
from flows.registry.release import GATES, IDENTITY, PREVIOUS, facts_of, move_alias
from infra.errors import UserError
from infra.settings import Settings
from infra.tracking import registry_client

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["Verdict", "audit", "audit_of", "our_models"]

AUDIT = "deepmill.audit."


@dataclass(frozen=True)
class Verdict:
    """What `audit` found."""

    version: str | None
    """The version that the alias names now, after the audit."""
    message: str = ""
    """What was noticed; empty when there was nothing."""


def audit_of(client: MlflowClient, model: str) -> list[dict[str, Any]]:
    """All moves of a model's aliases, the oldest first."""
    tags = client.get_registered_model(model).tags
    return [json.loads(text) for key, text in sorted(tags.items()) if key.startswith(AUDIT)]


def our_models(settings: Settings) -> list[str]:
    """The models that Deepmill registered a version of; others in the same registry are nobody's business here."""
    versions = registry_client(settings).search_model_versions()
    return sorted({version.name for version in versions if IDENTITY in version.tags})


def audit(settings: Settings, model: str, alias: str = "champion") -> Verdict:
    """Judge the holder of an alias unless the audit knows it.

    Raises:
        MlflowException: the registry does not answer.
    """
    client = registry_client(settings)
    version = alias_holder(client, model, alias)
    if version is None or version == _audited(client, model, alias):
        return Verdict(version)
    with registry_lock(settings, model) as check:
        version = alias_holder(client, model, alias)  # the lock's last holder may have moved it
        known = _audited(client, model, alias)
        if version is None or version == known:
            return Verdict(version)
        failed = _failed(client, model, version, known, alias)
        check()
        if failed is None:
            move_alias(client, model, version, known, alias, "by hand in MLflow; its gates pass")
            return Verdict(version, f"{model} version {version} was made {alias} by hand; its gates pass")
        if known is None:
            client.delete_registered_model_alias(model, alias)
        else:
            before = client.get_model_version(model, known).tags.get(PREVIOUS)
            why = f"version {version} was made {alias} by hand, against its gates: {failed}"
            move_alias(client, model, known, before or None, alias, why)
        return Verdict(known, f"{model} version {version} was made {alias} by hand and is not any more: {failed}")


def _audited(client: MlflowClient, model: str, alias: str) -> str | None:
    moves = [entry for entry in audit_of(client, model) if entry["alias"] == alias]
    return str(moves[-1]["version"]) if moves else None


def _failed(client: MlflowClient, model: str, version: str, known: str | None, alias: str) -> str | None:
    """Why a version may not hold the alias, or None when it may."""
    if known is not None and client.get_model_version(model, known).tags.get(PREVIOUS) == version:
        return None  # a rollback by hand
    text = client.get_model_version(model, version).tags.get(GATES)
    config = PromoteConfig.model_validate_json(text) if text else PromoteConfig(alias=alias)
    try:
        facts = facts_of(client, model, version)
        gates: list[Gate] = judge(config, facts, facts_of(client, model, known) if known else None)
        gates += evidence_gates(config, client, model, version, facts)
    except (UserError, KeyError) as error:
        return str(error)
    return ", ".join(gate.gate for gate in gates if not gate.passed) or None
