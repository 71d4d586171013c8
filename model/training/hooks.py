"""What may be done beside the steps of a training, whatever is trained."""

from __future__ import annotations

from pathlib import Path

import torch

from infra import events
from infra.execution import execution

__all__ = ["Hook", "Profiler", "profilers"]


class Hook:
    """Something done beside the steps; every moment is optional. Every rank has the same hooks in the same order."""

    def step_begins(self, step: int) -> None:
        """Step `step` (from 0) comes next."""

    def step_ended(self, done: int) -> None:
        """`done` steps are finished, evaluation included."""

    def close(self) -> None:
        """The run ends, whatever way."""


class Profiler(Hook):
    """Writes a trace of some steps, for chrome://tracing or Perfetto: ``trace-*.json.gz`` in `folder`.

    Args:
        first: the first of these steps, from 1.
        last: the last of them.
    """

    def __init__(self, first: int, last: int, rank: int, folder: Path) -> None:
        self._first, self._last = first, last
        self._path = folder / f"trace-steps-{first}-{last}-rank-{rank}.json.gz"
        self._profile: torch.profiler.profile | None = None

    def step_begins(self, step: int) -> None:
        """Start with the first of the steps that this process does."""
        if self._profile is None and self._first <= step + 1 <= self._last:
            activities = [torch.profiler.ProfilerActivity.CPU]
            if torch.cuda.is_available():
                activities.append(torch.profiler.ProfilerActivity.CUDA)
            self._profile = torch.profiler.profile(activities=activities, record_shapes=True)
            self._profile.start()

    def step_ended(self, done: int) -> None:
        """Write the trace after the last of the steps."""
        if done == self._last:
            self.close()

    def close(self) -> None:
        """Write what there is; a disk that cannot take it is told, and is no reason to end a training."""
        profile, self._profile = self._profile, None
        if profile is None:
            return
        profile.stop()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            profile.export_chrome_trace(str(self._path))
        except OSError as error:
            events.note(f"the trace was not written ({error})")
        else:
            events.note(f"a trace of the steps {self._first} to {self._last} is in {self._path}")


def profilers(rank: int, work: Path) -> list[Profiler]:
    """The profiler that the execution asks for; its trace lies with the stage's log, or in `work` where none is
    kept."""
    wanted = execution().profile
    return [Profiler(wanted[0], wanted[1], rank, events.folder() or work)] if wanted else []
