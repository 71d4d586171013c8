"""What a request may say: refused where it would change an answer unnoticed, accepted where it would not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.serving.app import _EventStream
from flows.serving.errors import ApiError
from flows.serving.protocol import ChatBody, CompletionBody, parse, read_json

ASK: dict[str, Any] = {"model": "talker", "messages": [{"role": "user", "content": "hello"}]}


@pytest.mark.parametrize(
    "change",
    [
        {"guided_json": {"type": "object"}},
        {"guided_regex": "a"},
        {"grammar": "root ::= x"},
        {"functions": [{"name": "f"}]},
        {"best_of": 3},
        {"best_of": True},
        {"echo": True},
        {"suffix": "the end"},
        {"ignore_eos": True},
        {"chat_template": "{{ messages }}"},
        {"modalities": ["text", "audio"]},
        {"temprature": 0.5},
        {"web_search_options": {}},
    ],
    ids=lambda change: str(change)[:40],
)
def test_what_would_change_an_answer_is_refused_by_its_name(change: dict[str, Any]) -> None:
    with pytest.raises(ApiError) as told:
        parse(ChatBody, ASK | change)
    (name,) = change
    assert (told.value.status, told.value.param, told.value.code) == (400, name, "unsupported_parameter")
    assert name in told.value.message


TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
ENDS = {"messages": [*ASK["messages"], {"role": "assistant", "content": "b"}]}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"top_k": -2}, "top_k"),
        ({"min_p": 2}, "min_p"),
        ({"n": True}, "n"),
        ({"n": "1"}, "n"),
        ({"n": 129}, "n"),
        ({"frequency_penalty": False}, "frequency_penalty"),
        ({"presence_penalty": -3}, "presence_penalty"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"logit_bias": {"a": 1}}, "logit_bias"),
        ({"logit_bias": {"5": 101}}, "logit_bias"),
        ({"logprobs": 2}, "logprobs"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"tools": [{"type": "function"}]}, "tools.0.function"),
        ({"tools": [{"type": "code_interpreter"}]}, "tools.0.type"),
        ({"tools": [TOOL, TOOL]}, "tools"),
        ({"tools": [TOOL | {"function": {"name": "a b"}}]}, "tools.0.function.name"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}}, "tool_choice"),
        ({"tools": [TOOL], "response_format": SCHEMA}, "response_format"),
        ({"continue_final_message": True}, "continue_final_message"),
        ({"add_generation_prompt": False}, "add_generation_prompt"),
        ({"continue_final_message": True, "add_generation_prompt": True}, "add_generation_prompt"),
        ({"continue_final_message": True, "response_format": SCHEMA, **ENDS}, "continue_final_message"),
        ({"chat_template_kwargs": {"other": 1}}, "chat_template_kwargs.other"),
        ({"messages": [{"role": "user", "content": "a", "tool_calls": [{"function": {"name": "f"}}]}]}, "messages.0"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_a_value_that_makes_no_sense_is_told_by_its_name(change: dict[str, Any], name: str) -> None:
    with pytest.raises(ApiError) as told:
        parse(ChatBody, ASK | change)
    assert told.value.status == 400
    assert (told.value.param or "").startswith(name)
    assert name in told.value.message


@pytest.mark.parametrize(
    "change",
    [
        {"reasoning_effort": "high", "verbosity": "low"},
        {"chat_template_kwargs": {"enable_thinking": False}},
        {"logprobs": True, "top_logprobs": 5},
        {"tools": [TOOL], "tool_choice": "auto", "parallel_tool_calls": False},
        {"tools": [TOOL], "tool_choice": "none", "response_format": SCHEMA},
        {"stream": None, "tools": None, "response_format": None},
        {"user": "me"},
        {"metadata": {"trace": "1"}},
        {"store": False},
        {"service_tier": "auto"},
        {"safety_identifier": "x"},
        {"prompt_cache_key": "x"},
        {"parallel_tool_calls": True},
        {"stream_options": {"include_usage": True, "include_obfuscation": False}},
        {"top_k": None, "guided_json": None, "seed": None, "stop": None, "n": None, "nonsense": None},
        {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "n": 1, "logprobs": False, "logit_bias": {}},
        {"frequency_penalty": 0, "presence_penalty": 0.0, "tools": [], "response_format": {"type": "text"}},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}], "name": "Ann"}]},
        {"messages": [{"role": "assistant", "content": "a", "refusal": None, "tool_calls": None, "annotations": []}]},
        {"messages": [{"role": "developer", "content": "a"}, {"role": "assistant", "reasoning_content": "b"}]},
        {"continue_final_message": True, "add_generation_prompt": False, **ENDS},
        {"continue_final_message": False, "add_generation_prompt": True},
        {"max_tokens": 10**30},
        {"seed": -1},
    ],
    ids=lambda change: str(change)[:40],
)
def test_what_changes_nothing_is_accepted(change: dict[str, Any]) -> None:
    parse(ChatBody, ASK | change)


def test_what_asks_for_nothing_is_accepted_of_completions_too() -> None:
    nothing = {"logprobs": False, "tools": [], "tool_choice": "none", "top_logprobs": 0, "echo": False, "suffix": ""}
    body = parse(CompletionBody, {"model": "talker", "prompt": "x"} | nothing)
    assert body.top is None
    for change in ({"logprobs": True}, {"logprobs": 21}, {"tools": [TOOL]}, {"max_tokens": 0}):
        with pytest.raises(ApiError) as told:
            parse(CompletionBody, {"model": "talker", "prompt": "x"} | change)
        assert (told.value.param or "").startswith(*change)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ('{"model": "talker", "messages": [{"role": "user", "content": "\\ud800"}]}', "messages"),
        ('{"model": "talker", "messages": [{"role": "user", "content": "a", "\\udfff": 0}]}', "messages"),
        ('{"model": "\\ud800", "messages": [{"role": "user", "content": "a"}]}', "model"),
        ('{"\\ud800": 1}', "surrogate"),
        ('{"model": "a", "model": "b"}', "'model' stands there twice"),
        ('{"messages": [{"role": "user", "role": "system"}]}', "twice"),
        ('{"temperature": NaN}', "NaN"),
        ('{"temperature": -Infinity}', "Infinity"),
        ('{"seed": ' + "9" * 5000 + "}", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ('{"a":' * 50_000, "no JSON"),
        ("", "no JSON"),
        ('"text"', "not a str"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_no_request_is_told(body: str, told: str) -> None:
    with pytest.raises(ApiError, match=told) as error:
        parse(ChatBody, read_json(body.encode()))
    assert error.value.status == 400
    json.dumps(error.value.body(), ensure_ascii=False).encode()


def test_raw_bytes_of_half_a_character_are_told() -> None:
    with pytest.raises(ApiError) as error:
        parse(ChatBody, read_json(json.dumps(ASK).encode().replace(b"hello", b"\xed\xa0\x80")))
    assert error.value.status == 400


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec=None), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["role", "content", "type"]), inner),
    max_leaves=6,
)
KEYS = [*ChatBody.model_fields, *CompletionBody.model_fields, "tools", "n", "logit_bias", "top_k", "anything"]


@given(st.dictionaries(st.sampled_from(KEYS), VALUES), st.sampled_from([ChatBody, CompletionBody]))
def test_any_json_is_a_request_or_a_told_mistake(values: dict[str, Any], kind: type[Any]) -> None:
    for given_values in (values, ASK | values, {"model": "talker", "prompt": "x"} | values):
        told = _complaint(kind, given_values)
        assert told is None or told.status == 400
        json.dumps(told and told.body(), ensure_ascii=False).encode()


def _complaint(kind: type[Any], values: Any) -> ApiError | None:
    try:
        parse(kind, values)
    except ApiError as error:
        return error
    return None


def test_a_client_that_leaves_is_noticed_among_events_that_wait() -> None:
    """A thousand pieces that an engine has made already: nothing of sending them suspends."""
    sent: list[Any] = []

    async def drive() -> None:
        async def events() -> AsyncIterator[str]:
            for number in range(1000):
                yield f"data: {number}\n\n"

        async def receive() -> dict[str, str]:
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        async def work() -> None:
            pass

        await _EventStream(events(), asyncio.create_task(work()), {})({"type": "http"}, receive, send)

    asyncio.run(drive())
    assert len(sent) < 10
