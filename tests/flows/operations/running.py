"""`deepmill up` in a folder of its own, on free ports, for tests."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from infra.processes import free_ports
from tests.flows.tiny import environment

LOGIN = "team:not-a-secret-in-a-test"
VOCABULARY = 410
"""Not what the recipe says, with which everything is there: the form is given it."""


@dataclass
class House:
    """Servers that are up, and what it takes to talk to them."""

    root: Path
    environment: dict[str, str]
    prefect: str
    mlflow: str
    pages: str

    def deepmill(self, *arguments: str, status: int = 0, seconds: float = 400) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "flows.cli", *arguments],
            env=self.environment,
            cwd=self.root,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            timeout=seconds,
            check=False,
        )
        assert done.returncode == status, done.stdout
        return done.stdout

    def ask(self, path: str, body: Any = None, *, method: str = "") -> Any:
        """Prefect's API: a POST where there is a body, else a GET."""
        method = method or ("GET" if body is None else "POST")
        request = urllib.request.Request(
            f"{self.prefect}/api{path}",
            None if body is None else json.dumps(body).encode(),
            {"Content-Type": "application/json"} | self.login() | ({} if method == "GET" else self._token()),
            method=method,
        )
        for patience in (60, 60, 60, 60, 120):
            try:
                with urllib.request.urlopen(request, timeout=patience) as response:
                    text = response.read()
                    return json.loads(text) if text else None
            except TimeoutError:
                if body is not None and not path.endswith("/filter"):
                    raise  # it may have been done
            except urllib.error.HTTPError as error:
                if error.code != 503:  # SQLite was busy; nothing was done, as Prefect's own client knows
                    raise
        raise TimeoutError(path)

    def login(self) -> dict[str, str]:
        """The header of whoever has the login: the one that was set, or the one that `up` made."""
        made = self.root / "store" / ".services" / "login"
        login = self.environment.get("DEEPMILL_LOGIN") or made.read_text().strip()
        return {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}

    def _token(self) -> dict[str, str]:
        """What Prefect wants against forged requests, as its own clients do it."""
        client = uuid.uuid4().hex
        token = json.loads(self.read(f"{self.prefect}/api/csrf-token?client={client}"))["token"]
        return {"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": client}

    def links(self) -> dict[str, str]:
        """Addresses that log a browser in, by the name of the server."""
        return dict(re.findall(r"^(Prefect|MLflow|Overview) +(http\S+)", self.deepmill("login"), re.MULTILINE))

    def read(self, address: str) -> str:
        """A page of those that ask for the login."""
        with urllib.request.urlopen(urllib.request.Request(address, headers=self.login()), timeout=60) as response:
            return str(response.read().decode())

    def recipe(self, **sections: Any) -> dict[str, Any]:
        """The recipe that the form starts with, whose artifacts were lent, with other keys in sections of it."""
        recipe: dict[str, Any] = self.deployment("mill/tiny")["parameters"]["recipe"]
        for section, keys in sections.items():
            recipe[section] = recipe[section] | keys
        return recipe

    def deployment(self, name: str) -> dict[str, Any]:
        return dict(self.ask(f"/deployments/name/{name}"))

    def start(self, name: str, **parameters: Any) -> str:
        """Start a run of a deployment, as the form does; its identifier."""
        body = {"state": {"type": "SCHEDULED"}, "parameters": parameters}
        return str(self.ask(f"/deployments/{self.deployment(name)['id']}/create_flow_run", body)["id"])

    def start_training(self) -> str:
        """Start a run that will not be over by itself, and wait until it trains."""
        begun = time.time()
        run = self.start("mill/tiny", recipe=self.recipe(pretrain={"steps": 100_000}))
        self.wait_for_stage("pretrain", begun)
        return run

    def wait_for_stage(self, name: str, begun: float) -> None:
        """Until the stage (or any: ``*``) has said something since `begun`; others may have left their events."""
        staging = self.root / "store" / ".staging"
        until(
            lambda: any(path.stat().st_mtime > begun for path in staging.glob(f"{name}/*/events*") if path.exists()),
            600,
            self.worker_log,
        )

    def state(self, run: str) -> dict[str, Any]:
        return dict(self.ask(f"/flow_runs/{run}")["state"])

    def wait(self, run: str, *types: str, seconds: float = 900) -> dict[str, Any]:
        """Until the run is in one of the states; the state."""
        until(lambda: self.state(run)["type"] in types, seconds, lambda: f"{self.state(run)}\n{self.worker_log()}")
        return self.state(run)

    def worker_log(self) -> str:
        text = (self.root / "store" / ".services" / "logs" / "worker-default.log").read_text(errors="replace")
        return "\n".join(text.splitlines()[-25:])

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(path.read_bytes()) for path in sorted((self.root / "store" / "runs").glob("*.json"))]

    def record(self, run_id: str) -> dict[str, Any]:
        return dict(json.loads((self.root / "store" / "runs" / f"{run_id}.json").read_bytes()))

    def services(self) -> dict[str, Any]:
        state = json.loads((self.root / "store" / ".services" / "state.json").read_bytes())
        return dict(state["services"]) | {"keeper": {"pid": state["pid"]}}


def field(page: Any, label: str) -> Any:
    """The input of the innermost field of Prefect's form whose label begins so."""
    named = page.locator("span.schema-form-property__label", has_text=re.compile(f"^{label}"))
    return page.locator(".schema-form-property", has=named).last.locator("input, textarea").first


def belonging_to(root: Path) -> list[psutil.Process]:
    """The processes that work on the store of `root`."""
    return [process for process in psutil.process_iter() if _belongs(process, root)]


def _belongs(process: psutil.Process, root: Path) -> bool:
    try:
        return process.environ().get("DEEPMILL_ROOT") == str(root / "store")
    except psutil.Error:
        return False


def until(condition: Callable[[], object], seconds: float, why: Callable[[], str] = lambda: "") -> None:
    """Wait for it."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, why()
        time.sleep(0.25)


@contextlib.contextmanager
def house(root: Path, **settings: str) -> Iterator[House]:
    """Bring the servers of `root`'s store up; they are down again after the block."""
    prefect, mlflow, pages = free_ports(3)
    variables = environment(root) | {
        "DEEPMILL_PREFECT_PORT": str(prefect),
        "DEEPMILL_MLFLOW_PORT": str(mlflow),
        "DEEPMILL_PAGES_PORT": str(pages),
        "DEEPMILL_RECIPES": "tiny.yaml",
        **settings,
    }
    for name in ("PREFECT_API_URL", "DEEPMILL_TRACKING_URI"):
        variables.pop(name, None)
    at = House(
        root, variables, f"http://127.0.0.1:{prefect}", f"http://127.0.0.1:{mlflow}", f"http://127.0.0.1:{pages}"
    )
    at.deepmill("up")
    try:
        yield at
    finally:
        at.deepmill("down")
