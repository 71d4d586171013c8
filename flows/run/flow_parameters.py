"""The schemas of flows' parameters, worked out once for flows that take the same.

Prefect works them out anew for each flow, and the recipe's in them twice: a second of processor for our five.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import prefect.flows
from prefect.utilities.callables import ParameterSchema

__all__ = ["shared_schemas"]


@contextlib.contextmanager
def shared_schemas() -> Iterator[None]:
    """In the block, flows whose parameters have the same names, types and defaults get one schema."""
    module: Any = prefect.flows  # which exports nothing by name
    work_out = module.parameter_schema
    known: list[tuple[inspect.Signature, ParameterSchema]] = []

    def schema(function: Callable[..., Any]) -> ParameterSchema:
        takes = inspect.signature(function).replace(return_annotation=None)
        for signature, found in known:
            if signature == takes:
                return found.model_copy()
        known.append((takes, work_out(function)))
        return known[-1][1]

    module.parameter_schema = schema
    try:
        yield
    finally:
        module.parameter_schema = work_out
