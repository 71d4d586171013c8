"""Following the alias: versions swap without a dropped request, and trouble never stops what serves."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from flows.serving.model_manager import Place, Version, drafter, prepare
from infra.errors import UserError
from model.serving.spec import EngineKind
from tests.flows.serving.live import Live, Shelf, frozen_engine, live, until
from tests.model.serving.talker import ANSWER, QUESTION, save_talker, taught

ASK: dict[str, Any] = {"model": "talker", "temperature": 0, "messages": [{"role": "user", "content": QUESTION}]}


def version(server: Live) -> str:
    with server.client() as client:
        return str(client.get("/health").json().get("version"))


def trouble(server: Live) -> str:
    with server.client() as client:
        return str(client.get("/health").json()["trouble"])


def _supervisors() -> set[int]:
    """The children of this process that supervise a program."""
    found = set()
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if "infra.supervisor" in " ".join(child.cmdline()):
                found.add(child.pid)
    return found


def _said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What our own code put into the log."""
    return [record.getMessage() for record in caplog.records if record.name.startswith("deepmill")]


def test_a_model_that_guesses_answers_the_same(tmp_path: Path) -> None:
    shelf = Shelf({"1": save_talker(tmp_path / "guessing", taught(predicts=True))})
    with live(shelf, tmp_path / "cache", drafts=2) as server, server.client() as client:
        answer = client.post("/v1/chat/completions", json=ASK).json()
        assert server.manager.served is not None
        spec = server.manager.served.engine.spec
    assert answer["choices"][0]["message"]["content"] == ANSWER
    assert (spec.kind, spec.drafts, Path(spec.drafter).name) == ("llama", 2, "model-mtp-q8_0.gguf")


