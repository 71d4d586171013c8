"""What is said of a command line that cannot be understood: one line, with the nearest right name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from typer.exceptions import TyperException

from flows.commands.app import app
from infra.nearest import hint

__all__ = ["usage_message"]

PROGRAM = "deepmill"


def usage_message(error: TyperException) -> str:
    """One line about a misspelled command or option, a missing argument or a value of the wrong type.

    Typer brings a Click of its own whose classes are private; only what all its usage errors have is read here.
    """
    context: Any = getattr(error, "ctx", None)
    command = context.command.name if context is not None and context.parent is not None else ""
    place = f"{PROGRAM} {command}".strip()
    text = _plain(error.format_message().rstrip("."))
    if wrong := getattr(error, "option_name", None) if hasattr(error, "possibilities") else None:
        text = f"no such option {wrong}"
        known = [name for parameter in context.command.params for name in parameter.opts + parameter.secondary_opts]
        return f"{place}: {text}; {_hint(wrong, [name for name in known if name.startswith('--')], place)}"
    if context is not None and context.parent is None and text.startswith("No such command"):
        wrong = text.split("'")[1] if "'" in text else ""
        return f"{PROGRAM}: no such command {wrong}; {_hint(wrong, _commands(), PROGRAM)}"
    return f"{place}: {text[:1].lower()}{text[1:]}; see {place} --help"


def _plain(text: str) -> str:
    """Without pydantic's words, in which Typer judges numbers."""
    for theirs, ours in (
        (r"Input should be greater than or equal to (\S+)", r"wants \1 or more"),
        (r"Input should be less than or equal to (\S+)", r"wants \1 or less"),
        (r"Input should be a valid integer.*", "wants a whole number"),
        (r"Input should be a valid number.*", "wants a number"),
    ):
        text = re.sub(theirs, ours, text)
    return text


def _commands() -> list[str]:
    return [command.name or command.callback.__name__ for command in app.registered_commands if command.callback]


def _hint(wrong: str, known: Iterable[str], place: str) -> str:
    return hint(wrong, known, f"see {place} --help")
