"""What a runner and the process of a stage (`infra.worker`) tell each other, in a file each way."""

from __future__ import annotations

import json
from typing import Literal, Self

from pydantic import ConfigDict

from infra.facts import Facts
from infra.json_objects import JsonObject
from infra.kept_parts import PartsPlace

__all__ = ["Failure", "Outcome", "StageJob"]


class StageJob(Facts):
    """What the process is to do."""

    entrypoint: str
    """``module:function``"""
    config: JsonObject
    """Validated with the class that the function's first parameter is annotated with."""
    inputs: dict[str, str]
    """Folder of each input artifact, by role."""
    out_dir: str
    result: str
    """File that gets the `Outcome`."""
    parts: PartsPlace | None = None
    """Where parts are kept for later artifacts, if they are."""


class Failure(Facts):
    """Why there are no metrics."""

    error: str
    kind: Literal["user", "crash"]
    """`user`: one clear line that tells the user what to mend."""


class Outcome(Facts):
    """What came of it: metrics, as the stage wrote them, or a failure."""

    model_config = ConfigDict(extra="forbid")

    metrics: JsonObject | None = None
    failure: Failure | None = None

    def written(self) -> bytes:
        """For the file; numbers that JSON has none for are written as Python does."""
        return json.dumps(self.model_dump(exclude_none=True), allow_nan=True).encode()

    @classmethod
    def of(cls, body: str) -> Self:
        """What `written` wrote."""
        return cls.model_validate(json.loads(body))
