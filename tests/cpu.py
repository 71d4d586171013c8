"""Processor seconds of tests, with those of the processes that they started: `make test PYTEST_ADDOPTS=--cpu=40`.

Unlike durations they hardly depend on what else a machine does. A server that several tests share counts for the test
after which it ends.
"""

from __future__ import annotations

import resource
from collections import Counter
from collections.abc import Iterator

import pytest

KEY = "cpu_seconds"
"""Of a report; pytest-xdist passes such fields on to the process that prints."""


def used() -> float:
    """Of this process and of all that it has started and waited for."""
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


class Cpu:
    """Measures each phase of each test, and prints those that took most."""

    def __init__(self, most: int) -> None:
        self._most, self._last = most, used()
        self._tests: Counter[str] = Counter()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Iterator[None]:
        report = yield
        now = used()
        setattr(report, KEY, now - self._last)
        self._last = now
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._tests[report.nodeid] += getattr(report, KEY, 0.0)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        files: Counter[str] = Counter()
        for name, seconds in self._tests.items():
            files[name.split("::")[0]] += seconds
        terminalreporter.section(f"processor seconds: {self._tests.total():.1f}")
        for found in (files, self._tests):
            for name, seconds in found.most_common(self._most):
                terminalreporter.write_line(f"{seconds:8.2f}  {name}")
            terminalreporter.write_line("")
