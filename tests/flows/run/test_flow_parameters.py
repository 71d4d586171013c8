"""Flows that share the schema of their parameters have the one that Prefect gives each of them."""

from __future__ import annotations

from prefect.utilities.callables import parameter_schema

from flows import mill


def test_the_schema_is_the_one_that_prefect_works_out() -> None:
    for flow in (mill.release, mill.mill):
        assert flow.parameters == parameter_schema(flow.fn)
    families = [flow.parameters for flow in (mill.corpus, mill.pretrain, mill.finetune)]
    assert families == [mill.release.parameters] * 3
    assert "restart_from" in mill.mill.parameters.properties
    assert "restart_from" not in mill.release.parameters.properties
