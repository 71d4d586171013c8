"""Nobody gets in: not a page elsewhere, not a name rebound to this machine, not another user of it.

The servers are those that somebody alone starts, with no login set. The browser is one whose owner has logged in, so
that what keeps a page out is not that it lacks a cookie.
"""

from __future__ import annotations

import contextlib
import http.client
import http.server
import json
import os
import stat
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from infra.services import read_state
from tests.flows.operations.running import House

pytestmark = [pytest.mark.drill, pytest.mark.timeout(1800)]
NOBODY = 65534
READS = {
    "prefect": "/api/admin/version",
    "mlflow": "/api/2.0/mlflow/experiments/search?max_results=1",
    "pages": "/",
}
"""What each server tells nobody without the login."""
WRITES = {
    "prefect": ("/api/deployments/filter", {}),
    "mlflow": ("/api/2.0/mlflow/experiments/create", {"name": "forged"}),
}


def address(at: House, name: str) -> str:
    return str(getattr(at, name))


def answer(url: str, body: bytes | None = None, method: str = "", **headers: str) -> tuple[int, dict[str, str]]:
    """Status and headers of the answer, nothing added to what is sent; header names with underscores."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=60)
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    path = f"{parts.path}?{parts.query}"
    connection.request(method or ("POST" if body is not None else "GET"), path, body, given)
    response = connection.getresponse()
    response.read()
    connection.close()
    return response.status, dict(response.getheaders())


@pytest.mark.parametrize("name", READS)
def test_nobody_without_the_login(alone: House, name: str) -> None:
    url = f"{address(alone, name)}{READS[name]}"
    assert answer(url)[0] == 401
    assert answer(url, Authorization="Basic ZGVlcG1pbGw6Z3Vlc3NlZA==")[0] == 401
    assert answer(url, **alone.login())[0] == 200


@pytest.mark.parametrize("name", READS)
@pytest.mark.parametrize("path", ["known", "/health", "/api/health"])
def test_a_foreign_host(alone: House, name: str, path: str) -> None:
    url = f"{address(alone, name)}{READS[name] if path == 'known' else path}"
    for host in ("rebound.example", f"rebound.example:{address(alone, name).rpartition(':')[2]}", "10.9.8.7"):
        assert answer(url, Host=host, **alone.login())[0] == 403


@pytest.mark.parametrize("name", READS)
@pytest.mark.parametrize("origin", ["http://foreign.example", "http://127.0.0.1:9", "http://localhost:9", "null"])
def test_a_foreign_origin(alone: House, name: str, origin: str) -> None:
    """Neither asked beforehand nor outright, and with the login no more than without."""
    url = f"{address(alone, name)}{READS[name]}"
    asks = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": "content-type"}
    for status, headers in (
        answer(url, method="OPTIONS", Origin=origin, **asks),
        answer(url, Origin=origin, **alone.login()),
        answer(url, b"{}", Origin=origin, Content_Type="application/json", **alone.login()),
    ):
        assert status == 403
        assert not [name for name in headers if name.lower().startswith("access-control-allow")]


@pytest.mark.parametrize("name", WRITES)
def test_a_body_has_to_say_what_it_is(alone: House, name: str) -> None:
    path, body = WRITES[name]
    url, data = f"{address(alone, name)}{path}", json.dumps(body).encode()
    assert answer(url, data)[0] in (401, 415)
    assert answer(url, data, **alone.login())[0] == 415


def test_commands_find_the_login(alone: House) -> None:
    """Prefect's, MLflow's: with no setting at all."""
    printed = alone.deepmill("doctor")
    assert f"{alone.mlflow} answers" in printed
    assert "✗" not in printed


def test_a_forged_request_with_the_login_lacks_the_token(alone: House) -> None:
    url = f"{alone.prefect}/api/deployments/filter"
    assert answer(url, b"{}", Content_Type="application/json", **alone.login())[0] == 403
    assert alone.ask("/deployments/filter", {})


@pytest.mark.parametrize(
    "variable", [{"command": "touch forged"}, {"env": {"A": "b"}}, {"env.A": "b"}, {"working_dir": "/"}]
)
def test_whoever_starts_a_run_says_nothing_of_its_process(alone: House, variable: dict[str, Any]) -> None:
    heartbeat = alone.deployment("heartbeat/hourly")["id"]
    with pytest.raises(urllib.error.HTTPError) as refused:
        alone.ask(f"/deployments/{heartbeat}/create_flow_run", {"job_variables": variable})
    assert refused.value.code == 422
    pool = alone.ask("/work_pools/default")["base_job_template"]
    assert not {"command", "env", "working_dir"} & set(pool["variables"]["properties"])


def test_what_servers_keep_is_for_their_owner_alone(alone: House) -> None:
    store = alone.root / "store"
    found = [store / ".services", *(store / ".services").rglob("*"), *store.glob("mlflow.db*")]
    assert {path.name for path in found} >= {"login", "state.json", "prefect.db", "prefect.log", "mlflow.db"}
    assert not [path for path in found if path.stat().st_mode & 0o077]


def as_nobody(work: Callable[[], list[str]]) -> list[str]:
    """What `work` returns in a process of another user."""
    if os.geteuid():
        pytest.skip("only root can become another user")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            told = work()
        except BaseException as error:
            told = [f"the drill itself failed: {error!r}"]
        with os.fdopen(writing, "w") as pipe:
            json.dump(told, pipe)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        told = json.load(pipe)
    os.waitpid(child, 0)
    return list(told)


def test_another_user_of_the_machine(alone: House) -> None:
    """Reads no file of the servers and gets nothing from them; that it can get to the store is checked, too."""
    services = alone.root / "store" / ".services"
    files = [path for path in (*services.rglob("*"), *(alone.root / "store").glob("mlflow.db*")) if path.is_file()]
    assert len(files) > 5

    def work() -> list[str]:
        found = [] if (alone.root / "store").is_dir() and (alone.root / "tiny.yaml").read_bytes() else ["no store seen"]
        for path in files:
            with contextlib.suppress(PermissionError):
                found.append(f"{path} is read: {len(path.read_bytes())} bytes")
        with contextlib.suppress(PermissionError):
            found += [f"{path} is listed" for path in services.iterdir()]
        found += ["their state is seen"] if read_state(services) is not None else []
        for name, path in READS.items():
            status = answer(f"{address(alone, name)}{path}")[0]
            found += [f"{name} answers {status}"] if status != 401 else []
        for name, (path, body) in WRITES.items():
            url = f"{address(alone, name)}{path}"
            status = answer(url, json.dumps(body).encode(), Content_Type="application/json")[0]
            found += [f"{name} takes a POST: {status}"] if status != 401 else []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if process.stat().st_uid != NOBODY and b"PREFECT_API_AUTH_STRING" in (process / "environ").read_bytes():
                    found.append(f"the environment of {process} is read")
        return found

    assert as_nobody(work) == []


@pytest.fixture(scope="module")
def site() -> Iterator[int]:
    """A web server of somebody else; the port that it listens on."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>elsewhere</title><p>elsewhere")

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.fixture(scope="module")
def logged_in(alone: House, browser: Any) -> Iterator[Any]:
    """A browser whose owner has logged in to every server."""
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(120_000)
    for link in alone.links().values():
        page.goto(link)
        assert "token" not in page.url
    page.close()
    yield context
    context.close()


