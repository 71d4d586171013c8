"""Clients as they come: slow, gone, resetting, dripping. None of them takes a turn from the others."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from flows.serving.app import build
from flows.serving.metrics import Metrics
from flows.serving.model_manager import ModelManager, Place, Source
from model.serving.spec import EngineKind
from tests.flows.serving.live import LIMITS, Live, Shelf, frozen_engine, live, post, raw, sure, until
from tests.model.serving.talker import ANSWER, QUESTION, THOUGHT

ASK: dict[str, Any] = {"model": "talker", "temperature": 0, "messages": [{"role": "user", "content": QUESTION}]}
WILD = ASK | {"temperature": 2.0, "messages": [{"role": "user", "content": "Say it in full."}], "max_tokens": 80}
LARGE = (200, 400, 431)
"""What may be said to large headers, as they arrive at once or not."""
CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def impatient(talkers: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server of one turn and one place in line that lets slow clients go after a second."""
    cache = tmp_path_factory.mktemp("impatient")
    with live(Shelf(talkers), cache, client_seconds=1.0, concurrency=1, waiting=1, seconds=20.0) as server:
        yield server


def requests(server: Live) -> dict[str, int]:
    """Running and waiting, as the metrics say it, which ask no engine."""
    with server.client() as client:
        page = dict(line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines() if line[0] != "#")
        return {name: int(float(page[f"deepmill_requests_{name}"])) for name in ("running", "waiting")}


def is_idle(server: Live) -> bool:
    return requests(server) == {"running": 0, "waiting": 0}


def is_answered(server: Live) -> bool:
    with server.client() as client:
        answer = client.post(CHAT, json=ASK)
        return answer.status_code == 200 and answer.json()["choices"][0]["message"]["content"] == ANSWER


def connect(server: Live, *, buffer: int | None = None) -> socket.socket:
    found = socket.socket()
    if buffer is not None:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    found.connect(("127.0.0.1", server.port))
    return found


def test_who_reads_nothing_holds_no_turn(talkers: dict[str, Path], tmp_path: Path) -> None:
    """Eight answers of which not even the head is taken, and then one request more."""
    metrics = Metrics()
    place = Place(EngineKind.AUTO, 160, 2, 1, tmp_path)
    shelf = Shelf(talkers)
    manager = ModelManager(Source(lambda: shelf.wanted, shelf.fetch), place, metrics)

    async def asked() -> AsyncIterator[dict[str, Any]]:
        yield {"type": "http.request", "body": json.dumps(ASK | {"stream": True}).encode(), "more_body": False}
        await asyncio.Event().wait()

    async def never(message: Any) -> None:
        await asyncio.Event().wait()

    async def main() -> httpx.Response:
        await manager.open()
        app = build(manager, replace(LIMITS, client_seconds=0.5), metrics)
        head = {"type": "http", "method": "POST", "path": CHAT, "query_string": b"", "http_version": "1.1"}
        scope = head | {"headers": [(b"content-type", b"application/json")], "scheme": "http", "root_path": ""}
        deaf = [asyncio.create_task(app(dict(scope), asked().__anext__, never)) for _ in range(8)]
        through = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=through, base_url="http://localhost", timeout=60) as client:
            async with asyncio.timeout(60):
                for _ in range(3):
                    answer = await client.post(CHAT, json=ASK)
        for call in deaf:
            call.cancel()
        await asyncio.gather(*deaf, return_exceptions=True)
        await manager.close()
        return answer

    assert asyncio.run(main()).json()["choices"][0]["message"]["content"] == ANSWER


def test_who_reads_nothing_is_let_go(impatient: Live) -> None:
    """Pages, asked for one behind the other: more than the buffers between take."""
    deaf = [connect(impatient, buffer=2048) for _ in range(3)]
    pages = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1500 + post(ASK | {"stream": True})
    try:
        for one in deaf:
            one.setblocking(False)
            with contextlib.suppress(BlockingIOError, ConnectionError):
                while True:
                    one.send(pages)
        until(lambda: all(is_cut(one) for one in deaf))
        until(lambda: is_idle(impatient))
        assert is_answered(impatient)
    finally:
        for one in deaf:
            one.close()


