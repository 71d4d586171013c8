"""`deepmill serve` as a user runs it: a registered model, an alias that moves, an end that leaves nothing behind."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import psutil
import pytest

from flows.cli import app
from flows.commands.serve import _log_to_terminal
from flows.registry.aliases import IDENTITY
from flows.registry.facts import FACTS
from flows.serving.keys import own_key
from infra.errors import UserError
from infra.processes import free_ports
from infra.settings import Settings, quiet_network
from infra.tracking import Tracker
from model.release.serving_spec import log_pyfunc
from tests import wheel
from tests.flows.prepared import prepare_mlflow
from tests.model.serving.talker import ANSWER, QUESTION, THOUGHT


def wait_for_address(server: subprocess.Popen[bytes], log: Path) -> str:
    """Where the server says in its log that it is."""
    deadline = time.monotonic() + 120
    while "http://" not in log.read_text():
        assert server.poll() is None, log.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return next(word for word in log.read_text().split() if word.startswith("http://"))


@pytest.fixture(scope="module")
def environment(talkers: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A registry with two versions of the talker, the first of them champion."""
    root = tmp_path_factory.mktemp("store")
    prepare_mlflow(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEEPMILL_ROOT", str(root))
        quiet_network()
        import mlflow

        tracker = Tracker(Settings())
        run = tracker.start("talkers", {})
        with mlflow.start_run(run_id=run.run_id):
            for number, folder in talkers.items():
                info = log_pyfunc(f"talker{number}", folder)
                if number == "1":
                    tracker.client.create_registered_model("talker")
                facts = {"accuracy": 1.0, "accuracy_low": 0.9, "accuracy_high": 1.0, "format_rate": 1.0}
                facts |= {"quantization_kl": 0.0}
                tags = {IDENTITY: f"artifact{number}", FACTS: json.dumps(facts)}
                tracker.client.create_model_version("talker", info.model_uri, model_id=info.model_id, tags=tags)
        tracker.client.set_registered_model_alias("talker", "champion", "1")
        yield dict(os.environ) | {"OMP_NUM_THREADS": "1"}


@pytest.mark.timeout(300)
def test_a_registered_model_is_served_and_followed(environment: dict[str, str], tmp_path: Path) -> None:
    """By the wheel, away from the checkout: the files of the page are in it."""
    from infra.tracking import registry_client

    site, log = wheel.unpacked(), tmp_path / "log"
    command = [sys.executable, "-c", "from flows.cli import main; main()", "serve", "talker@champion", "--port", "0"]
    command += ["--poll-seconds", "0.2", "--threads", "1", "--context", "128"]
    variables = environment | {"PYTHONPATH": str(site), "PYTHONSAFEPATH": "1"}
    with log.open("w") as handle:
        server = subprocess.Popen(command, env=variables, cwd=tmp_path, stdout=handle, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 120
        url = wait_for_address(server, log)
        for path, words in (("/", "<html"), ("/chat/api.js", "fetch("), ("/chat/chat.css", "{")):
            answer = httpx.get(f"{url}{path}")
            assert answer.status_code == 200
            assert words in answer.text
        key_file = Path(environment["DEEPMILL_ROOT"]) / "serving" / "api-key"
        key = key_file.read_text().strip()
        assert key_file.stat().st_mode & 0o777 == 0o600
        assert f"{url}/#key={key}" in log.read_text()
        with pytest.raises(openai.AuthenticationError):
            openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0).models.list()
        client = openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)
        ask = {"model": "talker", "messages": [{"role": "user", "content": QUESTION}], "temperature": 0}
        assert client.chat.completions.create(**ask | {"model": "talker@champion"}).model == "talker/1"
        for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Origin": "null"}):
            assert httpx.get(f"{url}/health", headers=headers, trust_env=False).status_code == 403
        found = client.chat.completions.create(**ask)
        assert (found.model, found.choices[0].message.content) == ("talker/1", ANSWER)
        registry = registry_client(Settings())
        registry.set_registered_model_alias("talker", "champion", "2")
        while (found := client.chat.completions.create(**ask)).model == "talker/1":
            assert time.monotonic() < deadline
        assert found.choices[0].message.model_extra["reasoning_content"] == THOUGHT
        registry.delete_registered_model_alias("talker", "champion")
        while not (health := httpx.get(f"{url}/health", trust_env=False).json())["trouble"]:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert (health["status"], health["version"]) == ("ok", "2")
        assert client.chat.completions.create(**ask).choices[0].message.content == ANSWER
        children = psutil.Process(server.pid).children(recursive=True)
        server.send_signal(signal.SIGTERM)
        server.wait(90)
        assert not psutil.wait_procs(children, timeout=90)[1]
    finally:
        server.kill()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("../../no/such/model",), "write the model as NAME@ALIAS"),
        (("nobody@champion",), "nobody@champion: not in the registry; see deepmill models"),
        (("talker/77",), "not in the registry"),
        (("talker@champion", "--engine", "warp"), "there are auto"),
        (("talker@champion", "--host", "0.0.0.0"), "set DEEPMILL_API_KEYS"),
        (("pyproject.toml",), "no folder of a model"),
    ],
)
def test_what_cannot_be_served_is_one_line(environment: dict[str, str], arguments: tuple[str, ...], told: str) -> None:
    with pytest.raises(UserError, match=told) as error:
        app(["serve", *arguments, "--port", "0"], standalone_mode=False)
    assert "\n" not in str(error.value)


