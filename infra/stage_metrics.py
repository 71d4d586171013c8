"""What a stage reports of its work: a model per stage, written into the manifest as flat JSON and read back through it.

Light on purpose: whoever reads a manifest may load these models without what the stages import.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from infra.json_objects import JsonObject

__all__ = ["StageMetrics"]


class StageMetrics(BaseModel):
    """The numbers of a stage; None where one was not measured, by this version of the stage or the one that ran.

    What is measured by a name that the data choose (a source, a precision) may be a further field (`named`).
    """

    model_config = ConfigDict(frozen=True, extra="allow", ser_json_inf_nan="constants")

    def written(self) -> JsonObject:
        """As JSON values, without what the stage has not measured."""
        return self.model_dump(mode="json", exclude_none=True)

    def named(self, name: str) -> float | None:
        """The number under a name that the data chose."""
        value = (self.model_extra or {}).get(name)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """What a manifest says, by whatever version it was written: what is no finite number, or has another shape
        than today, counts as not measured.
        """
        known = {name: value for name, value in values.items() if not _is_odd(value)}
        try:
            return cls.model_validate(known)
        except ValidationError as error:
            wrong = {str(problem["loc"][0]) for problem in error.errors(include_url=False)}
            return cls.model_validate({name: value for name, value in known.items() if name not in wrong})


def _is_odd(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
