"""The API as OpenAI's own client sees it, and as everybody else may misuse it. On a real engine."""

from __future__ import annotations

import asyncio
import json
import resource
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.flows.serving.live import LIMITS, Live, Shelf, frozen_engine, live, raw
from tests.model.serving.talker import ANSWER, QUESTION, THOUGHT, words

ASK: dict[str, Any] = {"model": "talker", "temperature": 0, "messages": [{"role": "user", "content": QUESTION}]}

PROMPT = f"<|bos|><|user|>{QUESTION}<|assistant|>"


@pytest.fixture(scope="module")
def client(server: Live) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def test_a_chat_shows_thoughts_apart(client: openai.OpenAI) -> None:
    found = client.chat.completions.create(**ASK)
    message = found.choices[0].message
    assert (message.content, message.model_extra["reasoning_content"]) == (ANSWER, THOUGHT)
    assert (found.model, found.choices[0].finish_reason) == ("talker/1", "stop")
    prompt = len(words().encode(QUESTION, add_special_tokens=False).ids) + 3
    assert found.usage.prompt_tokens == prompt
    assert 0 < found.usage.completion_tokens_details.reasoning_tokens < found.usage.completion_tokens


def test_a_stream_says_the_same_in_pieces(client: openai.OpenAI) -> None:
    chunks = list(client.chat.completions.create(**ASK, stream=True, stream_options={"include_usage": True}))
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert "".join(delta.content or "" for delta in deltas) == ANSWER
    thoughts = [delta.model_extra.get("reasoning_content") or "" for delta in deltas]
    assert "".join(thoughts) == THOUGHT
    assert sum(map(bool, thoughts)) > 3
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage.completion_tokens > 5
    assert {chunk.id for chunk in chunks} == {chunks[0].id}


def test_plain_completions(client: openai.OpenAI) -> None:
    prompt = f"<|bos|><|user|>{QUESTION}<|assistant|><think>4+8=12"
    found = client.completions.create(model="talker", prompt=prompt, max_tokens=50, temperature=0)
    assert found.choices[0].text == f" 12+4=16</think>{ANSWER}"
    ids = words().encode(prompt, add_special_tokens=False).ids
    pieces = client.completions.create(model="talker/1", prompt=ids, max_tokens=50, stream=True, temperature=0)
    assert "".join(piece.choices[0].text for piece in pieces) == found.choices[0].text
    short = client.completions.create(model="talker@champion", prompt=prompt, max_tokens=2)
    assert short.choices[0].finish_reason == "length"


def test_stop_and_seed(client: openai.OpenAI) -> None:
    found = client.completions.create(model="talker", prompt=PROMPT, stop=["12+4"], temperature=0)
    assert found.choices[0].text == f"<think>{THOUGHT.partition('12+4')[0]}"
    wild = [
        client.chat.completions.create(**ASK | {"temperature": 2.0}, seed=seed, max_tokens=12)
        .choices[0]
        .message.to_dict()
        for seed in (3, 3, 4)
    ]
    assert wild[0] == wild[1] != wild[2]


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["talker", "talker/1"]
    assert client.models.retrieve("talker/1").id == "talker/1"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("../../etc/passwd")


