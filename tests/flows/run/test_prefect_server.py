"""The Prefect server of a single run is for that run alone: its login is in no other process' hands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.flows.prepared import prepare_prefect
from tests.flows.tiny import environment

PROGRAM = """
import http.client, json, os, sys
from pathlib import Path
from flows.run.prefect_server import PrefectServer

def answer(method, path, body=None, **headers):
    connection = http.client.HTTPConnection(address, timeout=60)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    response.read()
    shared = [name for name in response.headers if name.lower().startswith("access-control-allow")]
    return [response.status, shared]

def as_nobody(work):
    reading, writing = os.pipe()
    if not os.fork():
        os.setuid(65534)
        os.write(writing, json.dumps(work()).encode())
        os._exit(0)
    os.close(writing)
    return json.loads(os.fdopen(reading).read())

before = dict(os.environ)
with PrefectServer() as server:
    server.wait()
    address = os.environ["PREFECT_API_URL"].removeprefix("http://").removesuffix("/api")
    path, json_type = "/api/deployments/filter", {"Content_Type": "application/json"}
    page = {"Origin": "http://foreign.example", "Access_Control_Request_Method": "POST"}
    told = {
        "healthy": answer("GET", "/api/health"),
        "rebound": answer("GET", "/api/health", Host="rebound.example"),
        "stranger": answer("POST", path, "{}", **json_type),
        "typeless": answer("POST", path, "{}"),
        "preflight": answer("OPTIONS", path, **page),
        "page": answer("POST", path, "{}", **page, **json_type),
        "schema": answer("GET", "/openapi.json"),
    }
    if os.geteuid() == 0:
        told["another user"] = as_nobody(lambda: answer("POST", path, "{}", **json_type))
    from prefect import flow

    @flow
    def add(one: int, two: int) -> int:
        return one + two

    told["flow"] = add(1, 2)
    home = Path(os.environ["PREFECT_HOME"])
    told["open"] = [each.name for each in home.glob("prefect.db*") if each.stat().st_mode & 0o077]
told["left"] = {name for name in os.environ if os.environ.get(name) != before.get(name)} & {
    "PREFECT_API_URL", "PREFECT_API_AUTH_STRING"
} != set()
print(json.dumps(told))
"""


@pytest.mark.timeout(400)
def test_it_is_for_its_run_alone(tmp_path: Path) -> None:
    variables = environment(tmp_path) | {"PREFECT_HOME": str(tmp_path / "prefect")}
    variables.pop("PREFECT_API_URL", None)
    prepare_prefect(tmp_path / "prefect")
    (tmp_path / "prefect" / "prefect.db").chmod(0o644)  # as an older version left it
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=variables, capture_output=True, text=True, timeout=380, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["healthy"] == [200, []]
    assert told["rebound"] == told["preflight"] == told["page"] == [403, []]
    assert told["stranger"] == told["schema"] == [401, []]
    assert told["typeless"][0] in (401, 415)
    assert told.get("another user", [401, []]) == [401, []]
    assert os.geteuid() or "another user" in told
    assert (told["flow"], told["open"], told["left"]) == (3, [], False)
