"""What is wrong with a recipe, in one line: pydantic's first error, in the words of whoever writes the file."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from flows.recipe.names import NAME
from flows.recipe.places import keys_at, sections_at
from infra.nearest import hint
from infra.units import written_out
from infra.wanted import KEYS_BELOW, wanted

__all__ = ["mistake"]

_NO_COMMAS = "a comma begins another key: write numbers as 1000 and 0.5"
_PARTS_OF_UNION = ("bool", "int", "float", "str")
"""What pydantic names in the place of a value that is none of several types."""


def mistake(error: ValidationError, recipe: type[BaseModel], source: str, settings: Sequence[str]) -> str:
    """The line that tells it: where it is written, the key, what it wants and what to write instead.

    Args:
        recipe: the model that refused.
        source: file or preset.
        settings: what was laid over it, ``section.key=value``.
    """
    problems = error.errors(include_url=False)
    first = next((each for each in problems if each["type"] == "invalid_key"), problems[0])
    location = _written(recipe, [str(part) for part in first["loc"] if part != "[key]"])
    if is_any := location[-1:] != [] and location[-1] in _PARTS_OF_UNION:
        location.pop()
    key = ".".join(location)
    begun = (f"{key}=", f"{key}.") if first["type"] == "extra_forbidden" else f"{key}="
    where = "--set" if any(setting.startswith(begun) for setting in settings) else source
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    if first["type"] == "missing":
        return f"{where}: {key} is missing{more}"
    said = "wants text, a number, true or false, or a list of texts" if is_any else ""
    return ": ".join(filter(None, (where, key, _said(first, recipe, location, said)))) + more


def _said(problem: Mapping[str, Any], recipe: type[BaseModel], location: Sequence[str], known: str) -> str:
    """What is said of a problem; `known` where it is known what is wanted."""
    kind, given = problem["type"], problem.get("input")
    if kind == "extra_forbidden":
        return f"no such key; {_meant(recipe, location)}"
    if kind.startswith("union_tag"):
        kinds = [str(model.model_fields["kind"].default) for model in sections_at(recipe, location)]
        tag = problem.get("ctx", {}).get("tag")
        return f"{f'kind: no such kind as {tag}' if tag else 'kind is missing'}; {_nearest(tag or '', kinds)}"
    message = problem["msg"].removeprefix("Value error, ")
    wants = known or wanted(problem)
    if kind == "invalid_key":
        wants = f"wants keys that are text; {_NO_COMMAS}"
    if isinstance(given, dict) and not wants:  # of the keys together
        return str(message)
    if kind == "string_pattern_mismatch" and problem["ctx"]["pattern"] == f"^{NAME}$":
        wants = "wants letters without accents, digits and . _ -, the first a letter or a digit"
    return f"{wants or message}, not {reprlib.repr(given)[:200]}{_remedy(problem, location)}"


def _remedy(problem: Mapping[str, Any], location: Sequence[str]) -> str:
    """What to write instead, where what is given tells it."""
    given = problem.get("input")
    if problem["type"] in ("int_parsing", "float_parsing") and isinstance(given, str):
        number = written_out(given)
        is_usable = number is not None and (number == int(number) or problem["type"] == "float_parsing")
        return f"; write {number:.12g}" if number is not None and is_usable and abs(number) < 1e12 else ""
    if wanted(problem) == KEYS_BELOW and isinstance(given, bool):
        return f"; write {location[-1]}: {{}} for its defaults, or null to leave it out"
    if wanted(problem) == KEYS_BELOW and isinstance(given, str) and ":" in given:
        return "; a blank is missing behind the colon"
    if problem["type"] in ("enum", "literal_error") and isinstance(given, str):
        near = hint(given, re.findall("'([^']*)'", problem["ctx"]["expected"]), "")
        return f"; {near}" if near else ""
    return ""


def _meant(recipe: type[BaseModel], location: Sequence[str]) -> str:
    """What a key was probably meant to be: one that stands elsewhere, or the nearest of those of its section."""
    *above, name = location
    if name.isdecimal():
        return _NO_COMMAS
    first, dot, rest = name.partition(".")
    if dot and rest and first in keys_at(recipe, above):
        return f"write {rest} below {first}"
    if close := hint(name, keys_at(recipe, above), "", 0.8):
        return close
    places = [".".join(place) for place in _places_of(recipe, name)]
    if near := [place for place in places if place.startswith(".".join(above))] or places:
        return f"it stands in {', '.join(near[:3])}"
    return _nearest(name, keys_at(recipe, above))


def _places_of(recipe: type[BaseModel], name: str, below: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The sections that have a key of that name, in the order of the recipe."""
    for key in keys_at(recipe, below, strict=True):
        if key == name and below:
            yield below
        if len(below) < 2:
            yield from _places_of(recipe, name, (*below, key))


def _written(recipe: type[BaseModel], location: Sequence[str]) -> list[str]:
    """A place as the recipe has it: pydantic names the variant of a tagged union besides."""
    found: list[str] = []
    for part in location:
        below = sections_at(recipe, found)
        is_variant = any(part == model.model_fields.get("kind", Field()).default for model in below)
        if not is_variant or any(part in model.model_fields for model in below):
            found.append(part)
    return found


def _nearest(given: str, known: Sequence[str]) -> str:
    return hint(given, known, f"there are {', '.join(known)}", 0.5)
