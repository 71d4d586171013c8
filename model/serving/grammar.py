"""What an answer must look like, as a grammar that engines hold it to: JSON, JSON of a schema, calls of tools.

Grammars are in the language of llguidance (Lark with JSON Schemas in it), which llama.cpp is built with and our own
engine loads. They are looked over here, for llama.cpp goes on without one that it cannot read.
Reasoning comes before what is constrained and is free.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infra.errors import UserError
from infra.json_objects import JsonObject
from model.generation.reasoning import CLOSE, OPEN
from model.serving.spec import EngineKind
from pipeline.tokens.tools import CALL, CALL_END, LISTED, CallStyle, Tool

__all__ = ["Constraint", "write_grammar"]

LAYOUT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""JSON on one line, as Python writes it: where any white space may stand, a small model writes nothing else."""
DATA = ("const", "enum", "default", "examples", "allOf")
"""Keys of a schema whose values are left as they are: no schemas, or parts of one object."""
MIXED = {"additionalProperties", "patternProperties", "unevaluatedProperties", "allOf", "anyOf", "oneOf", "$ref"}
LEXEMES = (
    r'thought[suffix="</think>"]: /(.|\n)*/',
    r'said[suffix="<tool_call>"]: /(.|\n)*/',
    r"TEXT: /(.|\n)*/ & ~/(.|\n)*<tool_call>(.|\n)*/",
    r"PLAIN: /([^\[{](.|\n)*)?/",
    r"SPACE: /\n{0,2}/",
)
"""What the rules are made of; not every grammar needs each."""


@dataclass(frozen=True)
class Constraint:
    """What an answer must be: JSON of a schema, or calls of tools."""

    schema: JsonObject | None = None
    tools: tuple[Tool, ...] = ()
    must_call: bool = False
    """Whether a tool has to be called; else the answer may be text."""
    many_calls: bool = True


def write_grammar(
    constraint: Constraint,
    kind: EngineKind,
    vocabulary: Mapping[str, int],
    before: str,
    style: CallStyle = CallStyle.TAGGED,
) -> str:
    """The grammar for one engine.

    Args:
        vocabulary: numbers of tokens by their text: some engines read tags that are tokens as those.
        before: the end of the prompt, which may have begun the reasoning, or ended it.
        style: of calls.

    Raises:
        UserError: a schema cannot be held.
    """

    def mark(text: str) -> str:
        return text if kind.reads_tags and text in vocabulary else json.dumps(text)

    lines = [f"start: {_thought(before, mark(OPEN), mark(CLOSE))} answer"]
    if constraint.schema is not None:
        lines.append(f"answer: {_json(constraint.schema)}")
    elif style is CallStyle.TAGGED:
        lines += _calls(constraint, mark(CALL), mark(CALL_END))
    else:
        listed = f"<[{vocabulary[LISTED]}]>?" if kind.reads_tags and LISTED in vocabulary else ""
        lines += _bare_calls(constraint, style, listed)
    grammar = "\n".join([*lines, *LEXEMES])
    _check(grammar)
    return f"%llguidance {{}}\n{grammar}" if kind is EngineKind.LLAMA else grammar


def _calls(constraint: Constraint, opening: str, closing: str) -> list[str]:
    """Rules for calls of tools, and for text before them where none has to be called."""
    more = "call*" if constraint.many_calls else ""
    said = "said" if opening.startswith('"') else rf"/(.|\n)*/ {opening}"
    answer = f"call {more}" if constraint.must_call else f"TEXT | {said} rest {more}"
    bodies = " | ".join(_json(_call(tool)) for tool in constraint.tools)
    return [f"answer: {answer}", f"call: SPACE {opening} rest", f"rest: SPACE ({bodies}) SPACE {closing}"]


def _bare_calls(constraint: Constraint, style: CallStyle, listed: str) -> list[str]:
    """Rules for calls without tags; text where none has to be called, which does not begin as they do."""
    bodies = " | ".join(_json(_call(tool, style)) for tool in constraint.tools)
    more = '(", " call)*' if constraint.many_calls else ""
    calls = "call" if style is CallStyle.BARE else f'{listed} "[" call {more} "]"'
    text = "" if constraint.must_call else "PLAIN | "
    return [f"answer: {text}{calls}", f"call: {bodies}"]


def _thought(before: str, opening: str, closing: str) -> str:
    """The reasoning that may come first, or has begun."""
    if before.endswith(CLOSE):
        return ""
    # A lexeme that a suffix ends where tags are text, a rule of tokens where they are tokens.
    body = "thought" if closing.startswith('"') else rf"/(.|\n)*/ {closing}"
    return f"{body} SPACE" if before.endswith(OPEN) else f"({opening} {body} SPACE)?"


def _call(tool: Tool, style: CallStyle = CallStyle.TAGGED) -> JsonObject:
    return {
        "type": "object",
        "properties": {"name": {"const": tool.name}, style.arguments: tool.parameters or {"type": "object"}},
        "required": ["name", style.arguments],
        "additionalProperties": False,
    }


def _json(schema: JsonObject) -> str:
    try:
        return f"%json {json.dumps(_closed(schema) | {'x-guidance': LAYOUT})}"
    except RecursionError:
        raise UserError("the schema is nested too deeply") from None


def _closed(value: Any) -> Any:
    """A schema whose objects have the properties that it names and no others, unless it says that they may.

    What follows it follows the schema as well; and a model that may always add one more property never ends.
    """
    if isinstance(value, list):
        return [_closed(each) for each in value]
    if not isinstance(value, dict):
        return value
    found = {key: each if key in DATA else _closed(each) for key, each in value.items()}
    if "properties" in value and not MIXED & value.keys():
        found["additionalProperties"] = False
    return found


def _check(grammar: str) -> None:
    from llguidance import LLMatcher

    # Without a tokenizer, tags that are tokens are unknown: their rules are ours, the schemas are not.
    if told := LLMatcher.validate_grammar(grammar):
        raise UserError(told.splitlines()[0].partition(": ")[2][:300] or "no grammar can be made of it")
