"""A registered version as a run leaves it, without the run: real files, real MLflow, made-up numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from flows.recipe.sections import PromoteConfig
from flows.registry.aliases import CHALLENGER, GATES, IDENTITY
from flows.registry.facts import FACTS
from flows.registry.files import file_tags, logged_digests
from infra.integrity import folder_digests
from infra.settings import Settings
from infra.tracking import Tracker
from model.release.card import SECTIONS
from model.release.serving_spec import log_pyfunc

CARD = "\n\n".join(f"## {title}\n\nsomething" for title in SECTIONS)


def register(settings: Settings, name: str, model: Path, facts: dict[str, Any], **gates: Any) -> tuple[str, Path]:
    """Register the served folder `model` as the next version of `name`; its number, and where MLflow keeps its files.

    The same calls as `flows.registry.release`, which needs a whole run.
    """
    import mlflow

    tracker = Tracker(settings)
    run = tracker.start(name, {})
    with mlflow.start_run(run_id=run.run_id):
        info = log_pyfunc(name, model)
    location = str(tracker.client.get_logged_model(info.model_id).artifact_location)
    tags = {
        IDENTITY: f"artifact-of-{info.model_id}",
        FACTS: json.dumps(facts | {"files": folder_digests(model)}),
        GATES: PromoteConfig(**gates).model_dump_json(),
        **file_tags(logged_digests(location, settings, name)),
    }
    if not tracker.client.search_registered_models(f"name = '{name}'"):
        tracker.client.create_registered_model(name)
    version = tracker.client.create_model_version(
        name, info.model_uri, run_id=run.run_id, model_id=info.model_id, tags=tags, description=CARD
    )
    tracker.client.set_registered_model_alias(name, CHALLENGER, version.version)
    return str(version.version), Path(location.removeprefix("file://"))
