"""Registering and promoting: what happens in MLflow's registry. Every step is safe to repeat.

A version carries the identity of the artifact it was made from, so registering twice finds the first. `challenger`
moves on arrival; the champion's alias moves only when every gate passes, and who, when, why and what it replaced are
kept as tags of the version, for MLflow keeps no history of aliases.
"""

from __future__ import annotations

import contextlib
import getpass
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.recipe.sections import PromoteConfig
from flows.registry.file_gates import evidence_gates, file_digests
from flows.registry.gates import Gate, judge
from flows.registry.lock import registry_lock
from flows.run.record import GateRecord
from infra.errors import UserError
from infra.hashing import file_digest
from infra.manifest import Manifest, split_address
from infra.settings import Settings, without_password
from infra.tracking import registry_client

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from flows.run.session import Session

__all__ = [
    "Outcome",
    "facts_of",
    "move_alias",
    "promote_by_hand",
    "promote_version",
    "register_version",
    "released_version",
    "rollback",
]

CHALLENGER = "challenger"
IDENTITY = "deepmill.identity"
PREVIOUS = "deepmill.previous"
GATES = "deepmill.gates"
"""Tag with the gates of the recipe that made the version, as JSON."""
SERVED = {"int4": "q4_0", "int8": "q8_0"}
"""The GGUF file of a served precision, whose speed the version records."""
FACTS = "deepmill.facts"
"""Tag with the numbers that the gates look at, as JSON."""


@dataclass(frozen=True)
class Outcome:
    """What an action did."""

    message: str
    changed: bool


def register_version(session: Session) -> Outcome:
    """Register the exported model of this run, unless a version of the same artifact is there.

    Raises:
        UserError: the registry cannot be reached.
    """
    name = session.recipe.model_name
    manifest = session.manifest("export")
    session.display.stage_begins("register", f"{name} in MLflow's registry", 0, 0)
    session.mlflow.settle()
    client = registry_client(session.settings)
    with registry_lock(session.settings, name):
        version = released_version(client, name, manifest.identity)
        fresh = version is None
        if version is None:
            version = _create_version(session, client, name, manifest)
            client.set_registered_model_alias(name, CHALLENGER, version)
    session.record.release.model, session.record.release.version = name, version
    session.save()
    session.display.stage_ends("register", "made" if fresh else "cached", 0.0, {"model": name, "version": version})
    return Outcome(f"{name} version {version}", fresh)


def _create_version(session: Session, client: MlflowClient, name: str, manifest: Manifest) -> str:
    import mlflow

    from model.release.serving_spec import pyfunc_spec

    folder = session.store.path("export", manifest.identity)
    _verify(folder, manifest)
    ids = session.mlflow.ids
    if not ids:
        raise UserError(
            f"{without_password(session.settings.mlflow_uri)}: MLflow cannot be reached, so nothing was registered"
        )
    run_id = ids["run_id"]
    # Not within `start_run`: there, log_model asks for the history of every metric of the run, one request each.
    parameters = client.get_run(run_id).data.params
    model = client.create_logged_model(ids["experiment_id"], name=name, source_run_id=run_id, params=parameters)
    info = mlflow.pyfunc.log_model(name=name, model_id=model.model_id, **pyfunc_spec(folder / "model"))
    client.log_outputs(run_id, [mlflow.entities.LoggedModelOutput(model.model_id, step=0)])
    with contextlib.suppress(Exception):  # there already
        client.create_registered_model(name, description=session.recipe.description)
    version = client.create_model_version(
        name,
        info.model_uri,
        run_id=run_id,
        model_id=info.model_id,
        description=(folder / "MODEL_CARD.md").read_text(encoding="utf-8"),
        tags={
            IDENTITY: manifest.identity,
            "deepmill.run_id": session.run_id,
            "deepmill.lineage": json.dumps({stage: item.job.identity for stage, item in session.plan.items()}),
            FACTS: json.dumps(_facts(session) | {"files": file_digests(folder / "model")}),
            GATES: session.recipe.promote.model_dump_json(),
            "deepmill.licence": (session.recipe.export.licence if session.recipe.export else "") or "not stated",
        },
    )
    return str(version.version)


def _facts(session: Session) -> dict[str, Any]:
    """The numbers that gates, `models` and `compare` look at."""
    evaluation = json.loads((session.folder("evaluate") / "evaluation.json").read_text(encoding="utf-8"))
    released = split_address(session.plan["export"].job.inputs["model"])[0]
    checkpoint = evaluation["checkpoints"][released]
    base = "pretrain" if session.recipe.has("pretrain") else "continued"
    quantization = session.manifest("quantize").metrics
    exported = session.manifest("export").metrics
    precision = str(exported.get("precision", "int4"))
    return {
        "accuracy": checkpoint["accuracy"],
        "accuracy_low": checkpoint["accuracy_low"],
        "accuracy_high": checkpoint["accuracy_high"],
        "format_rate": checkpoint["format_rate"],
        "precision": precision,
        "quantization_kl": quantization[f"kl_{precision}"] if precision != "f32" else 0.0,
        "bytes": quantization[f"bytes_{precision}"],
        "tokens_per_second": exported.get(f"decode_tokens_per_second_{SERVED[precision]}", 0.0),
        "parameters": session.manifest(base).metrics.get("parameters", 0),
        "bits_per_byte": checkpoint.get("bits_per_byte") or {},
    }


