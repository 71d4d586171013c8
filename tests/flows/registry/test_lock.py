"""Promotions from two hosts that share nothing but the registry: one at a time, and a dead one blocks nobody."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, cast

import pytest

from flows.registry.lock import RegisteredLease
from infra.errors import UserError
from infra.settings import Settings
from infra.tracking import registry_client
from tests.flows.prepared import prepare_mlflow
from tests.flows.registry.test_release import GOOD, versions

LEASE = 6.0
"""Seconds after which a host that tells nothing counts as dead."""
HOST = """
import sys, infra.lease
infra.lease.LEASE_SECONDS, infra.lease.RENEW_SECONDS, infra.lease.POLL_SECONDS = LEASE, 0.5, 0.02
from infra.settings import Settings
Settings.has_own_registry = property(lambda self: False)
from flows.registry.lock import registry_lock
from flows.registry.release import promote_by_hand
from flows.recipe.sections import PromoteConfig
from infra.errors import UserError
from infra.tracking import registry_client
settings = Settings()
registry_client(settings)
print("ready", flush=True)
"""
PROMOTE = """
sys.stdin.readline()
for version in sys.argv[2].split(","):
    promote_by_hand(settings, sys.argv[1], version, PromoteConfig(), force=False)
"""
HOLD = """
with registry_lock(settings, sys.argv[1]) as check:
    print("held", flush=True)
    sys.stdin.readline()
    try:
        check()
        print("mine", flush=True)
    except UserError as error:
        print(error, flush=True)
"""


def host(code: str, root: Path, uri: str, *arguments: str, lease: float = LEASE) -> subprocess.Popen[str]:
    """A process that has a store of its own and shares the registry, ready to begin."""
    environment = os.environ | {"DEEPMILL_ROOT": str(root), "DEEPMILL_TRACKING_URI": uri, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", f"LEASE = {lease}\n" + HOST + code, *arguments],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def told(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    prepare_mlflow(tmp_path, "shared.db")
    monkeypatch.setenv("DEEPMILL_ROOT", str(tmp_path / "here"))
    monkeypatch.setenv("DEEPMILL_TRACKING_URI", f"sqlite:///{tmp_path / 'shared.db'}")
    return Settings()


def race(settings: Settings, name: str, folder: Path) -> None:
    """Two hosts promote four versions each at once: the history is one line, and ends where the alias stands."""
    source = "s3://models" if settings.mlflow_uri.startswith("http") else ""
    client = versions(settings, name, *(GOOD for _ in range(8)), source=source)
    both = [
        host(PROMOTE, folder / f"host{number}", settings.mlflow_uri, name, ",".join(list_of), lease=120)
        for number, list_of in enumerate((("1", "3", "5", "7"), ("2", "4", "6", "8")))
    ]
    for process in both:
        go(process)
    for process in both:
        assert process.wait(120) == 0
    tags = client.get_registered_model(name).tags
    moves = [json.loads(value) for key, value in sorted(tags.items()) if key.startswith("deepmill.audit.")]
    assert sorted(move["version"] for move in moves) == [str(number) for number in range(1, 9)]
    assert [move["from"] for move in moves] == [None, *(move["version"] for move in moves[:-1])]
    assert str(client.get_model_version_by_alias(name, "champion").version) == moves[-1]["version"]
    for move in moves:
        previous = client.get_model_version(name, move["version"]).tags["deepmill.previous"]
        assert previous == (move["from"] or "")
    assert not client.search_registered_models(f"name = '{name}.lease'")


@pytest.mark.nightly  # the last test has them behind a server
def test_two_hosts_promote_at_once(shared: Settings, tmp_path: Path) -> None:
    race(shared, "race", tmp_path)


class Torn:
    """A registry in which a lease is let go between the two queries by which MLflow reads a model and its tags."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def get_registered_model(self, name: str) -> Any:
        from mlflow.entities.model_registry import RegisteredModel

        model = self.client.get_registered_model(name)
        self.client.delete_registered_model(name)
        return RegisteredModel(name, model.creation_timestamp)


def test_a_lease_let_go_while_it_is_read_is_none(shared: Settings) -> None:
    client = registry_client(shared)
    assert RegisteredLease(client, "torn.lease").create(b"{}")
    assert RegisteredLease(cast("Any", Torn(client)), "torn.lease").read() is None


def test_a_model_in_the_way_is_named(shared: Settings) -> None:
    client = registry_client(shared)
    client.create_registered_model("mine.lease")
    with pytest.raises(UserError, match=r"mine\.lease: .* rename it"):
        RegisteredLease(client, "mine.lease").read()


def test_a_dead_host_is_taken_over_and_a_frozen_one_told(shared: Settings, tmp_path: Path) -> None:
    versions(shared, "held", GOOD)
    first = host(HOLD, tmp_path / "first", shared.mlflow_uri, "held")
    assert told(first) == "held"
    first.send_signal(19)  # SIGSTOP: it stands still, as after a suspend
    begun = time.monotonic()
    second = host(HOLD, tmp_path / "second", shared.mlflow_uri, "held")
    assert told(second) == "held"
    assert time.monotonic() - begun > 5
    first.send_signal(18)
    go(first)
    assert "another host took over" in told(first)
    second.kill()  # with the lease in its hands
    third = host(HOLD, tmp_path / "third", shared.mlflow_uri, "held")
    assert told(third) == "held"
    go(third)
    assert told(third) == "mine"
    assert (first.wait(90), third.wait(90)) == (0, 0)
    second.wait(90)


@pytest.mark.drill
def test_two_hosts_share_a_tracking_server(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPMILL_ROOT", str(tmp_path / "here"))
    monkeypatch.setenv("DEEPMILL_TRACKING_URI", server)
    settings = Settings()
    assert not settings.has_own_registry
    race(settings, "raced", tmp_path)
