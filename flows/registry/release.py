"""Registering and promoting: what happens in MLflow's registry. Every step is safe to repeat.

A version carries the identity of the artifact it was made from, so registering twice finds the first. `challenger`
moves on arrival; the champion's alias moves only when every gate passes, and who, when, why and what it replaced are
kept (`flows.registry.aliases`). A registry that does not answer stops all of it: nothing is concluded from its silence.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flows.recipe.sections import PromoteConfig
from flows.recipe.stages import BASES
from flows.registry.aliases import (
    CHALLENGER,
    GATES,
    IDENTITY,
    own_gates,
    previous_of,
)
from flows.registry.audit import Registry
from flows.registry.disclose import whole
from flows.registry.facts import FACTS, LINEAGE, VersionFacts
from flows.registry.files import WEIGHTS, file_tags, logged_digests
from flows.registry.gates import Gate
from flows.registry.lock import registry_lock
from flows.registry.names import has_model
from flows.registry.removal_tags import tag_reached
from flows.report.disclosure import disclosure
from flows.report.disclosure_pages import licences, write_disclosure
from flows.run.record import RUN_ID, GateRecord
from flows.run.run_view import Run
from infra.errors import UserError
from infra.manifest import Manifest, split_address
from infra.settings import Settings, without_password
from infra.tracking import registry_client
from model.facts.evaluation import RELEASE, read_evaluation
from model.facts.release import ExportMetrics, QuantizeMetrics
from model.facts.training import PretrainMetrics

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from flows.run.session import Session

__all__ = [
    "DISCLOSURE",
    "Outcome",
    "promote_by_hand",
    "promote_version",
    "register_version",
    "released_version",
    "rollback",
]

log = logging.getLogger("deepmill.registry")
DISCLOSURE = "disclosure"
"""Folder of a version's files, below `artifacts`, that says what it was trained on: with them in the registry, and not
among those of `export`, whose bytes do not depend on what people say of their sources."""
SERVED = {"int4": "q4_0", "int8": "q8_0"}
"""The GGUF file of a served precision, whose speed the version records."""


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
    session.mlflow.flush()
    client = registry_client(session.settings)
    with registry_lock(session.settings, name):
        version = released_version(client, name, manifest.identity)
        fresh = version is None
        if version is None:
            version = _create_version(session, client, name, manifest)
            tag_reached(session.settings, session.store, f"{name}/{version}", session.record.plan)
            client.set_registered_model_alias(name, CHALLENGER, version)
    session.record.release.model, session.record.release.version = name, version
    session.save()
    session.display.stage_ends("register", "made" if fresh else "cached", 0.0)
    return Outcome(f"{name} version {version}", fresh)


def _create_version(session: Session, client: MlflowClient, name: str, manifest: Manifest) -> str:
    import mlflow

    from model.release.serving_spec import log_pyfunc

    folder = session.store.verified("export", manifest.identity)
    ids = session.mlflow.ids
    if not ids:
        raise UserError(
            f"{without_password(session.settings.mlflow_uri)}: MLflow cannot be reached, so nothing was registered"
        )
    run_id = ids["run_id"]
    # Not within `start_run`: there, log_model asks for the history of every metric of the run, one request each.
    parameters = client.get_run(run_id).data.params
    model = client.create_logged_model(ids["experiment_id"], name=name, source_run_id=run_id, params=parameters)
    card = _card(folder, manifest) + licences(session.recipe.extract.sources)
    with tempfile.TemporaryDirectory() as scratch:
        disclosed = Path(scratch, DISCLOSURE)
        write_disclosure(disclosure(Run(whole(session.record), session.store)), disclosed)
        (disclosed / "MODEL_CARD.md").write_text(card, encoding="utf-8")
        info = log_pyfunc(name, folder / "model", disclosed, model_id=model.model_id)
    client.log_outputs(run_id, [mlflow.entities.LoggedModelOutput(model.model_id, step=0)])
    files = logged_digests(client.get_logged_model(info.model_id).artifact_location, session.settings, name)
    weights = _compare(name, files, manifest)
    if not has_model(client, name):
        client.create_registered_model(name, description=session.recipe.description)
    version = client.create_model_version(
        name,
        info.model_uri,
        run_id=run_id,
        model_id=info.model_id,
        description=card,
        tags={
            IDENTITY: manifest.identity,
            RUN_ID: session.run_id,
            LINEAGE: json.dumps({stage: item.job.identity for stage, item in session.plan.items()}),
            FACTS: _facts(session, weights).tag(),
            GATES: session.recipe.promote.model_dump_json(),
            "deepmill.licence": (session.recipe.export.licence if session.recipe.export else "") or "not stated",
            **file_tags(files),
        },
    )
    return str(version.version)


def _card(folder: Path, manifest: Manifest) -> str:
    """The card, and behind it what was measured when it was written."""
    from model.release.card import measured
    from model.release.footprint import model_files, precision_of

    card = (folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    kinds = [precision_of(path) for path in model_files(folder / "gguf")]
    return card + measured(ExportMetrics.read(manifest.metrics), kinds)


def _compare(name: str, files: dict[str, str], manifest: Manifest) -> dict[str, str]:
    """The checksums of the weights' folder, if what MLflow keeps there is what was exported.

    Raises:
        UserError: it is not.
    """
    kept = {path.removeprefix(f"{WEIGHTS}/"): each for path, each in files.items() if path.startswith(f"{WEIGHTS}/")}
    ours = {path.removeprefix("model/"): each for path, each in manifest.digests.items() if path.startswith("model/")}
    wrong = sorted(path for path in kept.keys() | ours.keys() if kept.get(path) != ours.get(path))
    if wrong:
        raise UserError(f"{name}: MLflow keeps {wrong[0]} otherwise than it was exported; run the same command again")
    return kept


def _facts(session: Session, files: dict[str, str]) -> VersionFacts:
    """The numbers that gates, `models` and `compare` look at."""
    evaluation = read_evaluation(session.store.verified("evaluate", session.identity("evaluate")))
    released = split_address(session.plan["export"].job.inputs["model"])[0]
    if "evaluate_release" in session.plan:  # what is served is another model
        served = session.store.verified("evaluate_release", session.identity("evaluate_release"))
        evaluation, released = evaluation.with_release(read_evaluation(served)), RELEASE
    marks = evaluation.checkpoints[released]
    first = next((name for name in BASES if name in evaluation.checkpoints), released)
    base = session.manifest(next(name for name in BASES if session.recipe.has(name))).metrics
    quantized = QuantizeMetrics.read(session.manifest("quantize").metrics)
    exported = ExportMetrics.read(session.manifest("export").metrics)
    precision = exported.precision or "int4"
    return VersionFacts.model_validate(
        {
            "accuracy": marks.accuracy,
            "accuracy_low": marks.accuracy_low,
            "accuracy_high": marks.accuracy_high,
            "format_rate": marks.format_rate,
            "precision": precision,
            "quantization_kl": quantized.kl_of(precision),
            "bytes": quantized.bytes_of(precision),
            "bits_per_weight": quantized.named(f"bits_per_weight_{precision}"),
            "tokens_per_second": exported.decode_speed(SERVED.get(precision, "")) or 0.0,
            "parameters": quantized.parameters or PretrainMetrics.read(base).parameters or 0,
            "bits_per_byte": marks.bits_per_byte,
            "measured": released,
            "base": first if first != released else "",
            "bits_per_byte_base": evaluation.checkpoints[first].bits_per_byte if first != released else {},
            "files": files,
        }
    )


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
        registry = Registry(client, session.settings, name, config.alias)
        champion = _audited_holder(registry, check, session.display.note)
        gates = registry.judged(version, champion, config)
        failed = "; ".join(gate.told for gate in gates if not gate.passed)
        if champion == version:
            outcome = Outcome(f"{name} version {version} is the {config.alias} already", False)
            promoted = True
        elif failed:
            outcome = Outcome(f"{name} version {version} stays a {CHALLENGER}: {failed}", False)
            promoted = False
        else:
            check()
            registry.move(version, champion, why, gates)
            outcome = Outcome(f"{name} version {version} is the {config.alias} now", True)
            promoted = True
    release.alias, release.promoted = config.alias, promoted
    release.gates = [GateRecord(**asdict(gate)) for gate in gates]
    release.previous = champion if champion != version else None
    session.save()
    state = "made" if outcome.changed else ("cached" if promoted else "held back")
    session.display.stage_ends("promote", state, 0.0, outcome.message)
    return outcome


def _audited_holder(registry: Registry, check: Callable[[], None], tell: Callable[[str], None]) -> str | None:
    """The holder of the alias, judged: nothing is built on a promotion by hand that nobody looked at."""
    verdict = registry.audit_holder(check)
    if verdict.message:
        tell(verdict.message)
    return verdict.version


def promote_by_hand(
    settings: Settings, name: str, version: str, config: PromoteConfig | None = None, *, force: bool
) -> list[Gate]:
    """Judge a version and move the alias; `force` moves it against the gates, and the tags say so.

    Args:
        settings: Name the registry.
        name: The model.
        version: Judged by the gates that it was registered with,
        config: unless these are given.
        force: Move the alias whatever they say.

    Raises:
        UserError: there is no such version, or a gate does not pass.
        MlflowException: the registry does not answer; nothing was changed.
    """
    client = registry_client(settings)
    with registry_lock(settings, name) as check:
        config = config or own_gates(client, name, version)
        registry = Registry(client, settings, name, config.alias)
        champion = _audited_holder(registry, check, log.warning)
        gates = registry.judged(version, champion, config)
        failed = [gate for gate in gates if not gate.passed]
        if failed and not force:
            first = failed[0]
            raise UserError(
                f"{name} version {version} does not pass the gate {first.told}; --force overrides and records it"
            )
        if champion != version:
            check()
            registry.move(version, champion, "forced by hand" if failed else "by hand", gates)
    return gates


def rollback(settings: Settings, name: str, alias: str = "champion") -> str:
    """Move the alias back to the version that its present holder replaced; that version.

    Raises:
        UserError: there is nothing to go back to, or the version is damaged or failed its gates.
        MlflowException: the registry does not answer; nothing was changed.
    """
    client = registry_client(settings)
    with registry_lock(settings, name) as check:
        registry = Registry(client, settings, name, alias)
        champion = registry.holder()
        if champion is None:
            raise UserError(f"{name}: no version is its {alias}; see deepmill models")
        known = registry.audited()
        # a holder that was made so by hand, and was not judged yet, replaced the one that the audit knows
        previous = known if known not in (None, champion) else previous_of(client, name, champion)
        if not previous:
            raise UserError(f"{name}: version {champion} is its first {alias}; there is nothing to go back to")
        unfit = registry.unfit(previous)
        if unfit:
            raise UserError(
                f"{name} version {previous} cannot be its {alias} again ({unfit}); choose another with deepmill promote"
            )
        before = previous_of(client, name, previous)
        check()
        registry.move(previous, before, f"rolled back from version {champion}")
        return str(previous)


def released_version(client: MlflowClient, name: str, identity: str) -> str | None:
    """The registered version of an export artifact."""
    found = client.search_model_versions(f"name = '{name}'")
    versions = [int(version.version) for version in found if version.tags.get(IDENTITY) == identity]
    return str(max(versions)) if versions else None
