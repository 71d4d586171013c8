"""Watchers in Prefect's server: for runs whose process is gone or never began, and one that tells of failures."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.automations import Automation

__all__ = ["make_automations"]

TOLD_OF = ["mill", "corpus", "pretrain", "finetune", "release", "rerun", "retention", "heartbeat"]
"""Flows whose failure people are told of."""
ZOMBIE_SECONDS = 300
"""A flow run that says nothing for so long has no process any more."""


def make_automations() -> None:
    """Make them, or bring them up to date; one that somebody switched off stays so. `tell/failures` is there before."""
    from prefect.automations import Automation
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        tell = client.read_deployment_by_name("tell/failures").id
    for automation in _wanted(tell):
        try:
            there = cast("Automation", Automation.read(name=automation.name))
        except ValueError:
            automation.create()
            continue
        automation.id = there.id
        automation.enabled = there.enabled
        automation.update()


def _wanted(tell: UUID) -> list[Automation]:
    """All of them; `tell` is the deployment of the flow that tells people."""
    from prefect.automations import Automation
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState, RunDeployment
    from prefect.events.schemas.automations import EventTrigger, Posture

    every_run = {"prefect.resource.id": ["prefect.flow-run.*"]}

    def nothing_after(event: str, *expected: str) -> EventTrigger:
        """A run of which neither what is expected after an event nor an end is heard in time."""
        ended = ("Completed", "Failed", "Crashed", "Cancelled", "Cancelling")
        return EventTrigger(
            after={f"prefect.flow-run.{event}"},
            expect={f"prefect.flow-run.{name}" for name in (*expected, *ended)},
            match=every_run,
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=ZOMBIE_SECONDS),
        )

    return [
        Automation(
            name="deepmill: a run without a process has crashed",
            description="Its worker or machine died. Start it again: it resumes.",
            trigger=nothing_after("heartbeat", "heartbeat"),
            actions=[
                ChangeFlowRunState(
                    state=StateType.CRASHED,
                    message="its process is gone; start it again and it resumes",
                )
            ],
        ),
        Automation(
            name="deepmill: a run that a worker took and never began waits again",
            description="The worker died between taking it and starting its process.",
            trigger=nothing_after("Pending", "Running", "Scheduled"),
            actions=[ChangeFlowRunState(state=StateType.SCHEDULED, message="its worker went away before it began")],
        ),
        Automation(
            name="deepmill: tell of failures",
            description="By webhook and mail, as DEEPMILL_NOTIFY_WEBHOOK and DEEPMILL_NOTIFY_EMAIL say.",
            trigger=EventTrigger(
                expect={"prefect.flow-run.Failed", "prefect.flow-run.Crashed", "prefect.flow-run.TimedOut"},
                match=every_run,
                match_related={
                    "prefect.resource.role": "flow",
                    "prefect.resource.name": TOLD_OF,
                },
                posture=Posture.Reactive,
                threshold=1,
            ),
            actions=[
                RunDeployment(
                    source="selected",
                    deployment_id=tell,
                    parameters={
                        "flow_run_name": _template("{{ flow_run.name }}"),
                        "flow_run_id": _template("{{ flow_run.id }}"),
                        "state": _template("{{ flow_run.state.name }}"),
                        "message": _template("{{ flow_run.state.message }}"),
                    },
                )
            ],
        ),
    ]


def _template(text: str) -> dict[str, str]:
    return {"__prefect_kind": "jinja", "template": text}
