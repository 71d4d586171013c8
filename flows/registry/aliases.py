"""What a registered version carries, and how an alias moves: facts, gates, the trail of promotions.

MLflow keeps no history of aliases. Every move that Deepmill makes leaves an entry in the model's audit (tags of the
registered model), with what the gates said, and the version it replaced in a tag of the version.
"""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pydantic import ValidationError

from flows.recipe.sections import PromoteConfig
from flows.registry.facts import JudgedGate, Move, VersionFacts, facts_in
from flows.registry.gates import Gate
from flows.registry.names import alias_holder, registered_version
from infra.errors import UserError, first_problem

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = [
    "CHALLENGER",
    "GATES",
    "IDENTITY",
    "PREVIOUS",
    "audit_of",
    "drop_alias",
    "facts_of",
    "move_alias",
    "moves_of",
    "own_gates",
    "previous_of",
]

CHALLENGER = "challenger"
IDENTITY = "deepmill.identity"
PREVIOUS = "deepmill.previous"
GATES = "deepmill.gates"
"""Tag with the gates of the recipe that made the version, as JSON."""
AUDIT = "deepmill.audit."
LONGEST_ENTRY = 4_500
"""Characters of an audit entry; MLflow's databases take 5,000."""


def audit_of(client: MlflowClient, model: str) -> list[Move]:
    """All moves of a model's aliases, the oldest first."""
    tags = client.get_registered_model(model).tags
    return [Move.model_validate_json(text) for key, text in sorted(tags.items()) if key.startswith(AUDIT)]


def moves_of(client: MlflowClient, model: str, alias: str) -> list[Move]:
    """The moves of one alias, the oldest first."""
    return [move for move in audit_of(client, model) if move.alias == alias]


def facts_of(client: MlflowClient, name: str, version: str) -> VersionFacts:
    """The numbers that a version was registered with; UserError when it is not there, or not ours."""
    label = f"{name} version {version}"
    facts = facts_in(registered_version(client, name, version).tags, label)
    if facts is None:
        raise UserError(f"{label}: not registered by deepmill, so there is nothing to judge")
    return facts


def own_gates(client: MlflowClient, name: str, version: str) -> PromoteConfig:
    """The gates that a version was registered with: those of its recipe; the defaults where it carries none.

    Raises:
        UserError: there is no such version, or its gates cannot be read.
    """
    text = registered_version(client, name, version).tags.get(GATES)
    try:
        return PromoteConfig.model_validate_json(text) if text else PromoteConfig()
    except ValidationError as error:
        raise UserError(
            f"{name} version {version}: its gates (tag {GATES}) cannot be read ({first_problem(error)}); "
            "name a recipe's with --recipe"
        ) from None


def previous_of(client: MlflowClient, name: str, version: str) -> str | None:
    """The version that held the alias before `version`, as the move recorded it."""
    return registered_version(client, name, version).tags.get(PREVIOUS) or None


def move_alias(
    client: MlflowClient,
    name: str,
    version: str,
    previous: str | None,
    alias: str,
    why: str,
    gates: Sequence[Gate] = (),
) -> None:
    """Move the alias; `previous` is where a later rollback goes, the audit names what really was replaced."""
    replaced = alias_holder(client, name, alias)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    tags = {
        PREVIOUS: previous or "",
        "deepmill.promoted_at": now,
        "deepmill.promoted_by": getpass.getuser(),
        "deepmill.promoted_why": why,
    }
    for key, value in tags.items():
        client.set_model_version_tag(name, version, key, value)
    client.set_registered_model_alias(name, alias, version)
    _write_audit(client, name, Move(version=version, previous=replaced, alias=alias, why=why), gates)


def drop_alias(client: MlflowClient, name: str, alias: str, why: str) -> None:
    """Take the alias away, with an entry in the audit."""
    replaced = alias_holder(client, name, alias)
    client.delete_registered_model_alias(name, alias)
    _write_audit(client, name, Move(version=None, previous=replaced, alias=alias, why=why), ())


def _write_audit(client: MlflowClient, name: str, move: Move, gates: Sequence[Gate]) -> None:
    now = datetime.now(UTC)
    judged = {gate.gate: JudgedGate(passed=gate.passed, value=gate.value, limit=gate.limit) for gate in gates}
    signed = {"at": now.isoformat(timespec="seconds"), "by": getpass.getuser()}
    text = move.model_copy(update=signed | {"gates": judged}).entry()
    if len(text) > LONGEST_ENTRY:
        failed = {gate: JudgedGate(passed=False) for gate, mark in judged.items() if not mark.passed}
        short = failed or {"all": JudgedGate(passed=True)}
        text = move.model_copy(update=signed | {"gates": short}).entry()
    key = f"{AUDIT}{now:%Y%m%dT%H%M%S.%fZ}"  # a tag's name may not hold the + of an offset
    client.set_registered_model_tag(name, key, text)
