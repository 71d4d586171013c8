"""How a model is sampled where a request does not say: its ``generation_config.json``, else as OpenAI does."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from infra.errors import UserError
from infra.json_objects import JsonObject

__all__ = ["SamplingDefaults", "sampling_defaults"]

FILE = "generation_config.json"


@dataclass(frozen=True)
class SamplingDefaults:
    """OpenAI's API has 1 for both."""

    temperature: float = 1.0
    top_p: float = 1.0


def sampling_defaults(folder: Path) -> SamplingDefaults:
    """The `temperature` and `top_p` of a model's folder; ``"do_sample": false`` is temperature 0.

    Raises:
        UserError: the file is there and cannot be read, or has a number out of range.
    """
    file = folder / FILE
    if not file.exists():
        return SamplingDefaults()
    try:
        values: JsonObject = json.loads(file.read_text(encoding="utf-8"))
        temperature = 0.0 if values.get("do_sample") is False else _number(values, "temperature")
        top_p = _number(values, "top_p")
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise UserError(f"{file}: cannot be read ({error}); export the model again") from None
    if not 0 <= temperature <= 2 or not 0 < top_p <= 1:
        raise UserError(f"{file}: temperature {temperature:g}, top_p {top_p:g}; wanted are 0 to 2, and above 0 to 1")
    return SamplingDefaults(temperature, top_p)


def _number(values: JsonObject, key: str) -> float:
    found = values.get(key)
    return 1.0 if found is None else float(found)
