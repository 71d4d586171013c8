"""Promotion, rollback and audit as Prefect flows, for schedules and for the form; the commands do the same.

No ``from __future__ import annotations`` here: Prefect reads the annotations of flows at run time.
"""

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact

from flows.recipe.sections import PromoteConfig
from flows.registry.aliases import own_gates
from flows.registry.audit import audit, our_models
from flows.registry.names import parse_name
from flows.registry.release import promote_by_hand
from flows.registry.release import rollback as move_back
from flows.run.notifications import Topic, notify
from infra.settings import Settings
from infra.tracking import registry_client

__all__ = ["audit_champion", "promote", "rollback"]


@flow(name="promote", persist_result=False)
def promote(model: str, version: str, gates: PromoteConfig | None = None, force: bool = False) -> None:
    """Judge a version and move the alias to it if its gates pass; `force` moves it all the same, and is recorded.

    The gates are those that the version was registered with, unless others are given.
    """
    settings, name = Settings(), parse_name(model).model
    gates = gates or own_gates(registry_client(settings), name, version)
    judged = promote_by_hand(settings, name, version, gates, force=force)
    rows = [gate.__dict__ for gate in judged]
    create_table_artifact(rows, key="gates", description=f"Gates of {model} version {version}")
    get_run_logger().info("%s version %s is the %s", model, version, gates.alias)


@flow(name="rollback", persist_result=False)
def rollback(model: str, alias: str = "champion") -> str:
    """Move the alias back to the version that its holder replaced; that version."""
    version = move_back(Settings(), parse_name(model).model, alias)
    get_run_logger().info("%s version %s is the %s again", model, version, alias)
    return version


@flow(name="audit-champion", persist_result=False)
def audit_champion(model: str = "", alias: str = "champion") -> str | None:
    """Notice a promotion made by hand in MLflow, judge it, and undo it if its gates do not pass.

    Of one model, or of every one that Deepmill registered; returns the version of the one that holds the alias then.
    """
    settings, logger = Settings(), get_run_logger()
    names = [parse_name(model).model] if model else our_models(settings)
    version = None
    for name in names:
        verdict = audit(settings, name, alias)
        version = verdict.version
        if verdict.message:
            logger.warning("%s", verdict.message)
            notify(Topic.PROMOTED, verdict.message, {"model": name, "version": version}, logger.warning)
    return version if model else None
