"""OpenAI's Responses API: whole and streamed, tools, formats, and what it refuses."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from tests.flows.serving.live import Live
from tests.model.serving.talker import ANSWER, QUESTION, THOUGHT

ASK: dict[str, Any] = {"model": "talker", "temperature": 0, "input": QUESTION}
SCHEMA = {"type": "object", "properties": {"b": {"type": "boolean"}}, "required": ["b"], "additionalProperties": False}


@pytest.fixture(scope="module")
def client(server: Live) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def test_a_response_has_reasoning_and_answer(client: openai.OpenAI) -> None:
    found = client.responses.create(**ASK, instructions="", metadata={"a": "b"}, store=True)
    thought, said = found.output
    assert (thought.content[0].text, found.output_text, said.role) == (THOUGHT, ANSWER, "assistant")
    assert (found.status, found.model, found.metadata) == ("completed", "talker/1", {"a": "b"})
    assert found.usage.input_tokens + found.usage.output_tokens == found.usage.total_tokens
    assert 0 < found.usage.output_tokens_details.reasoning_tokens < found.usage.output_tokens
    cut = client.responses.create(**ASK, max_output_tokens=3)
    assert (cut.status, cut.incomplete_details.reason) == ("incomplete", "max_output_tokens")


def test_events_tell_the_same_in_order(client: openai.OpenAI) -> None:
    events = list(client.responses.create(**ASK, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = list(dict.fromkeys(event.type for event in events))
    begin = ["response.created", "response.in_progress", "response.output_item.added", "response.content_part.added"]
    assert kinds[:4] == begin
    assert kinds[-1] == "response.completed"
    said = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    thought = "".join(event.delta for event in events if event.type == "response.reasoning_text.delta")
    assert (said, thought) == (ANSWER, THOUGHT)
    assert events[-1].response.output_text == ANSWER
    with client.responses.stream(**ASK) as stream:  # the client's own reader of events
        assert stream.get_final_response().output_text == ANSWER


def test_a_format_and_its_tokens(client: openai.OpenAI) -> None:
    wanted = {"format": {"type": "json_schema", "name": "b", "schema": SCHEMA, "strict": True}}
    found = client.responses.create(**ASK, text=wanted, include=["message.output_text.logprobs"], top_logprobs=2)
    assert isinstance(json.loads(found.output_text)["b"], bool)
    told = found.output[-1].content[0].logprobs
    assert "".join(each.token for each in told) == found.output_text
    assert len(told[0].top_logprobs) == 2


def test_a_conversation_as_items(client: openai.OpenAI) -> None:
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "Say it in full."}]},
        {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "so"}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "12"}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "16"},
    ]
    short = client.responses.create(**ASK, max_output_tokens=1)
    found = client.responses.create(**ASK | {"input": items}, max_output_tokens=1)
    assert found.usage.input_tokens > short.usage.input_tokens + 20


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"background": True}, "background"),
        ({"truncation": "auto"}, "truncation"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, "input"),
        ({"input": QUESTION * 60}, "input"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"text": {"format": {"type": "json_schema", "name": "b", "schema": {"not": {}}}}}, "text.format"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_refused_is_named(server: Live, change: dict[str, Any], param: str) -> None:
    with server.client() as http:
        answer = http.post("/v1/responses", json=ASK | change)
        error = answer.json()["error"]
        assert (answer.status_code, (error["param"] or "").startswith(param)) == (400, True), error
        assert param in error["message"] or "context" in error["message"]