def test_who_guesses(talkers: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The layer's file is made beside the model's; where guesses cannot be had the log says why, and none are made."""
    guessing = Version("guessing", "1", save_talker(tmp_path / "guessing", taught(predicts=True)))
    place = Place(EngineKind.LLAMA, 96, 1, 1, tmp_path / "cache", drafts=3)
    path = prepare(guessing, place)[1]
    drafts, file = drafter(guessing, place, EngineKind.LLAMA)
    assert drafts == 3
    assert file is not None
    made = file.stat().st_ctime_ns
    assert prepare(guessing, place)[1] == path
    assert drafter(guessing, place, EngineKind.LLAMA) == (3, file)
    assert file.stat().st_ctime_ns == made
    assert drafter(guessing, place, EngineKind.OWN) == (3, None)
    assert drafter(guessing, replace(place, drafts=0), EngineKind.LLAMA) == (0, None)
    other = Version("talker", "1", talkers["1"])
    assert drafter(other, replace(place, drafter=path), EngineKind.LLAMA) == (3, path)
    assert not _said(caplog)
    for kind, reason in ((EngineKind.LLAMA, "--drafter"), (EngineKind.OWN, "no layer"), (EngineKind.VLLM, "vLLM")):
        assert drafter(other, place, kind) == (0, None)
        assert reason in _said(caplog)[-1]


def test_models_swap_without_a_dropped_request(talkers: dict[str, Path], tmp_path: Path) -> None:
    shelf = Shelf(talkers)
    others = _supervisors()  # of servers that tests of this process share
    with live(shelf, tmp_path) as server:
        seen: list[tuple[int, str, str]] = []
        stop = threading.Event()

        def keep_asking() -> None:
            with server.client() as client:
                while not stop.is_set():
                    answer = client.post("/v1/chat/completions", json=ASK)
                    found = answer.json()
                    seen.append((answer.status_code, found["model"], found["choices"][0]["message"]["content"]))

        askers = [threading.Thread(target=keep_asking) for _ in range(3)]
        for asker in askers:
            asker.start()
        for wanted in ("2", "1", "2"):
            shelf.wanted = wanted
            until(lambda wanted=wanted: version(server) == wanted)
            count = len(seen) + 5
            until(lambda count=count: len(seen) > count)
        stop.set()
        for asker in askers:
            asker.join()
        assert {status for status, _, _ in seen} == {200}
        assert {content for _, _, content in seen} == {ANSWER}
        assert {label for _, label, _ in seen} == {"talker/1", "talker/2"}
        until(lambda: len(_supervisors() - others) == 1)


def test_what_goes_wrong_changes_nothing(talkers: dict[str, Path], tmp_path: Path) -> None:
    broken = save_talker(tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"\0" * 64)
    foreign = save_talker(tmp_path / "foreign")
    text = (foreign / "tokenizer.json").read_text()
    (foreign / "tokenizer.json").write_text(text.replace('"vocab":{', '"vocab":{"toomany":5000,', 1))
    shelf = Shelf(talkers | {"7": broken, "8": foreign})
    with live(shelf, tmp_path / "cache") as server, server.client() as client:
        for wanted, told in ((None, "names no version any more"), ("7", "not readable"), ("9", "not in the registry")):
            shelf.wanted = wanted
            until(lambda told=told: told in trouble(server))
            assert client.post("/v1/chat/completions", json=ASK).json()["model"] == "talker/1"
        shelf.wanted = "2"
        until(lambda: version(server) == "2")
        assert trouble(server) == "None"
        assert shelf.fetched.count("7") == 1  # not tried again and again


@pytest.mark.parametrize("damage", ["weights", "vocabulary", "config", "tokenizer"])
def test_a_damaged_model_is_not_served(tmp_path: Path, damage: str) -> None:
    folder = save_talker(tmp_path)
    file = {"weights": "model.safetensors", "config": "config.json"}.get(damage, "tokenizer.json")
    if damage == "vocabulary":
        text = (folder / "config.json").read_text()
        config = text.replace('"vocab_size": 3', '"vocab_size": 2')
        assert config != text
        (folder / "config.json").write_text(config)
    else:
        (folder / file).write_text("{")
    with pytest.raises(UserError) as told, live(Shelf({"1": folder}), tmp_path / "cache"):
        pass
    assert file in str(told.value)
    assert "\n" not in str(told.value)


def test_a_damaged_cache_is_made_again(talkers: dict[str, Path], tmp_path: Path) -> None:
    for damage in (None, b"GGUF" + b"\0" * 100):
        (found,) = list(tmp_path.rglob("*.gguf")) or [None]
        if found is not None and damage is not None:
            found.write_bytes(damage)
        with live(Shelf(talkers), tmp_path) as server, server.client() as client:
            assert client.post("/v1/chat/completions", json=ASK).status_code == 200


def test_a_dead_engine_is_started_again(talkers: dict[str, Path], tmp_path: Path) -> None:
    with live(Shelf(talkers), tmp_path) as server, server.client() as client:
        served = server.manager.served
        assert served is not None
        supervisor = psutil.Process(served.engine._process.pid)
        (child,) = supervisor.children(recursive=True)
        os.kill(child.pid, signal.SIGKILL)
        until(lambda: not served.engine.alive)
        assert client.post("/v1/chat/completions", json=ASK).status_code == 200
        assert "deepmill_engine_restarts_total 1.0" in client.get("/metrics").text


def test_a_stream_ends_on_the_version_that_it_began_on(talkers: dict[str, Path], tmp_path: Path) -> None:
    shelf = Shelf(talkers)
    with live(shelf, tmp_path) as server, server.client() as client, ThreadPoolExecutor(1) as pool:
        with frozen_engine():
            stream = pool.submit(client.post, "/v1/chat/completions", json=ASK | {"stream": True})
            until(lambda: server.manager.served is not None and server.manager.served.requests == 1)
            shelf.wanted = "2"
            until(lambda: version(server) == "2")
            with server.client() as another:
                assert another.post("/v1/chat/completions", json=ASK).json()["model"] == "talker/2"
        told = stream.result(60).text
        assert told.rstrip().endswith("data: [DONE]")
        assert "talker/1" in told
        assert "talker/2" not in told


def test_an_engine_killed_in_a_stream_is_told_in_the_stream(talkers: dict[str, Path], tmp_path: Path) -> None:
    wild = ASK | {"temperature": 2.0, "max_tokens": 80, "stream": True}
    with live(Shelf(talkers), tmp_path, engine=EngineKind.OWN) as server, server.client() as client:
        for _ in range(30):
            served = server.manager.served
            assert served is not None
            with client.stream("POST", "/v1/chat/completions", json=wild) as streamed:
                lines = streamed.iter_lines()
                events = [next(lines)]
                (child,) = psutil.Process(served.engine._process.pid).children(recursive=True)
                child.kill()
                events += [line for line in lines if line]
            if events[-1] != "data: [DONE]":  # else it was written before
                break
            until(lambda served=served: server.manager.served is not served)
        assert json.loads(events[-1].removeprefix("data: "))["error"]["code"] == "engine_error"
        assert client.post("/v1/chat/completions", json=ASK).status_code == 200
        assert client.get("/health").json()["requests"]["running"] == 0
