"""The document of the interface: valid, whole, and true of what the server answers."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from starlette.routing import Route

from flows.browser import CHAT_PAGE
from flows.serving.app import KINDS, build
from flows.serving.limits import Limits
from flows.serving.metrics import Metrics
from flows.serving.openapi import OPERATIONS, openapi
from flows.serving.shapes import AnswerBody, Health, ModelList
from tests.flows.serving.live import Live


def _errors(name: str, value: Any) -> list[str]:
    document = openapi()
    Draft202012Validator.check_schema(document["components"]["schemas"][name])
    validator = Draft202012Validator({**document, "$ref": f"#/components/schemas/{name}"})
    return [error.message for error in validator.iter_errors(value)]


def test_every_route_for_programs_is_told(server: Live) -> None:
    app = build(server.manager, Limits(), Metrics())
    routes = {route.path.replace(":path", "") for route in app.routes if isinstance(route, Route)}
    pages = {"/", "/openapi.json", *(f"/chat/{file.name}" for file in CHAT_PAGE.iterdir() if file.suffix in KINDS)}
    assert routes - pages == {each.path for each in OPERATIONS}


def test_no_two_classes_have_one_name() -> None:
    document = openapi()
    answers = document["components"]["schemas"]["AnswerMessage"]["properties"]
    asked = document["components"]["schemas"]["Message"]["properties"]
    assert "tool_call_id" in asked
    assert "tool_call_id" not in answers


@pytest.mark.parametrize(
    ("answer", "path", "body"),
    [
        (ModelList, "/v1/models", None),
        (Health, "/health", None),
        (AnswerBody, "/v1/chat/completions", {"messages": [{"role": "user", "content": "4+8"}], "logprobs": True}),
        (AnswerBody, "/v1/completions", {"prompt": "4+8", "max_tokens": 2}),
    ],
)
def test_answers_are_as_told(server: Live, answer: type, path: str, body: dict[str, Any] | None) -> None:
    with httpx.Client(base_url=server.url, trust_env=False, timeout=60) as client:
        assert client.get("/openapi.json").json() == openapi()
        asked = {"model": "talker", **body} if body else None
        found = (client.post(path, json=asked) if asked else client.get(path)).json()
    assert not _errors(answer.__name__, found)
    if asked:
        name = "ChatBody" if "messages" in asked else "CompletionBody"
        assert not _errors(name, asked)
        assert _errors(name, asked | {"temperature": 3})
