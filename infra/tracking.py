"""MLflow, spoken to through its client alone: a parent run per flow run, a child per stage, metrics in batches.

Tracking is a record, not a dependency: when the server is away the work goes on and one line says what was not logged.
The registry, in contrast, is where promotion lives, so its errors are raised (`registry_client`).
"""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.errors import UserError, first_line
from infra.json_objects import flatten
from infra.lease import file_lease
from infra.relocation import relocate
from infra.settings import DATABASE, Settings, without_password

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["RunLog", "Tracker", "look_at_artifacts", "make_database", "registry_client"]

FLUSH_SECONDS = 3.0
BATCH = 900
"""Metrics per request (MLflow takes 1,000)."""
PARAMETER_LENGTH = 500
KIND, TRAINING = "mlflow.experimentKind", "custom_model_development"
"""The tag by which MLflow's page of an experiment opens on training runs, and not on the traces of chats."""


def registry_client(settings: Settings) -> MlflowClient:
    """A client of the tracking server and registry that the settings name; MLflow's chatter is silenced, for what goes
    wrong is raised.

    Raises:
        UserError: there is no such server, or it cannot be reached.
    """
    if settings.tracking_uri and "://" not in settings.tracking_uri:
        raise UserError("DEEPMILL_TRACKING_URI: no address; write it as http://HOST:5000, say")
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    import mlflow

    for name in ("mlflow", "alembic"):  # importing mlflow sets its own levels
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if not settings.tracking_uri:
        make_database(settings.local_root)
    mlflow.set_tracking_uri(settings.mlflow_uri)
    try:
        return mlflow.MlflowClient(settings.mlflow_uri)
    except Exception as error:
        address = without_password(settings.mlflow_uri)
        if of_another := re.search(r"out-of-date database schema \(found version (\w+)", str(error)):
            raise UserError(_of_another_version(address, of_another[1])) from None
        reason = first_line(error).replace(settings.mlflow_uri, address)
        raise UserError(f"{address}: cannot reach MLflow ({reason}); check DEEPMILL_TRACKING_URI") from None


def _of_another_version(address: str, revision: str) -> str:
    """What to do about a database whose tables this MLflow does not know; `revision` is Alembic's name for them."""
    import mlflow

    versions = Path(mlflow.__file__).parent / "store" / "db_migrations" / "versions"
    if any(versions.glob(f"{revision}_*.py")):
        told = f"an older MLflow made it; copy the database, then: mlflow db upgrade {address}"
    else:
        told = f"a newer MLflow than {mlflow.__version__}, which is installed here, made it; install that one"
    return f"{address}: {told}"


def look_at_artifacts(client: MlflowClient, experiment: str) -> str:
    """Where the artifacts of an experiment, or of one to come, lie; whatever hinders this process from listing them is
    raised, for clients write them there themselves."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    found = client.get_experiment_by_name(experiment) or client.get_experiment("0")
    location = str(found.artifact_location)
    get_artifact_repository(location).list_artifacts()
    return location


def make_database(root: Path) -> None:
    """Make MLflow's SQLite file where there is none, all or nothing: its migrations do not survive a kill."""
    whole, growing = root / DATABASE, root / f".{DATABASE}"
    if whole.exists():
        return
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    with file_lease(root / ".leases" / "mlflow", lambda holder: None):
        if whole.exists():
            return
        for leaving in root.glob(f"{growing.name}*"):
            leaving.unlink()
        SqlAlchemyStore(f"sqlite:///{growing}", (root / "mlartifacts").as_uri()).engine.dispose()
        growing.replace(whole)


class RunLog:
    """One MLflow run, written in batches."""

    def __init__(self, client: MlflowClient, run_id: str) -> None:
        self.client, self.run_id = client, run_id
        self._pending: list[Any] = []
        self._since = time.monotonic()

    def parameters(self, values: Mapping[str, Any]) -> None:
        """Log nested values as dotted parameters."""
        from mlflow.entities import Param

        params = [Param(key, str(value)[:PARAMETER_LENGTH]) for key, value in flatten(values).items()]
        for start in range(0, len(params), 100):
            self.client.log_batch(self.run_id, params=params[start : start + 100])

    def metrics(self, values: Mapping[str, Any], step: int = 0) -> None:
        """Log the numbers among nested values; sent when enough time has passed."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._pending += [
            Metric(_metric_name(key), float(value), now, step)
            for key, value in flatten(values).items()
            if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        ]
        if time.monotonic() - self._since > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Send what `metrics` has gathered."""
        pending, self._pending = self._pending, []
        self._since = time.monotonic()
        for start in range(0, len(pending), BATCH):
            self.client.log_batch(self.run_id, metrics=pending[start : start + BATCH])

    def dataset(self, name: str, digest: str, source: str, profile: str, context: str) -> None:
        """Record an artifact this run read or wrote as an MLflow dataset input."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        entity = Dataset(name, digest[:36], "local", source, profile=profile)
        self.client.log_inputs(self.run_id, [DatasetInput(entity, [InputTag("mlflow.data.context", context)])])

    def tags(self, values: Mapping[str, Any]) -> None:
        from mlflow.entities import RunTag

        self.client.log_batch(self.run_id, tags=[RunTag(key, str(value)) for key, value in values.items()])

    def text(self, text: str, name: str) -> None:
        self.client.log_text(self.run_id, text, name)

    def file(self, path: Path) -> None:
        self.client.log_artifact(self.run_id, str(path))

    def end(self, status: str = "FINISHED") -> None:
        """`status` is FINISHED, FAILED or KILLED."""
        self.flush()
        self.client.set_terminated(self.run_id, status)


class Tracker:
    """Opens runs in the experiment of the settings."""

    def __init__(self, settings: Settings) -> None:
        if not settings.tracking_uri:
            relocate(settings.local_root)  # else the files of a run would go to where the store was
        self.settings = settings
        self.client = registry_client(settings)
        self._experiment = self._find_experiment()

    def _find_experiment(self) -> str:
        from mlflow.exceptions import MlflowException

        name = self.settings.experiment
        for _ in range(2):
            found = self.client.get_experiment_by_name(name)
            if found:
                if KIND not in found.tags:
                    self.client.set_experiment_tag(found.experiment_id, KIND, TRAINING)
                return str(found.experiment_id)
            location = None if self.settings.tracking_uri else (self.settings.local_root / "mlartifacts").as_uri()
            try:
                return str(self.client.create_experiment(name, artifact_location=location, tags={KIND: TRAINING}))
            except MlflowException:  # another run created it in between
                time.sleep(0.5)
        address = without_password(self.settings.mlflow_uri)
        raise UserError(f"{address}: cannot create the experiment {name}; is it deleted in MLflow?")

    @property
    def experiment(self) -> str:
        return self._experiment

    def start(self, name: str, tags: Mapping[str, str], parent: str | None = None) -> RunLog:
        """Open a run, below `parent` where given."""
        tags = {**tags, "mlflow.source.name": "deepmill"}
        if parent:
            tags["mlflow.parentRunId"] = parent
        run = self.client.create_run(self._experiment, run_name=name, tags=tags)
        return RunLog(self.client, run.info.run_id)


def _metric_name(key: str) -> str:
    """MLflow takes letters, digits and ``_-. /:`` in names."""
    return "".join(character if character.isalnum() or character in "_-. /:" else "_" for character in key)
