"""A promotion that nobody judged: made by hand in MLflow, or by a script. It is noticed, judged, and kept or undone.

Every move of the alias that Deepmill makes leaves an entry in the model's audit. An alias that names another version
than the latest entry was moved by other hands. The version is judged by the gates it was registered with, beside the
version that the audit knows; if it passes, the audit gains the entry, else the alias goes back. The version that the
audit knows as the one before is judged by its own gates alone: it need not be better than what it replaces again.
An alias goes back only to a version whose files are as registered and whose gates were judged; where there is none, it
is taken away. An alias that was taken away stays away.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.recipe.sections import PromoteConfig
from flows.registry.aliases import (
    IDENTITY,
    drop_alias,
    facts_of,
    move_alias,
    moves_of,
    own_gates,
    previous_of,
)
from flows.registry.file_gates import evidence_gates, removal_gates
from flows.registry.files import VersionFiles
from flows.registry.gates import Gate, judge
from flows.registry.lock import registry_lock
from flows.registry.names import alias_holder
from infra.errors import UserError
from infra.settings import Settings
from infra.tracking import registry_client

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["Registry", "Verdict", "audit", "our_models"]


@dataclass(frozen=True)
class Verdict:
    """What `audit` found."""

    version: str | None
    """The version that the alias names now, after the audit."""
    message: str = ""
    """What was noticed; empty when there was nothing."""


def our_models(settings: Settings) -> list[str]:
    """The models that Deepmill registered a version of; others in the same registry are nobody's business here."""
    versions = registry_client(settings).search_model_versions()
    return sorted({version.name for version in versions if IDENTITY in version.tags})


def audit(settings: Settings, model: str, alias: str = "champion") -> Verdict:
    """Judge the holder of an alias unless the audit knows it.

    Raises:
        MlflowException: the registry does not answer.
    """
    registry = Registry(registry_client(settings), settings, model, alias)
    version = registry.holder()
    if version is None or version == registry.audited():
        return Verdict(version)
    with registry_lock(settings, model) as check:
        return registry.audit_holder(check)


def failed_gates(gates: list[Gate]) -> str:
    """The names of the gates that did not pass; empty when all did."""
    return ", ".join(gate.gate for gate in gates if not gate.passed)


@dataclass(frozen=True)
class Registry:
    """One alias of one model, with what is known of its holders. What changes it wants the `registry_lock`."""

    client: MlflowClient
    settings: Settings
    model: str
    alias: str

    def holder(self) -> str | None:
        """The version that the alias names; None where the registry states that there is none."""
        return alias_holder(self.client, self.model, self.alias)

    def audited(self) -> str | None:
        """The version that the alias should name, by the audit."""
        moves = moves_of(self.client, self.model, self.alias)
        return moves[-1].version if moves else None

    def judged(self, version: str, champion: str | None, config: PromoteConfig | None = None) -> list[Gate]:
        """Every gate on a version, beside the version `champion`; its own gates unless `config` gives others.

        Raises:
            UserError: there is no such version, it is not ours, or its files cannot be reached.
        """
        config = config or own_gates(self.client, self.model, version)
        facts = facts_of(self.client, self.model, version)
        theirs = facts_of(self.client, self.model, champion) if champion not in (None, version) else None
        files = self._files(version)
        return [*judge(config, facts, theirs), *evidence_gates(config, files), *removal_gates(config, files)]

    def unfit(self, version: str) -> str:
        """Why the alias may not go back to a version; empty when it may.

        Its files must be as registered, and nobody must have asked to have documents of its training text removed.
        Its gates must pass, alone, unless the audit says that they passed when it was promoted, or that a person
        overrode them.
        """
        try:
            damage = self._files(version).damage()
            if damage:
                return f"{damage[0].path}: {damage[0].what}"
            if asked := removal_gates(own_gates(self.client, self.model, version), self._files(version)):
                return failed_gates(asked)
            moves = [each for each in moves_of(self.client, self.model, self.alias) if each.version == version]
            if any(each.passed or each.forced for each in moves):
                return ""
            return failed_gates(self.judged(version, None))
        except UserError as error:
            return str(error)

    def audit_holder(self, check: Callable[[], None]) -> Verdict:
        """Judge a holder that the audit does not know, and keep or undo it; `check` is the lock's."""
        version, known = self.holder(), self.audited()
        if version is None or version == known:
            return Verdict(version)
        gates, failed = self._judge_stranger(version, known)
        check()
        label = f"{self.model} version {version} was made {self.alias} by hand"
        if not failed:
            self.move(version, known, "by hand in MLflow; its gates pass", gates)
            return Verdict(version, f"{label}; its gates pass")
        return self._undo(f"{label}, against its gates: {failed}", f"{label} and is not any more: {failed}")

    def _judge_stranger(self, version: str, known: str | None) -> tuple[list[Gate], str]:
        try:
            held = {move.version for move in moves_of(self.client, self.model, self.alias)}
            is_way_back = (
                known is not None and version in held and previous_of(self.client, self.model, known) == version
            )
            gates = self.judged(version, None if is_way_back else known)
        except UserError as error:
            return [], str(error)
        return gates, failed_gates(gates)

    def _undo(self, why: str, told: str) -> Verdict:
        """Give the alias back to the latest holder that is fit for it."""
        holders = [move.version for move in moves_of(self.client, self.model, self.alias) if move.version is not None]
        for version in dict.fromkeys(reversed(holders)):
            reason = self.unfit(version)
            if not reason:
                self.move(version, previous_of(self.client, self.model, version), why)
                return Verdict(version, told)
            told += f"; version {version} cannot take its place ({reason})"
        drop_alias(self.client, self.model, self.alias, why)
        return Verdict(None, told)

    def move(self, version: str, previous: str | None, why: str, gates: list[Gate] | None = None) -> None:
        """Move the alias, see `move_alias`."""
        move_alias(self.client, self.model, version, previous, self.alias, why, gates or ())

    def _files(self, version: str) -> VersionFiles:
        return VersionFiles(self.client, self.settings, self.model, version)