def is_cut(connection: socket.socket) -> bool:
    """Whether the server has ended the connection."""
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("pipelined", [1, 2])
def test_who_leaves_loses_the_place_in_line(impatient: Live, stream: bool, pipelined: int) -> None:
    with frozen_engine():
        first = connect(impatient)
        first.sendall(post(ASK))
        until(lambda: requests(impatient)["running"] == 1)
        second = connect(impatient)
        second.sendall(post(ASK | {"stream": stream}) * pipelined)
        until(lambda: requests(impatient)["waiting"] == 1)
        with impatient.client() as client:
            if not stream and pipelined == 1:  # it waits for the engine's own word
                health = client.get("/health")
                assert health.json()["requests"] == {"running": 1, "slots": 1, "waiting": 1, "line": 1}
                assert health.status_code == 503
            assert client.post(CHAT, json=ASK).status_code == 429
        second.close()
        until(lambda: requests(impatient)["waiting"] == 0)
        first.close()
        until(lambda: is_idle(impatient))
    assert is_answered(impatient)


@pytest.mark.parametrize("times", range(3))
def test_who_resets_in_the_middle_leaves_nothing(impatient: Live, times: int) -> None:
    one = connect(impatient)
    one.sendall(post(WILD | {"stream": True}))
    assert one.recv(16)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
    one.close()
    until(lambda: is_idle(impatient))
    assert is_answered(impatient)


def test_a_half_closed_connection_holds_nothing(impatient: Live) -> None:
    one = connect(impatient)
    one.sendall(post(WILD))
    one.shutdown(socket.SHUT_WR)
    until(lambda: is_idle(impatient))
    one.close()
    assert is_answered(impatient)


def test_a_body_that_drips_is_bounded_in_all(talkers: dict[str, Path], tmp_path: Path) -> None:
    """Each piece comes in time, all of them do not."""
    with live(Shelf(talkers), tmp_path, client_seconds=5.0, seconds=1.0) as server:
        whole = post(ASK)

        async def drip() -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(whole[:-200])
            told = asyncio.ensure_future(reader.readline())
            for byte in whole[-200:]:
                if (await asyncio.wait({told}, timeout=0.05))[0]:
                    break
                writer.write(bytes([byte]))
            status = await asyncio.wait_for(told, 90)
            writer.close()
            return status

        # A byte that is on its way when the server closes ends in a reset, which may take the answer with it.
        assert any(b" 408 " in asyncio.run(drip())[:20] for _ in range(3))
        assert is_answered(server)