def test_the_terminal_shows_what_went_wrong(capsys: pytest.CaptureFixture[str], log: logging.Logger) -> None:
    _log_to_terminal()
    try:
        raise KeyError("[red]odd[/]")
    except KeyError:
        log.exception("request %s", "req-7")
    told = capsys.readouterr().err
    assert "request req-7" in told
    assert "Traceback" in told
    assert "KeyError: '[red]odd[/]'" in told


def test_the_made_key_is_its_owners_alone(tmp_path: Path) -> None:
    file = tmp_path / "serving" / "api-key"
    key = own_key(file)
    assert (own_key(file), file.stat().st_mode & 0o777) == (key, 0o600)
    assert len(key) >= 32
    file.chmod(0o644)
    other = own_key(file)
    assert (other != key, file.stat().st_mode & 0o777) == (True, 0o600)
    file.unlink()
    (tmp_path / "elsewhere").write_text("known\n")
    file.symlink_to(tmp_path / "elsewhere")
    assert own_key(file) != "known"
    assert (tmp_path / "elsewhere").read_text() == "known\n"


@pytest.mark.drill
def test_mlflow_serves_it_too(environment: dict[str, str], tmp_path: Path) -> None:
    from infra.tracking import registry_client

    registry_client(Settings())
    (port,) = free_ports()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", "models:/talker/1", "--env-manager", "local"]
    settings = Settings()
    uvicorn = tmp_path / "uvicorn"  # which MLflow calls by this name
    uvicorn.write_text(f'#!/bin/sh\nexec {sys.executable} -m uvicorn "$@"\n')
    uvicorn.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    with (tmp_path / "log").open("w") as handle:
        server = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            env=environment | {"MLFLOW_TRACKING_URI": settings.mlflow_uri, "PATH": path},
            stdout=handle,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + 150
        while True:
            assert server.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            try:
                if httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False).status_code == 200:
                    break
            except httpx.HTTPError:
                time.sleep(0.5)
        body = {"dataframe_records": [{"question": QUESTION}], "params": {"max_new_tokens": 60}}
        answer = httpx.post(f"http://127.0.0.1:{port}/invocations", json=body, timeout=120, trust_env=False).json()
        assert answer["predictions"][0] == {
            "reasoning": THOUGHT,
            "answer": ANSWER,
            "text": f"<think>{THOUGHT}</think>{ANSWER}",
        }
    finally:
        for process in psutil.Process().children(recursive=True):
            if str(port) in process.cmdline():
                process.kill()
        server.wait(90)
