"""How workers share the suite: a file's tests stay together, so do those that share servers; the long come first.

pytest-xdist asks for a scheduler, which lives in the process that hands the work out and knows tests by their names
alone (its own marks for groups do not work with pytest 9.2).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

TOGETHER = {
    "registry": ("tests/flows/registry/test_absence.py", "tests/flows/registry/test_lock.py"),  # an MLflow server
    "operations": ("tests/flows/operations/test_up.py", "tests/flows/operations/test_up_hardened.py"),
    "alone": ("tests/flows/operations/test_up_alone.py", "tests/flows/operations/test_up_doors.py"),
    "cluster": (  # S3, Slurm and Ray, one of each
        "tests/flows/test_scale.py",
        "tests/pipeline/tasks/test_executors.py",
        "tests/infra/test_slurm.py",
        "tests/infra/test_nodes.py",
        "tests/infra/test_storage.py",
        "tests/infra/test_store.py",
        "tests/pipeline/index/test_index_s3.py",
        "tests/pipeline/tokens/test_reader_s3.py",
        "tests/flows/registry/test_trace_s3.py",
        "tests/flows/test_places.py",  # wants the golden run, which others make meanwhile
    ),
}
"""What begins so is the work of one worker, in this order, by the name of the group."""
ENDS = {
    "ray_place": "tests/pipeline/tasks/test_executors.py",
    "slurm_variables": "tests/infra/test_nodes.py",
    "s3": "tests/flows/test_places.py",
}
"""The file of the group `cluster` after which a server of its ends: idle ones take processor seconds and memory."""
APART = ("tests/flows/recipe/test_preset_runs.py",)
"""Files whose tests share nothing and take long: each is handed out by itself."""
LONGEST = (
    "tests/flows/test_mill.py",  # makes the golden run
    "cluster",
    "tests/flows/test_tutorial.py",
    "tests/model/training/test_layouts.py",
    "operations",  # wants the golden run at once, as the next does
    "alone",
    "tests/infra/deploy/test_images.py",
    "tests/infra/test_object_store_drills.py",
    "tests/flows/browser/test_page.py",
    "tests/flows/test_kills.py",
    "registry",
    "tests/flows/study/test_study.py",
    "tests/flows/test_installed.py",
    "tests/flows/serving/test_command.py",
)
"""Groups that are handed out first, in this order: what takes minutes and begins last would end alone."""

SLOW = (
    "tests/flows/recipe/test_preset_runs.py",
    "tests/flows/registry/test_absence.py",
    "tests/flows/registry/test_files.py",
    "tests/flows/registry/test_lock.py",
    "tests/flows/registry/test_removal.py",
    "tests/flows/report/test_screens.py",
    "tests/flows/run/test_prefect_server.py",
    "tests/flows/serving/test_api.py::test_a_thousand",
    "tests/flows/serving/test_clients.py",
    "tests/flows/serving/test_command.py",
    "tests/flows/serving/test_drill.py",
    "tests/flows/serving/test_features.py",
    "tests/flows/serving/test_model_manager.py",
    "tests/flows/study/test_study.py::test_a_study_runs_as_one_flow",
    "tests/flows/test_bad_input.py",
    "tests/flows/test_installed.py",
    "tests/flows/test_kills.py",
    "tests/flows/test_mill.py",
    "tests/infra/test_tracking.py::test_killed_while_it_is_made",
    "tests/model/planning/test_costs.py",
    "tests/model/rl/test_grpo.py::test_two_ranks",
    "tests/model/rl/test_rejection.py::test_two_ranks",
    "tests/model/serving/test_engine.py",
    "tests/model/training/test_continued.py::test_two_ranks",
    "tests/model/training/test_layouts.py",
    "tests/model/training/test_lora.py::test_the_stage",
    "tests/model/training/test_replay.py::test_two_ranks",
    "tests/model/training/test_training.py::test_a_killed_run",
    "tests/pipeline/dedup/test_shingles.py::test_every_character",
    "tests/pipeline/index/test_index.py",
    "tests/pipeline/reasoning/test_reasoning.py::test_tasks_without_a_writer",
    "tests/pipeline/reasoning/test_reasoning.py::test_the_bytes_depend",
    "tests/pipeline/reasoning/test_untrusted.py",
    "tests/pipeline/test_growing.py",
    "tests/pipeline/test_growth.py",
    "tests/pipeline/test_hostile.py",
    "tests/pipeline/sample/test_sample.py",
    "tests/pipeline/sources/test_parquet.py::test_a_file_all",
    "tests/pipeline/tasks/test_guard.py",
    "tests/pipeline/text/test_words.py::test_every_character",
    "tests/pipeline/tokens/test_encoder.py::test_every_character",
    "tests/pipeline/tokens/test_encoder.py::test_memory_does_not_grow",
    "tests/pipeline/tokens/test_shards.py::test_packing_loses_only",
    "tests/pipeline/tokens/test_tokenizer.py::test_same_bytes_in_other",
    "tests/pipeline/tokens/test_tokenizer.py::test_transformers_loads",
    "tests/test_site.py",
)
"""What begins so gets the mark `slow`: some seconds of a processor, or a whole process of its own."""


def group_of(name: str) -> str:
    """The group of a test."""
    for group, members in TOGETHER.items():
        if name.startswith(members):
            return group
    return name if name.startswith(APART) else name.split("::")[0]


def arrange(items: list[pytest.Item]) -> None:
    """Mark what is slow and what is a property, and put the groups that take longest first; else the order is kept."""
    for item in items:
        if item.nodeid.startswith(SLOW):
            item.add_marker("slow")
        if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
            item.add_marker("property")
    rank = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: (rank.get(group_of(item.nodeid), len(LONGEST)), _place(item.nodeid)))


def ended(name: str, following: str | None) -> list[str]:
    """Fixtures of the group `cluster` that no test uses any more, by the names of a test and of the one after it."""
    file, next_file = name.split("::")[0], (following or "").split("::")[0]
    return [fixture for fixture, last in ENDS.items() if file == last != next_file]


def _place(name: str) -> int:
    """Of a test's file within its group."""
    members = TOGETHER.get(group_of(name), ())
    return next((place for place, member in enumerate(members) if name.startswith(member)), 0)