ATTEMPT = """async ([prefect, mlflow, deployment]) => {
    const told = {};
    const attempt = async (name, address, options) => {
        try {
            const answer = await fetch(address, {credentials: 'include', ...options});
            told[name] = answer.type === 'opaque' ? 'opaque' : answer.status;
        } catch (error) { told[name] = 'refused'; }
    };
    const run = `${prefect}/api/deployments/${deployment}/create_flow_run`;
    const body = JSON.stringify({name: 'forged', job_variables: {command: 'touch forged'}});
    const json = {'Content-Type': 'application/json'};
    await attempt('read', `${prefect}/api/admin/version`, {});
    await attempt('read mlflow', `${mlflow}/ajax-api/2.0/mlflow/experiments/search?max_results=1`, {});
    await attempt('json', run, {method: 'POST', headers: json, body});
    await attempt('text', run, {method: 'POST', mode: 'no-cors', body});
    await attempt('typeless', run, {method: 'POST', mode: 'no-cors', body: new Blob([body])});
    const experiment = JSON.stringify({name: 'forged'});
    const create = `${mlflow}/api/2.0/mlflow/experiments/create`;
    await attempt('json mlflow', create, {method: 'POST', headers: json, body: experiment});
    await attempt('text mlflow', create, {method: 'POST', mode: 'no-cors', body: experiment});
    told.socket = await new Promise(done => {
        const socket = new WebSocket(prefect.replace('http', 'ws') + '/api/events/in', ['prefect']);
        socket.onopen = () => done('open');
        socket.onerror = () => done('refused');
    });
    told.frame = await new Promise(done => {
        const frame = document.createElement('iframe');
        frame.onload = () => { try { done(frame.contentDocument.title); } catch (error) { done('hidden'); } };
        frame.src = `${prefect}/`;
        document.body.append(frame);
    });
    const form = Object.assign(document.createElement('form'), {method: 'post', action: run, enctype: 'text/plain'});
    form.append(Object.assign(document.createElement('input'), {name: body.slice(0, -1) + ', "x": "', value: '"}'}));
    document.body.append(form);
    setTimeout(() => form.submit());
    return told;
}"""