@pytest.mark.parametrize(
    ("change", "status", "told"),
    [
        ({"model": "../../../etc/passwd"}, 404, "is not served here"),
        ({"model": "talker/../1"}, 404, "is not served here"),
        ({"model": "talker@../x"}, 404, "is not served here"),
        ({"model": "talker@nonsense"}, 404, "is not served here"),
        ({"model": "talker@challenger"}, 404, "is not served here"),
        ({"model": "talker@"}, 404, "is not served here"),
        ({"model": "talker/"}, 404, "is not served here"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, 400, "unknown role 'wizard'"),
        ({"messages": []}, 400, "messages"),
        ({"messages": "hello"}, 400, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, 400, "content"),
        ({"messages": [{"role": "user", "content": "7 " * 400}]}, 400, "the context holds 160"),
        ({"messages": [{"role": "user", "content": "a" * 30_000}]}, 413, "more than 20,000 bytes"),
        ({"temperature": "hot"}, 400, "temperature"),
        ({"temperature": -1}, 400, "temperature"),
        ({"max_tokens": 0}, 400, "max_tokens"),
        ({"top_p": 0}, 400, "top_p"),
        ({"stop": ["a", "b", "c", "d", "e"]}, 400, "stop"),
        ({"n": 0}, 400, "n"),
        ({"tools": [{"type": "function"}]}, 400, "tools.0.function"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"not": {}}}}}, 400, "not"),
        ({"logit_bias": {"999": 1}}, 400, "outside the vocabulary"),
        ({"stream": "yes"}, 400, "stream"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_bad_request_is_told(server: Live, change: dict[str, Any], status: int, told: str) -> None:
    with server.client() as client:
        answer = client.post("/v1/chat/completions", json=ASK | change)
        assert (answer.status_code, told in answer.json()["error"]["message"]) == (status, True), answer.text
        assert client.get("/health").json()["status"] == "ok"


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{not json", "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"[" * 9000, "application/json", 400),
        (b"[]", "application/json", 400),
        (b"null", "application/json", 400),
        (b"", "application/json", 400),
        (json.dumps(ASK).encode(), "text/plain", 415),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_bad_body_is_told(server: Live, body: bytes, kind: str, status: int) -> None:
    with server.client() as client:
        answer = client.post("/v1/chat/completions", content=body, headers={"Content-Type": kind})
        assert answer.status_code == status
        assert answer.json()["error"]["message"]


def test_tokens_outside_the_vocabulary(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="outside the vocabulary"):
        client.completions.create(model="talker", prompt=[5, 999_999])


def test_health_and_metrics(server: Live, client: openai.OpenAI) -> None:
    client.chat.completions.create(**ASK)
    with server.client() as http:
        assert http.get("/health").json() == {
            "status": "ok",
            "model": "talker",
            "version": "1",
            "engine": "llama",
            "trouble": None,
            "requests": {"running": 0, "slots": LIMITS.concurrency, "waiting": 0, "line": LIMITS.waiting},
        }
        page = http.get("/metrics").text
        assert 'deepmill_model{model="talker",version="1"} 1.0' in page
        assert 'deepmill_requests_total{route="/v1/chat/completions",status="200"}' in page
        assert "deepmill_first_token_seconds_count" in page
        assert http.get("/no/such").status_code == 404
        assert http.get("/v1/chat/completions").status_code == 405
        assert http.get("/health", headers={"Host": "evil.example"}).status_code == 403


def test_a_thousand_at_once(server: Live) -> None:
    """Each is answered or sent away in order; the server stays up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8192)), hard))
    body = json.dumps(ASK | {"max_tokens": 2}).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    request = f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body

    async def all_of_them() -> list[bytes]:
        return await asyncio.gather(*(raw(server.port, request, 120) for _ in range(1000)))

    answers = asyncio.run(all_of_them())
    counted = Counter(answer.split(b" ", 2)[1] for answer in answers)
    assert set(counted) <= {b"200", b"429"}
    assert counted[b"200"] >= LIMITS.waiting
    assert counted[b"200"] + counted[b"429"] == 1000
    if counted[b"429"]:
        away = next(answer for answer in answers if b" 429 " in answer[:20])
        assert b"retry-after" in away.lower()
    with server.client() as client:
        assert client.post("/v1/chat/completions", json=ASK).json()["choices"][0]["message"]["content"] == ANSWER


def test_slow_clients_are_let_go(talkers: dict[str, Path], tmp_path: Path) -> None:
    with live(Shelf(talkers), tmp_path, client_seconds=1.0) as server:
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"

        async def slow() -> list[bytes]:
            half_head = raw(server.port, head, 8)
            half_body = raw(server.port, head + b"Content-Length: 100\r\nConnection: close\r\n\r\n{", 8)
            return await asyncio.gather(half_head, half_body, raw(server.port, b"", 8))

        half_head, half_body, silent = asyncio.run(slow())
        assert (half_head, silent) == (b"", b"")
        assert b" 408 " in half_body[:20]
        with server.client() as client:
            assert client.post("/v1/chat/completions", json=ASK).status_code == 200


def test_keys(talkers: dict[str, Path], tmp_path: Path) -> None:
    with live(Shelf(talkers), tmp_path, keys=("one", "two")) as server, server.client() as client:
        for wrong in ({}, {"Authorization": "Bearer three"}, {"Authorization": "Basic one"}):
            answer = client.post("/v1/chat/completions", json=ASK, headers=wrong)
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
            assert client.get("/metrics", headers=wrong).status_code == 401
        assert client.get("/health").status_code == 200
        assert client.get("/").status_code == 200
        for key in ("one", "two"):
            official = openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)
            assert official.chat.completions.create(**ASK).choices[0].message.content == ANSWER


def test_who_leaves_stops_the_work(talkers: dict[str, Path], tmp_path: Path) -> None:
    from model.serving.spec import EngineKind

    wild = ASK | {"temperature": 2.0, "messages": [{"role": "user", "content": "Say it in full."}], "max_tokens": 80}
    with live(Shelf(talkers), tmp_path, engine=EngineKind.OWN, concurrency=1) as server, server.client() as client:
        for stream in (False, True):
            with frozen_engine(), pytest.raises(httpx.ReadTimeout):
                client.post("/v1/chat/completions", json=wild | {"stream": stream}, timeout=0.3).read()
        answer = client.post("/v1/chat/completions", json=ASK)  # the one turn is free again
        assert answer.json()["choices"][0]["message"]["content"] == ANSWER
        assert "deepmill_requests_running 0.0" in client.get("/metrics").text


def test_too_long_an_answer(talkers: dict[str, Path], tmp_path: Path) -> None:
    from model.serving.spec import EngineKind

    with live(Shelf(talkers), tmp_path, engine=EngineKind.OWN, seconds=0.5) as server, server.client() as client:
        with frozen_engine():
            answer = client.post("/v1/chat/completions", json=ASK)
            assert answer.status_code in (503, 504)
        with frozen_engine():
            streamed = client.post("/v1/chat/completions", json=ASK | {"stream": True})
            assert streamed.status_code in (503, 504) or '"code": "timeout"' in streamed.text
