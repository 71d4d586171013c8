"""What an answer is held to: the grammar lets through what follows it, and stops what does not, token by token."""

from __future__ import annotations

import json

import pytest
from llguidance import LLMatcher, LLTokenizer

from infra.errors import UserError
from model.serving.grammar import Constraint, write_grammar
from model.serving.spec import EngineKind
from pipeline.tokens.tools import CallStyle, Tool
from tests.model.serving.talker import words

SCHEMA = {
    "type": "object",
    "properties": {"a": {"enum": ["x", "y"]}, "b": {"type": "boolean"}},
    "required": ["a", "b"],
    "additionalProperties": False,
}
GOOD = json.dumps({"a": "x", "b": True})
BARE, LISTED = (f'{{"name": "f", "{key}": {GOOD}}}' for key in ("parameters", "arguments"))
CALL = f'<tool_call>\n{{"name": "f", "arguments": {GOOD}}}\n</tool_call>'
TOOLS = (Tool("f", SCHEMA), Tool("g", {"type": "object"}))
MUST, MAY = Constraint(tools=TOOLS, must_call=True), Constraint(tools=TOOLS)


def fits(constraint: Constraint, before: str, text: str, style: CallStyle = CallStyle.TAGGED) -> bool:
    """Whether our engine would let the whole text through and end there."""
    tokenizer = words()
    grammar = write_grammar(constraint, EngineKind.OWN, tokenizer.get_vocab(), before, style)
    matcher = LLMatcher(LLTokenizer(tokenizer.to_str(), eos_token=tokenizer.token_to_id("<|eos|>")), grammar)
    assert not matcher.is_error(), matcher.get_error()
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    return matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting()


@pytest.mark.parametrize(
    ("constraint", "before", "text", "is_fitting"),
    [
        (Constraint(SCHEMA), "", GOOD, True),
        (Constraint(SCHEMA), "", f"<think>4 + 8\n= 12</think>\n{GOOD}", True),
        (Constraint(SCHEMA), "", "16", False),
        (Constraint(SCHEMA), "", "<think>4</think>", False),
        (Constraint(SCHEMA), "", GOOD.replace("x", "z"), False),
        (Constraint(SCHEMA), "", GOOD.replace(": ", ":  "), False),
        (Constraint(SCHEMA), "<think>", f"4</think>{GOOD}", True),
        (Constraint(SCHEMA), "<think>", GOOD, False),
        (Constraint(SCHEMA), "</think>", GOOD, True),
        (Constraint(SCHEMA), "</think>", f"<think>4</think>{GOOD}", False),
        (Constraint({"type": "object", "properties": {"a": {"type": "object"}}}), "", '{"a": {"b": 1}}', True),
        (Constraint({"type": "object", "properties": {"a": {"type": "object"}}}), "", '{"a": {}, "b": 1}', False),
        (Constraint({"properties": {"a": {}}, "additionalProperties": True}), "", '{"a": 1, "b": 1}', True),
        (MUST, "", CALL, True),
        (MUST, "", f"<think>4</think>{CALL}\n{CALL}", True),
        (MUST, "", f"so {CALL}", False),
        (MUST, "", CALL.replace('"f"', '"h"'), False),
        (MUST, "", '<tool_call>{"name": "g", "arguments": {"q": [1, null]}}</tool_call>', True),
        (Constraint(tools=TOOLS, must_call=True, many_calls=False), "", CALL * 2, False),
        (MAY, "", "just <b>text</b>", True),
        (MAY, "", f"<think>4</think>so {CALL}", True),
        (MAY, "", CALL.replace("true", "1"), False),
    ],
    ids=lambda value: str(value)[-40:],
)
def test_what_a_grammar_lets_through(constraint: Constraint, before: str, text: str, is_fitting: bool) -> None:
    assert fits(constraint, before, text) is is_fitting


@pytest.mark.parametrize(
    ("style", "constraint", "text", "is_fitting"),
    [
        (CallStyle.BARE, MUST, BARE, True),
        (CallStyle.BARE, MUST, "no", False),
        (CallStyle.BARE, MUST, f"<think>4</think>{BARE}", True),
        (CallStyle.BARE, MAY, "just text", True),
        (CallStyle.BARE, MAY, BARE.replace("true", "1"), False),
        (CallStyle.LISTED, MUST, f"[{LISTED}]", True),
        (CallStyle.LISTED, MUST, f"[{LISTED}, {LISTED}]", True),
        (CallStyle.LISTED, MUST, LISTED, False),
        (CallStyle.LISTED, MAY, "text", True),
    ],
)
def test_calls_without_tags(style: CallStyle, constraint: Constraint, text: str, is_fitting: bool) -> None:
    assert fits(constraint, "", text, style) is is_fitting


@pytest.mark.parametrize(
    "schema",
    [{"type": "nonsense"}, {"not": {}}, {"$ref": "http://elsewhere/x"}, {"pattern": "(?=a)", "type": "string"}],
)
def test_a_schema_that_cannot_be_held_is_told_in_a_line(schema: dict[str, object]) -> None:
    with pytest.raises(UserError) as told:
        write_grammar(Constraint(schema), EngineKind.OWN, {}, "")
    assert "\n" not in str(told.value)


def test_no_text_of_a_schema_leaves_its_place() -> None:
    """Names and descriptions are JSON inside the grammar: no rule of it."""
    hostile = {"type": "object", "description": '"}\nanswer: /.*/\n', "properties": {'"\nstart: /x/': {"const": "\\"}}}
    assert not fits(Constraint(hostile), "", "x")
    assert fits(Constraint(hostile), "", "{}")