def forged(at: House) -> list[Any]:
    runs = at.ask("/flow_runs/filter", {"flow_runs": {"name": {"any_": ["forged"]}}})
    with urllib.request.urlopen(
        urllib.request.Request(f"{at.mlflow}/api/2.0/mlflow/experiments/search?max_results=100", headers=at.login()),
        timeout=60,
    ) as response:
        experiments = [item for item in json.load(response)["experiments"] if item["name"] == "forged"]
    return [*runs, *experiments]


@pytest.mark.parametrize("host", ["foreign.example", "127.0.0.1", "localhost"])
def test_a_page_elsewhere(alone: House, logged_in: Any, site: int, host: str) -> None:
    """On another machine, and on another port of this one, where the browser sends the cookie along."""
    page = logged_in.new_page()
    page.goto(f"http://{host}:{site}/")
    deployment = alone.deployment("heartbeat/hourly")["id"]
    with page.expect_navigation():  # the form, at the end
        told = page.evaluate(ATTEMPT, [alone.prefect, alone.mlflow, deployment])
    assert {name: told[name] for name in ("read", "read mlflow", "json", "json mlflow", "socket")} == {
        "read": "refused",
        "read mlflow": "refused",
        "json": "refused",
        "json mlflow": "refused",
        "socket": "refused",
    }
    assert told["frame"] != "Prefect Server"
    assert "not" not in page.title()
    assert forged(alone) == []
    page.close()


def test_a_rebound_name(alone: House, logged_in: Any) -> None:
    """A page whose name is pointed at this machine while it is open is of the servers' own origin to the browser."""
    page = logged_in.new_page()
    deployment = alone.deployment("heartbeat/hourly")["id"]
    prefect, mlflow, pages = (
        address(alone, name).replace("127.0.0.1", "rebound.example") for name in ("prefect", "mlflow", "pages")
    )
    for url in (prefect, mlflow, pages):
        answered = page.goto(url)
        assert answered.status == 403
        read = "async path => (await fetch(path)).status"
        for path in READS.values():
            assert page.evaluate(read, path) == 403
        write = """async path => (await fetch(path, {
            method: 'POST', headers: {'Content-Type': 'application/json'}, body: '{}'
        })).status"""
        assert page.evaluate(write, f"/api/deployments/{deployment}/create_flow_run") == 403
    assert forged(alone) == []
    page.close()


def test_a_link_logs_in_and_the_page_works(alone: House, logged_in: Any) -> None:
    """No password is asked for, and none is where a script could read it."""
    page = logged_in.new_page()
    page.set_default_timeout(240_000)
    page.goto(f"{alone.prefect}/deployments")
    page.get_by_text("heartbeat").first.wait_for()
    assert page.evaluate("localStorage.getItem('prefect-password')") is None
    assert "deepmill-" not in page.evaluate("document.cookie")
    (cookie,) = [each for each in logged_in.cookies() if each["name"].startswith("deepmill-")]
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Lax")
    started = page.evaluate("""async () => {
        const token = await (await fetch('/api/csrf-token?client=page')).json();
        const headers = {'Content-Type': 'application/json'};
        Object.assign(headers, {'Prefect-Csrf-Client': 'page', 'Prefect-Csrf-Token': token.token});
        return (await fetch('/api/deployments/filter', {method: 'POST', headers, body: '{}'})).status;
    }""")
    assert started == 200
    page.goto(alone.pages)
    assert page.get_by_text("Prefect").count() >= 1
    page.close()


def test_a_stranger_s_browser_is_asked(alone: House, stranger: Any) -> None:
    stranger.goto(f"{alone.prefect}/deployments")
    stranger.locator("input[type=password]").wait_for()
    assert stranger.goto(f"{alone.prefect}/?token=guessed").status == 401
    assert stranger.request.get(f"{alone.mlflow}/").status == 401
    assert stranger.request.get(f"{alone.pages}/").status == 401


def test_the_login_is_in_no_log_and_no_command(alone: House) -> None:
    import psutil

    password = (alone.root / "store" / ".services" / "login").read_text().strip().partition(":")[2]
    assert not [item for item in psutil.process_iter(["cmdline"]) if password in " ".join(item.info["cmdline"] or [])]
    token = alone.links()["Prefect"].partition("token=")[2]
    for path in (alone.root / "store").rglob("*"):
        if stat.S_ISREG(path.lstat().st_mode) and path.name != "login":
            text = path.read_bytes()
            assert password.encode() not in text, path
            assert token.encode() not in text, path
