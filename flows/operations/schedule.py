"""What Prefect is about to start: its scheduled runs, asked for over its API."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from flows.run.server_settings import ServerSettings

if TYPE_CHECKING:
    import httpx

__all__ = ["Coming", "coming_runs"]

SECONDS = 2.0
"""Prefect has to answer within; a page does not wait longer for it."""
MOST = 5


@dataclass(frozen=True)
class Coming:
    """A run that will start by itself."""

    deployment: str
    at: datetime

    @property
    def when(self) -> str:
        """The time for people, in UTC."""
        return self.at.astimezone(UTC).strftime("%a %-d %B, %H:%M UTC")


def coming_runs(servers: ServerSettings) -> list[Coming] | None:
    """The next runs, the first of each deployment; None where Prefect does not answer."""
    import httpx

    credential = servers.credentials()
    login = (credential.user, credential.password) if credential else None
    scheduled = {
        "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
        "sort": "EXPECTED_START_TIME_ASC",
        "limit": 50,
    }
    try:
        with httpx.Client(base_url=f"{servers.prefect_url}/api", auth=login, timeout=SECONDS) as client:
            _show_token(client)
            runs = client.post("/flow_runs/filter", json=scheduled).raise_for_status().json()
            ids = list(dict.fromkeys(run["deployment_id"] for run in runs if run.get("deployment_id")))[:MOST]
            wanted = {"deployments": {"id": {"any_": ids}}}
            found = client.post("/deployments/filter", json=wanted).raise_for_status().json() if ids else []
            names = {each["id"]: each["name"] for each in found}
            first = {each: next(run for run in runs if run["deployment_id"] == each) for each in ids}
            return [
                Coming(names.get(each, "?"), datetime.fromisoformat(run["expected_start_time"]))
                for each, run in first.items()
            ]
    except (httpx.HTTPError, KeyError, TypeError, ValueError):
        return None


def _show_token(client: httpx.Client) -> None:
    """Prefect takes no order without a token against forged requests, unless that check is off."""
    name = str(uuid.uuid4())
    answer = client.get("/csrf-token", params={"client": name})
    if answer.is_success:
        client.headers.update({"Prefect-Csrf-Client": name, "Prefect-Csrf-Token": answer.json()["token"]})
