"""Finds the servers that `deepmill up` started for this store, so that commands on the same machine talk to them.

What the user's environment names goes first. A command that finds no servers works as it does without them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows.run.server_settings import ServerSettings
from infra.services import answers, read_state
from infra.settings import Settings

__all__ = ["HEARTBEAT_SECONDS", "client_environment", "connect", "servers_up"]

HEARTBEAT_SECONDS = 30
"""How often a flow run says that it lives."""

WHERE = {"prefect": "/api/health", "mlflow": "/health", "pages": "/health"}


def servers_up(settings: Settings) -> dict[str, Any] | None:
    """The state of the servers of this store, as their keeper last wrote it; None when it does not run."""
    return read_state(Path(ServerSettings().folder(settings)))


def connect(settings: Settings) -> bool:
    """Have this process and its children use the servers of `settings`' store, if they are up; whether they are."""
    servers = ServerSettings()
    state = servers_up(settings)
    if servers.servers:
        facts = servers.addresses
    elif state is not None:
        facts = state["facts"]
    else:
        return False
    if not answers(f"{facts['prefect']}{WHERE['prefect']}") or not answers(f"{facts['mlflow']}{WHERE['mlflow']}"):
        return False
    found = client_environment(facts, servers.credentials())
    for name, value in found.items():
        os.environ.setdefault(name, value)
    return True


def client_environment(addresses: Mapping[str, str], credentials: tuple[str, str] | None) -> dict[str, str]:
    """What a program needs to talk to the servers at `addresses`: workers and their flows, and commands."""
    found = {
        "PREFECT_API_URL": f"{addresses['prefect']}/api",
        "PREFECT_UI_URL": addresses["prefect"],
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS),
        "DEEPMILL_TRACKING_URI": addresses["mlflow"],
        "DEEPMILL_PAGES_URL": addresses["pages"],
    }
    if credentials:
        user, password = credentials
        found |= {
            "PREFECT_API_AUTH_STRING": f"{user}:{password}",
            "MLFLOW_TRACKING_USERNAME": user,
            "MLFLOW_TRACKING_PASSWORD": password,
        }
    return found
