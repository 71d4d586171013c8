"""What Prefect takes: the schemas that flows share, as it gives each of them, and the names of artifacts."""

from __future__ import annotations

from prefect.client.schemas.actions import ArtifactCreate
from prefect.utilities.callables import parameter_schema

from flows import mill
from flows.recipe.stages import stage_names


def test_the_schema_is_the_one_that_prefect_works_out() -> None:
    for flow in (mill.release, mill.mill):
        assert flow.parameters == parameter_schema(flow.fn)
    families = [flow.parameters for flow in (mill.corpus, mill.pretrain, mill.finetune)]
    assert families == [mill.release.parameters] * 3
    assert "restart_from" in mill.mill.parameters.properties
    assert "restart_from" not in mill.release.parameters.properties


def test_prefect_takes_the_artifacts_of_every_stage() -> None:
    keys = {mill.artifact_key(name, what) for name in stage_names() for what in ("metrics", "progress")}
    assert len({ArtifactCreate(key=key).key for key in keys}) == 2 * len(stage_names())
