"""Facts that artifacts keep: frozen models, written as JSON and read back, by later versions too.

Light on purpose: whoever reads a manifest may load such models without what the stages import.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from infra.json_objects import JsonObject

__all__ = ["Facts", "StageMetrics"]


class Facts(BaseModel):
    """Values that belong together. What another version wrote and this one does not know is left alone; what it did
    not write is None or empty.
    """

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="constants")

    def given(self) -> JsonObject:
        """The values that were given, for a model that has more fields."""
        return {name: getattr(self, name) for name in self.model_fields_set}

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """What was written by whatever version: a field that is no finite number, or has another shape than today,
        counts as not given.
        """
        known = {name: value for name, value in values.items() if not _is_odd(value)}
        try:
            return cls.model_validate(known)
        except ValidationError as error:
            wrong = {str(problem["loc"][0]) for problem in error.errors(include_url=False)}
            return cls.model_validate({name: value for name, value in known.items() if name not in wrong})


class StageMetrics(Facts):
    """The numbers that a stage reports, flat in its manifest; None where one was not measured.

    What is measured by a name that the data choose (a source, a precision) may be a further field (`named`).
    """

    model_config = ConfigDict(extra="allow")

    def written(self) -> JsonObject:
        """As JSON values, without what the stage has not measured."""
        return self.model_dump(mode="json", exclude_none=True)

    def named(self, name: str) -> float | None:
        """The number under a name that the data chose."""
        value = (self.model_extra or {}).get(name)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _is_odd(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
