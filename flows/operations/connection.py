"""Finds the servers that `deepmill up` started for this store, so that commands on the same machine talk to them.

What the user's environment names goes first. A command that finds no servers works as it does without them.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from flows.run.server_settings import LOOPBACK, ServerSettings
from infra.credentials import Credential, read_login
from infra.errors import UserError
from infra.processes import is_foreign_listener
from infra.services import GroupState, answers, read_state
from infra.settings import Settings

__all__ = ["client_environment", "connect", "known_login", "servers_up"]

HEARTBEAT_SECONDS = 30
"""How often a flow run says that it lives."""

WHERE = {"prefect": "/api/health", "mlflow": "/health", "pages": "/health"}


def servers_up(settings: Settings) -> GroupState | None:
    """The state of the servers of this store, as their keeper last wrote it; None when it does not run."""
    return read_state(Path(ServerSettings().folder(settings)))


def connect(settings: Settings) -> bool:
    """Have this process and its children use the servers of `settings`' store, if they are up; whether they are.

    Raises:
        UserError: another user's program listens where the servers should, or may read the login.
    """
    servers = ServerSettings()
    state = servers_up(settings)
    if servers.servers:
        facts = servers.addresses
    elif state is not None and state.host == socket.gethostname():  # a home may be shared by machines
        facts = state.facts
    else:
        return False
    if not answers(f"{facts['prefect']}{WHERE['prefect']}") or not answers(f"{facts['mlflow']}{WHERE['mlflow']}"):
        if servers.servers or servers.database.get_secret_value():
            # The registry is there and not beside the store: no other may be read, or promoted in, in its place.
            os.environ.setdefault("DEEPMILL_TRACKING_URI", facts["mlflow"])
        return False
    if not servers.servers:  # who names a host trusts it; another user may serve there, for a team
        for address in (facts["prefect"], facts["mlflow"]):
            _refuse_foreign(address)
    for name, value in client_environment(facts, known_login(settings, servers)).items():
        if not _is_for_elsewhere(name, facts):
            os.environ.setdefault(name, value)
    return True


def known_login(settings: Settings, servers: ServerSettings) -> Credential | None:
    """The login of the environment, or the one that `up` made for this store; None where there is neither.

    Raises:
        UserError: others may read the file of the login, or it is damaged.
    """
    beside = settings.local_root / ".services"  # workers of another machine may have a folder of their own
    return servers.credentials() or read_login(servers.folder(settings)) or read_login(beside)


def _refuse_foreign(address: str) -> None:
    """The login is for our own servers: not for whoever took their port while they were away."""
    parts = urlsplit(address)
    if parts.hostname in LOOPBACK and parts.port and is_foreign_listener(parts.port):
        raise UserError(f"{address}: another user's program answers there; deepmill down, and choose other ports")


def _is_for_elsewhere(name: str, facts: Mapping[str, str]) -> bool:
    """Whether a variable belongs to a server that the user's environment has put in place of ours."""
    for prefix, chosen, ours in (
        ("PREFECT_", "PREFECT_API_URL", f"{facts['prefect']}/api"),
        ("MLFLOW_", "DEEPMILL_TRACKING_URI", facts["mlflow"]),
    ):
        if name.startswith(prefix) and os.environ.get(chosen, ours) != ours:
            return True
    return False


def client_environment(addresses: Mapping[str, str], credential: Credential | None) -> dict[str, str]:
    """What a program needs to talk to the servers at `addresses`: workers and their flows, and commands."""
    found = {
        "PREFECT_API_URL": f"{addresses['prefect']}/api",
        "PREFECT_UI_URL": addresses["prefect"],
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS),
        "DEEPMILL_TRACKING_URI": addresses["mlflow"],
        "DEEPMILL_PAGES_URL": addresses["pages"],
    }
    if credential:
        found |= {
            "PREFECT_API_AUTH_STRING": credential.text,
            "MLFLOW_TRACKING_USERNAME": credential.user,
            "MLFLOW_TRACKING_PASSWORD": credential.password,
        }
    return found
