"""What the clients that people use send by default is answered: the table client × feature of docs/serving.md."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.flows.serving.live import Live, Shelf, live, sure
from tests.flows.serving.recorded import CALL, FORMAT, ONE, PROMPT, QUESTION, RECORDED, USER, tool
from tests.flows.serving.test_features import wide  # noqa: F401 (a fixture)
from tests.model.serving.talker import ANSWER

DOCS = Path(__file__).parents[3] / "docs" / "serving.md"
CLIENTS = ("openai", "LangChain", "LlamaIndex", "LiteLLM", "Open WebUI")


@pytest.fixture(scope="module")
def server(wide: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:  # noqa: F811
    """One that says the same each time: not every client names a temperature."""
    root = tmp_path_factory.mktemp("peers")
    with live(Shelf({"1": sure(wide["1"], root / "sure")}), root / "cache", context=1024, new_tokens=160) as running:
        yield running


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]


def is_answered(feature: str, body: dict[str, Any], text: str) -> bool:
    """Whether an answer has what was asked for."""
    if body.get("stream"):
        told = events(text)
        if feature.startswith("responses"):
            return told[-1]["type"] == "response.completed"
        if feature == "usage in a stream" and (told[-1]["choices"] or not told[-1]["usage"]["total_tokens"]):
            return False
        said = "".join(each["choices"][0]["delta"].get("content", "") for each in told if each["choices"])
        return bool(said) and text.rstrip().endswith("data: [DONE]")
    found = json.loads(text)
    if feature == "embeddings":
        vector = found["data"][0]["embedding"]
        return isinstance(vector, str if body.get("encoding_format") == "base64" else list) and bool(vector)
    if feature == "responses":
        return found["output"][-1]["content"][0]["text"] != ""
    if feature == "completions":
        return str(found["choices"][0]["text"]).startswith("<think>4+8")
    choice = found["choices"][-1]
    if feature == "n":
        return bool(choice["index"] == 1 and choice["message"]["content"] == ANSWER)
    if feature == "JSON Schema":
        return set(json.loads(choice["message"]["content"])) == {"a", "b"}
    if feature == "logprobs":
        return "".join(each["token"] for each in choice["logprobs"]["content"]) == ANSWER
    if feature == "tool_choice" and choice["finish_reason"] != "length":  # thinks until it is cut, if it may
        return bool(choice["message"]["tool_calls"][0]["function"]["arguments"])
    return bool(choice["finish_reason"])


@pytest.mark.parametrize(("client", "feature"), RECORDED, ids=str)
def test_what_a_client_sends_is_answered(server: Live, client: str, feature: str) -> None:
    path, body = RECORDED[client, feature]
    with server.client() as http:
        answer = http.post(path, json=body, headers={"X-Stainless-Lang": "python"})
    assert answer.status_code == 200, answer.text
    assert is_answered(feature, body, answer.text), answer.text


ASK: dict[str, Any] = {"model": "talker", "messages": USER, "temperature": 0}
OFFICIAL: dict[str, Callable[[openai.OpenAI], bool]] = {
    "chat": lambda c: c.chat.completions.create(**ASK).choices[0].message.content == ANSWER,
    "stream": lambda c: (
        "".join(each.choices[0].delta.content or "" for each in c.chat.completions.create(**ASK, stream=True)) == ANSWER
    ),
    "usage in a stream": lambda c: (
        [*c.chat.completions.create(**ASK, stream=True, stream_options={"include_usage": True})][-1].usage.total_tokens
        > 0
    ),
    "n": lambda c: len(c.chat.completions.create(**ASK, n=2).choices) == 2,
    "logprobs": lambda c: len(c.chat.completions.create(**ASK, logprobs=True).choices[0].logprobs.content) == 2,
    "JSON Schema": lambda c: (
        set(json.loads(c.chat.completions.create(**ASK, response_format=FORMAT).choices[0].message.content))
        == {"a", "b"}
    ),
    "tools": lambda c: c.chat.completions.create(**ASK, tools=[tool("f", ONE)]).choices[0].finish_reason == "stop",
    "tool_choice": lambda c: (
        json.loads(
            c.chat.completions.create(**ASK, tools=[tool("f", ONE)], tool_choice="required", reasoning_effort="none")
            .choices[0]
            .message.tool_calls[0]
            .function.arguments
        )["a"]
        in ("x", "y")
    ),
    "tool messages": lambda c: (
        c.chat.completions.create(
            **ASK
            | {
                "messages": [
                    *USER,
                    {"role": "assistant", "tool_calls": [CALL]},
                    {"role": "tool", "tool_call_id": "call_1", "content": "x"},
                ]
            }
        ).usage.total_tokens
        > 0
    ),
    "completions": lambda c: (
        c.completions.create(model="talker", prompt=PROMPT, temperature=0).choices[0].text.endswith(ANSWER)
    ),
    "embeddings": lambda c: len(c.embeddings.create(model="talker", input="4 + 8").data[0].embedding) == 64,
    "responses": lambda c: c.responses.create(model="talker", input=QUESTION, temperature=0).output_text == ANSWER,
    "responses, streamed": lambda c: (
        [*c.responses.create(model="talker", input=QUESTION, temperature=0, stream=True)][-1].response.output_text
        == ANSWER
    ),
}


@pytest.mark.parametrize("feature", OFFICIAL)
def test_the_official_client_gets_what_it_asks_for(server: Live, feature: str) -> None:
    assert OFFICIAL[feature](openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0))


def test_the_table_of_the_documentation_is_these_tests() -> None:
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in DOCS.read_text().splitlines()]
    head = next(place for place, row in enumerate(rows) if row[1:] == list(CLIENTS))
    told = set()
    for row in rows[head + 2 :]:
        if len(row) != len(CLIENTS) + 1:
            break
        told |= {(client, row[0]) for client, cell in zip(CLIENTS, row[1:], strict=True) if cell == "yes"}
    assert told == set(RECORDED) | {("openai", feature) for feature in OFFICIAL}