class Schedule(LoadScopeScheduling):
    """Hands out groups in the order in which they were collected."""

    def __init__(self, config: pytest.Config, log: Producer) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False  # it would begin with the most tests, not with the longest

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


@dataclass
class Span:
    """When a worker was at a group, in seconds since 1970."""

    begin: float
    end: float

    @property
    def seconds(self) -> float:
        """How long."""
        return self.end - self.begin


class Ends:
    """Prints which groups took longest and when each worker had nothing left: whether `LONGEST` is right."""

    SHOWN = 15

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str], Span] = {}
        """By worker and group."""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if (node := getattr(report, "node", None)) is not None:  # with several workers
            span = self._groups.setdefault((node.gateway.id, group_of(report.nodeid)), Span(report.start, report.stop))
            span.end = report.stop

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._groups:
            terminalreporter.section("longest groups, and the last of each worker")
            for line in self.lines():
                terminalreporter.write_line(line)

    def lines(self) -> Iterator[str]:
        """A line for each of the longest groups, then for the end of each worker."""
        began = min(span.begin for span in self._groups.values())
        by_length = sorted(self._groups.items(), key=lambda item: -item[1].seconds)
        for (worker, group), span in by_length[: self.SHOWN]:
            yield f"{span.seconds:7.1f} s from {span.begin - began:7.1f} s on {worker}  {group}"
        last = {worker: (span.end - began, group) for (worker, group), span in sorted(self._groups.items(), key=_end)}
        yield from (f"{worker} ended after {end:.1f} s with {group}" for worker, (end, group) in sorted(last.items()))


def _end(item: tuple[tuple[str, str], Span]) -> float:
    return item[1].end
