"""Notifications reach a real web server and a real mail server, and one that is away costs nothing but a line."""

from __future__ import annotations

import base64
import json
import logging
import os
import socketserver
import threading
from collections.abc import Iterator
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import uuid4

import pytest

from flows.run.notifications import Topic, notify
from infra.events import Stuck


@pytest.fixture
def posted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """What a webhook got."""
    got: list[dict[str, Any]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))) | {"path": self.path})
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Hook) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("DEEPMILL_NOTIFY_WEBHOOK", f"http://127.0.0.1:{server.server_address[1]}/hook?key=secret")
        yield got
        server.shutdown()


@pytest.fixture
def mailed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[EmailMessage]]:
    """What a mail server got: RFC 5321, as much of it as smtplib speaks."""
    got: list[EmailMessage] = []

    class Mail(socketserver.StreamRequestHandler):
        def say(self, line: str) -> None:
            self.wfile.write(f"{line}\r\n".encode())

        def handle(self) -> None:
            self.say("220 here")
            while line := self.rfile.readline().decode().strip():
                verb = line.split()[0].upper()
                if verb == "DATA":
                    self.say("354 go on")
                    lines = []
                    while (part := self.rfile.readline()) != b".\r\n":
                        lines.append(part)
                    got.append(message_from_bytes(b"".join(lines), EmailMessage, policy=SMTP))
                self.say("221 bye" if verb == "QUIT" else "250 fine")
                if verb == "QUIT":
                    return

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Mail) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("DEEPMILL_NOTIFY_EMAIL", "ops@example.org, team@example.org")
        monkeypatch.setenv("DEEPMILL_SMTP", f"smtp://127.0.0.1:{server.server_address[1]}")
        yield got
        server.shutdown()


def test_both_channels_get_it(posted: list[dict[str, Any]], mailed: list[EmailMessage]) -> None:
    assert notify(Topic.PROMOTED, "tiny version 2 is champion – über", {"model": "tiny", "version": "2"}) == 2
    (hook,), (mail,) = posted, mailed
    assert hook["text"] == "tiny version 2 is champion – über"
    assert (hook["topic"], hook["model"], hook["version"]) == ("promoted", "tiny", "2")
    assert hook["path"] == "/hook?key=secret"
    assert mail["To"] == "ops@example.org, team@example.org"
    assert "version: 2" in mail.get_content()


def test_a_line_in_a_subject_stays_one_line(mailed: list[EmailMessage]) -> None:
    assert notify(Topic.FAILED, "first\nBcc: everybody@example.org", {}) == 1
    assert mailed[0]["Bcc"] is None


def test_channels_that_are_away_cost_a_line_that_tells_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPMILL_NOTIFY_WEBHOOK", "http://127.0.0.1:9/hook?key=secret")
    monkeypatch.setenv("DEEPMILL_NOTIFY_EMAIL", "ops@example.org")
    monkeypatch.setenv("DEEPMILL_SMTP", "smtp://user:secret@127.0.0.1:9")
    told: list[str] = []
    assert notify(Topic.FAILED, "broken", {}, told.append) == 0
    assert [line.split()[1] for line in told] == ["webhook", "mail"]
    assert "secret" not in "".join(told)


def test_without_settings_nobody_is_told() -> None:
    assert notify(Topic.STUCK, "nothing", {}) == 0


def test_a_password_never_goes_in_the_clear(monkeypatch: pytest.MonkeyPatch, mailed: list[EmailMessage]) -> None:
    """The server offers no STARTTLS, so the login is not tried on it."""
    monkeypatch.setenv("DEEPMILL_SMTP", os.environ["DEEPMILL_SMTP"].replace("smtp://", "smtp://user:secret@"))
    told: list[str] = []
    assert notify(Topic.FAILED, "broken", {}, told.append) == 0
    assert not mailed
    assert base64.b64encode(b"secret").decode() not in "".join(told)


def test_a_stuck_stage_and_a_failed_run_are_told(posted: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """What the flows send: the listener of a stage, and the flow that Prefect's automation starts."""
    from prefect.logging import disable_run_logger

    from flows import mill
    from flows.operations import flows as upkeep

    class Run:
        parent_task_run_id = None

    class Client:
        def __enter__(self) -> Client:
            return self

        def __exit__(self, *told: object) -> None:
            pass

        def read_flow_run(self, run: object) -> Run:
            return Run()

    monkeypatch.setattr(upkeep, "get_client", lambda sync_client: Client())
    monkeypatch.setenv("PREFECT_UI_URL", "http://127.0.0.1:4200")
    run = str(uuid4())
    with disable_run_logger():
        upkeep.tell_failure.fn("brave-otter", run, "Failed", "pretrain: loss is not a number")
        Run.parent_task_run_id = uuid4()  # type: ignore[assignment]
        upkeep.tell_failure.fn("its-part", str(uuid4()), "Failed", "the same")
        monkeypatch.setattr(mill, "get_run_logger", lambda: logging.getLogger("quiet"))
        monkeypatch.setattr(mill, "active_session", lambda: type("Session", (), {"run_id": "20260101-a"}))
        mill._PrefectListener("pretrain")(Stuck(minutes=31.0))
    failed, stuck = posted
    assert failed["text"] == "brave-otter: Failed: pretrain: loss is not a number"
    assert failed["address"] == f"http://127.0.0.1:4200/runs/flow-run/{run}"
    assert stuck["text"] == "pretrain has reported no progress for 31 minutes"
    assert (stuck["topic"], stuck["run"], stuck["stage"]) == ("stuck", "20260101-a", "pretrain")