def promote_version(session: Session) -> Outcome:
    """Judge the version this run registered, and move the champion's alias to it if every gate passes.

    A version that does not pass stays a challenger; that is an outcome, not an error.
    """
    release, config = session.record.release, session.recipe.promote
    name, version = release.model, release.version
    session.display.stage_begins("promote", "gates, then the alias", 0, 0)
    client = registry_client(session.settings)
    why = f"run {session.run_id}"
    with registry_lock(session.settings, name) as check:
        champion = _alias(client, name, config.alias)
        if champion == version:
            gates = judge(config, facts_of(client, name, version), None)
            outcome = Outcome(f"{name} version {version} is the {config.alias} already", False)
            promoted = True
        else:
            facts = facts_of(client, name, champion) if champion else None
            ours = facts_of(client, name, version)
            gates = [*judge(config, ours, facts), *evidence_gates(config, client, name, version, ours)]
            promoted = all(gate.passed for gate in gates)
            if promoted:
                check()
                move_alias(client, name, version, champion, config.alias, why)
                outcome = Outcome(f"{name} version {version} is the {config.alias} now", True)
            else:
                failed = ", ".join(gate.gate for gate in gates if not gate.passed)
                outcome = Outcome(f"{name} version {version} stays a {CHALLENGER}: {failed}", False)
    release.alias, release.promoted = config.alias, promoted
    release.gates = [GateRecord(**asdict(gate)) for gate in gates]
    release.previous = champion if champion != version else None
    session.save()
    state = "made" if outcome.changed else ("cached" if promoted else "held back")
    session.display.stage_ends("promote", state, 0.0, {"message": outcome.message})
    return outcome


def promote_by_hand(settings: Settings, name: str, version: str, config: PromoteConfig, *, force: bool) -> list[Gate]:
    """Judge a version and move the alias; `force` moves it against the gates, and the tags say so.

    Raises:
        UserError: there is no such version, or a gate does not pass.
    """
    client = registry_client(settings)
    with registry_lock(settings, name) as check:
        facts = facts_of(client, name, version)
        champion = _alias(client, name, config.alias)
        gates = judge(config, facts, facts_of(client, name, champion) if champion not in (None, version) else None)
        gates += evidence_gates(config, client, name, version, facts)
        failed = [gate for gate in gates if not gate.passed]
        if failed and not force:
            first = failed[0]
            raise UserError(
                f"{name} version {version} does not pass the gate {first.gate}: {first.value:.4g}, the limit is "
                f"{first.limit:.4g} ({first.text}); --force overrides and records it"
            )
        if champion != version:
            check()
            move_alias(client, name, version, champion, config.alias, "forced by hand" if failed else "by hand")
    return gates


def rollback(settings: Settings, name: str, alias: str = "champion") -> str:
    """Move the alias back to the version that its present holder replaced; that version.

    Raises:
        UserError: there is nothing to go back to.
    """
    client = registry_client(settings)
    with registry_lock(settings, name) as check:
        champion = _alias(client, name, alias)
        if champion is None:
            raise UserError(f"{name}: no version is its {alias}; see deepmill models")
        previous = client.get_model_version(name, champion).tags.get(PREVIOUS)
        if not previous:
            raise UserError(f"{name}: version {champion} is its first {alias}; there is nothing to go back to")
        before = client.get_model_version(name, previous).tags.get(PREVIOUS)
        check()
        move_alias(client, name, previous, before, alias, f"rolled back from version {champion}")
        return str(previous)


def released_version(client: MlflowClient, name: str, identity: str) -> str | None:
    """The registered version of an export artifact."""
    found = client.search_model_versions(f"name = '{name}'")
    versions = [int(version.version) for version in found if version.tags.get(IDENTITY) == identity]
    return str(max(versions)) if versions else None


def _alias(client: MlflowClient, name: str, alias: str) -> str | None:
    from mlflow.exceptions import MlflowException

    try:
        return str(client.get_model_version_by_alias(name, alias).version)
    except MlflowException:
        return None


def facts_of(client: MlflowClient, name: str, version: str) -> dict[str, Any]:
    """The numbers that a version was registered with; UserError when it is not there, or not ours."""
    from mlflow.exceptions import MlflowException

    try:
        tags = client.get_model_version(name, version).tags
    except MlflowException:
        raise UserError(f"{name} version {version}: not in the registry; see deepmill models") from None
    if FACTS not in tags:
        raise UserError(f"{name} version {version}: not registered by deepmill, so there is nothing to judge")
    return dict(json.loads(tags[FACTS]))


def move_alias(client: MlflowClient, name: str, version: str, previous: str | None, alias: str, why: str) -> None:
    """Move the alias; `previous` is where a later rollback goes, the audit names what really was replaced."""
    replaced = _alias(client, name, alias)
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
    entry = {
        "at": now,
        "by": tags["deepmill.promoted_by"],
        "alias": alias,
        "version": version,
        "from": replaced,
        "why": why,
    }
    key = f"deepmill.audit.{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"  # a tag's name may not hold the + of an offset
    client.set_registered_model_tag(name, key, json.dumps(entry))


def _verify(folder: Path, manifest: Manifest) -> None:
    for file in manifest.files:
        if file_digest(folder / file.path) != file.sha256:
            raise UserError(f"{folder / file.path}: the checksum differs from the manifest's; run with --from export")
