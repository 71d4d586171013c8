"""A run on the terminal: a live bar per stage with rate and time left, and a line for each stage that is done.

Where the output is no terminal (a log file, CI) the bar becomes a line every few seconds.
"""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.text import Text

from flows.run.time_left import TimeLeft
from infra.events import Advanced, Begun, Event, Measured, Noted, Waiting
from infra.units import count, duration

__all__ = ["TerminalDisplay"]

LINE_SECONDS = 10.0
MARKS = {
    "made": "[green]✓[/]",
    "cached": "[dim]·[/]",
    "failed": "[red]✗[/]",
    "stopped": "[yellow]![/]",
    "held back": "[yellow]![/]",
}


class _Amount(ProgressColumn):
    """Done, total and rate, in units that a person reads."""

    def render(self, task: Task) -> Text:
        unit = str(task.fields.get("unit", ""))
        if not task.total:
            return Text(unit, style="dim")
        rate = f" · {count(task.speed)}/s" if task.speed else ""
        return Text(f"{count(task.completed)}/{count(task.total)} {unit}{rate}", style="dim")


class _Left(ProgressColumn):
    """Time left, once it is known."""

    def render(self, task: Task) -> Text:
        seconds = task.fields["left"].seconds(time.monotonic())
        return Text("" if seconds is None else f"{duration(seconds, estimated=True)} left", style="cyan")


class TerminalDisplay:
    """Use as a context manager around the run."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = console.is_terminal
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("[bold]{task.fields[stage]:<14}[/]{task.description:<18}"),
            BarColumn(24),
            _Amount(),
            _Left(),
            console=console,
            transient=True,
        )
        self._task: Any = None
        self._stage, self._place = "", ""
        self._phase, self._unit = "", ""
        self._left = TimeLeft(0.0)
        self._began = self._line = time.monotonic()
        self._series: dict[str, float] = {}

    def __enter__(self) -> TerminalDisplay:
        if self._live:
            self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live:
            self._progress.stop()

    def stage_begins(self, name: str, title: str, number: int, of: int) -> None:
        self._stage, self._series = name, {}
        self._place = f" ({number} of {of})" if of else ""
        self._began = self._line = time.monotonic()
        self._begin("starting", 0, "")

    def event(self, event: Event) -> None:
        match event:
            case Begun():
                self._begin(event.phase, event.total, event.unit, event.done)
            case Advanced():
                self._left.advance(event.amount, time.monotonic())
                if self._live:
                    self._progress.update(self._task, completed=self._left.done)
            case Measured():
                self._series |= event.values
                self._show_loss()
            case Noted():
                self.note(event.text)
            case Waiting():
                self.note(f"{self._stage}: waiting for {event.holder}, which makes the same artifact")
        if not self._live and self._left.total and time.monotonic() - self._line > LINE_SECONDS:
            self._line = time.monotonic()
            self._console.print(self._progress_line(), highlight=False)

    def _progress_line(self) -> str:
        seconds = self._left.seconds(self._line)
        told = "" if seconds is None else f", {duration(seconds, estimated=True)} left"
        done = f"{count(self._left.done)}/{count(self._left.total)} {self._unit}"
        return f"  {self._stage}{self._place} {self._phase} {done}{self._told_loss()}{told}"

    def _told_loss(self) -> str:
        name = "loss" if "loss" in self._series else "reward"
        return f", {name} {self._series[name]:.2f}" if name in self._series else ""

    def _show_loss(self) -> None:
        """The number that training is about, beside its phase."""
        if self._live and (told := self._told_loss()):
            self._progress.update(self._task, description=f"{self._phase}{told}")

    def _begin(self, phase: str, total: float, unit: str, done: float = 0) -> None:
        self._phase, self._unit, self._left = phase, unit, TimeLeft(total, done)
        if self._live:
            if self._task is not None:
                self._progress.remove_task(self._task)
            self._task = self._progress.add_task(
                phase, total=total or None, completed=int(done), stage=self._stage, unit=unit, left=self._left
            )

    def stage_ends(self, name: str, state: str, seconds: float, said: str = "") -> None:
        if self._live and self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None
        self._left = TimeLeft(0.0)
        mark = MARKS.get(state, "[dim]·[/]")
        seconds = seconds or time.monotonic() - self._began
        told = f"  [dim]{said}[/]" if said else ""
        self._console.print(f"{mark} [bold]{name:<14}[/] {state:<9} {duration(seconds):>8}{told}", highlight=False)

    def note(self, text: str) -> None:
        self._console.print(f"  [dim]{text}[/]", highlight=False)