def test_the_time_limit_in_a_stream_is_told_in_the_stream(
    talkers: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with live(Shelf(talkers), tmp_path, engine=EngineKind.OWN, seconds=2.0) as server, server.client() as client:
        for _ in range(30):
            with client.stream("POST", CHAT, json=WILD | {"stream": True}) as streamed:
                assert streamed.status_code == 200
                lines = streamed.iter_lines()
                events = [next(lines)]
                with frozen_engine():
                    events += [line for line in lines if line]
            if events[-1] != "data: [DONE]":  # else it was written before the engine stood still
                break
        error = json.loads(events[-1].removeprefix("data: "))["error"]
        assert (error["code"], error["type"]) == ("timeout", "server_error")
        assert is_answered(server)
    assert not [each for each in caplog.records if each.exc_info and each.name.startswith("deepmill")]


def test_no_seed_is_a_new_one_each_time(server: Live) -> None:
    with server.client() as client:

        def said(**more: Any) -> str:
            answer = client.post(CHAT, json=WILD | {"max_tokens": 30} | more).json()
            return json.dumps(answer["choices"][0]["message"])

        assert len({said() for _ in range(5)}) > 1
        assert len({said(seed=7) for _ in range(3)}) == 1
        assert len({said(seed=seed) for seed in range(5)}) > 1
        assert len({said(seed=-1) for _ in range(3)}) == 1


def test_no_temperature_is_the_models_own_or_one(talkers: dict[str, Path], tmp_path: Path) -> None:
    with live(
        Shelf({"1": talkers["1"], "2": sure(talkers["1"], tmp_path / "sure")}, wanted="1"), tmp_path / "cache"
    ) as server:
        unknown = {"model": "talker", "messages": [{"role": "user", "content": "+ + in"}], "max_tokens": 30}
        found: dict[str, set[str]] = {"1": set(), "2": set()}
        with server.client() as client:
            for wanted in ("1", "2"):
                server.shelf.wanted = wanted
                until(lambda wanted=wanted: client.get("/health").json().get("version") == wanted)
                for _ in range(6):
                    found[wanted].add(json.dumps(client.post(CHAT, json=unknown).json()["choices"][0]["message"]))
    assert len(found["1"]) > 1
    assert len(found["2"]) == 1


def test_stop_ends_the_answer_not_the_reasoning(server: Live) -> None:
    with server.client() as client:
        for stop, content in (("12+4", ANSWER), (["6"], "1"), (ANSWER, ""), (["7", "16x"], ANSWER)):
            answer = client.post(CHAT, json=ASK | {"stop": stop}).json()
            message = answer["choices"][0]["message"]
            assert (message["reasoning_content"], message["content"]) == (THOUGHT, content)
            assert answer["choices"][0]["finish_reason"] == "stop"
            assert 0 < answer["usage"]["completion_tokens"] < 40
            said = ""
            for line in client.post(CHAT, json=ASK | {"stop": stop, "stream": True}).text.splitlines():
                if line.startswith("data: {"):
                    said += json.loads(line[6:])["choices"][0]["delta"].get("content", "")
            assert said == content


def test_any_alias_of_the_version_names_it(server: Live) -> None:
    with server.client() as client:
        for name in ("talker@champion", "talker@night-ly", "talker/1"):
            assert client.post(CHAT, json=ASK | {"model": name}).status_code == 200
            assert client.get(f"/v1/models/{name}").json()["id"] == name
        for name in ("talker@nonsense", "talker@challenger", "talker@", "@champion", "talker/2", "talker/1@champion"):
            assert client.post(CHAT, json=ASK | {"model": name}).status_code == 404
            assert client.get(f"/v1/models/{name}").status_code == 404


def test_a_name_in_any_script_is_served(talkers: dict[str, Path], tmp_path: Path) -> None:
    with live(Shelf(talkers, name="учитель"), tmp_path) as server, server.client() as client:
        answer = client.post(CHAT, json=ASK | {"model": "учитель"})
        assert (answer.status_code, answer.json()["model"]) == (200, "учитель/1")


def test_a_fault_of_ours_is_logged_with_its_cause(
    talkers: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture, log: logging.Logger
) -> None:
    log.propagate = True
    with live(Shelf(talkers), tmp_path) as server, server.client() as client:
        assert server.manager.served is not None
        server.manager.served.chat = None  # type: ignore[assignment]
        for stream in (False, True):
            answer = client.post(CHAT, json=ASK | {"stream": stream})
            number = answer.headers["x-request-id"]
            assert answer.status_code == 500
            assert number in answer.json()["error"]["message"]
            (record,) = [record for record in caplog.records if number in record.getMessage()]
            assert record.exc_info is not None
            assert "AttributeError" in str(record.exc_info)
        until(lambda: is_idle(server))


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"HEAD /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", (200,)),
        (b"HEAD /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", (405,)),
        (b"OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", (405,)),
        (b"GET /%ff%00%0d%0aX:y HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", (404,)),
        (b"GET /v1/models/%ed%a0%80 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", (404,)),
        (b"GET /v1/models/" + b"a" * 10_000 + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", (404,)),
        (
            b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 20_000 + b"\r\nConnection: close\r\n\r\n",
            (200, 400, 431),
        ),
        (b"\x16\x03\x01\x02\x00\x01\x00", (400,)),
        (post(ASK | {"model": "m" * 10_000}, more="Connection: close\r\n"), (400, 404)),
        (post(ASK | {"messages": [ASK["messages"][0]] * 1001}, more="Connection: close\r\n"), (400, 413)),
        (post(ASK, more="Connection: close\r\nTransfer-Encoding: chunked\r\n") + b"\r\n\r\n", (400,)),
        (post(ASK, more="Connection: close\r\nContent-Encoding: gzip\r\n"), (200,)),
        (post(ASK, more="Connection: close\r\nExpect: 100-continue\r\n"), (100, 200)),
    ],
    ids=lambda value: str(value)[:40],
)
def test_odd_requests_are_answered_in_order(server: Live, sent: bytes, status: tuple[int, ...]) -> None:
    told = asyncio.run(raw(server.port, sent))
    assert int(told.split(b" ", 2)[1]) in status
    assert is_answered(server)


def test_pipelined_requests_are_answered_one_after_another(server: Live) -> None:
    told = asyncio.run(raw(server.port, post(ASK) * 3 + post(ASK, more="Connection: close\r\n")))
    assert told.count(b"HTTP/1.1 200 OK") == 4


def test_a_chunked_body_is_a_body(server: Live) -> None:
    content = json.dumps(ASK).encode()
    with server.client() as client:
        chunks = (content[start : start + 7] for start in range(0, len(content), 7))
        answer = client.post(CHAT, content=chunks, headers={"Content-Type": "Application/JSON; charset=utf-8"})
        assert answer.status_code == 200
        endless = (b"[" * 1000 for _ in range(100))
        refused = client.post(CHAT, content=endless, headers={"Content-Type": "application/json"})
        assert refused.status_code == 413
    assert is_answered(server)
