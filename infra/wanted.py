"""What a key or a setting wants, in the words of whoever writes it; pydantic's are Python's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["KEYS_BELOW", "wanted"]

KEYS_BELOW = "wants keys of its own below it"
_KINDS = {
    **dict.fromkeys(("model_type", "dict_type", "model_attributes_type"), KEYS_BELOW),
    **dict.fromkeys(("tuple_type", "list_type", "set_type"), "wants a list, as [first, second]"),
    "string_type": "wants text; put it in quotes",
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "wants a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "wants a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "wants true or false"),
    "finite_number": "wants a finite number",
}
_LIMITS = {
    "greater_than": ("gt", "wants more than {}"),
    "greater_than_equal": ("ge", "wants {} or more"),
    "less_than": ("lt", "wants less than {}"),
    "less_than_equal": ("le", "wants {} or less"),
    "too_short": ("min_length", "wants {} or more"),
    "enum": ("expected", "wants {}"),
    "literal_error": ("expected", "wants {}"),
}
"""With what pydantic calls the limit."""


def wanted(problem: Mapping[str, Any]) -> str:
    """What is wanted where pydantic found this problem; empty where its own message has to do."""
    kind = problem["type"]
    if kind in _LIMITS:
        name, text = _LIMITS[kind]
        limit = problem["ctx"][name]
        return text.format(limit.replace("'", "") if isinstance(limit, str) else f"{limit:g}")
    return _KINDS.get(kind, "")
