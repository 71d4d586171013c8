"""What a pool leaves to whoever starts a run, by Prefect's own template and Prefect's own merging of it."""

from __future__ import annotations

import asyncio
import contextvars
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.utilities.schema_tools.validation import ValidationError, validate
from prefect.workers.process import ProcessJobConfiguration, ProcessWorker

from flows.operations.pools import COMMAND, closed_template

FOLDER = Path("/where/up/was/started")
FORGED: list[dict[str, Any]] = [
    {"command": "touch forged"},
    {"env": {"PATH": "/forged"}},
    {"env.PATH": "/forged"},
    {"working_dir": "/forged"},
]


def opened() -> dict[str, Any]:
    """As somebody may have changed it: with an environment of its own, a required command, another reference to it."""
    template = ProcessWorker.get_default_base_job_template()
    template["variables"]["properties"]["env"]["default"] = {"KEPT": "no"}
    template["variables"]["required"] = ["command", "name"]
    template["job_configuration"]["env"] = {"KEPT": "no"}
    return template


@pytest.mark.parametrize("template", [ProcessWorker.get_default_base_job_template(), opened(), {}])
@pytest.mark.parametrize("brought", FORGED)
def test_whoever_starts_a_run_says_nothing_of_its_process(
    prefect: str, template: dict[str, Any], brought: dict[str, Any]
) -> None:
    """Refused by the server, and without effect where the server does not look: at a run without a deployment."""
    closed = closed_template(template, FOLDER)
    with pytest.raises(ValidationError, match="unexpected"):
        validate(brought, closed["variables"], raise_on_error=True, ignore_required=True)
    # in a thread of its own: a browser of other tests keeps a loop in this one
    with temporary_settings({PREFECT_API_URL: prefect}), ThreadPoolExecutor(1) as thread:
        making = ProcessJobConfiguration.from_template_and_values(closed, brought)
        made = thread.submit(contextvars.copy_context().run, asyncio.run, making).result()
    assert (made.command, made.working_dir, made.env) == (COMMAND, FOLDER, {})


def test_the_rest_is_kept() -> None:
    template = opened()
    closed = closed_template(template, FOLDER)
    assert set(closed["variables"]["properties"]) == {"name", "labels", "stream_output"}
    assert closed["variables"]["required"] == ["name"]
    assert closed["job_configuration"]["stream_output"] == "{{ stream_output }}"
    assert closed_template(closed, FOLDER) == closed
    assert "env" in template["job_configuration"]  # what was given is as it was
