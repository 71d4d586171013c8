"""The suite's own schedule names files that exist, and keeps together what shares servers; however it is started."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.conftest import hear_interrupts
from tests.schedule import APART, ENDS, LONGEST, SLOW, TOGETHER, Ends, ended, group_of

HOUSE = Path(__file__).parents[1]


def test_what_it_names_is_there() -> None:
    names = [name for members in TOGETHER.values() for name in members] + [*APART, *LONGEST, *ENDS.values()]
    assert len(set(LONGEST)) == len(LONGEST)
    assert not [name for name in names if name not in TOGETHER and not list(HOUSE.glob(f"{name}*"))]
    for name in SLOW:
        file, _, function = name.partition("::")
        assert f"def {function}" in (HOUSE / file).read_text(), name


def test_groups() -> None:
    assert group_of("tests/infra/test_store.py::test_x[s3]") == "cluster"
    assert group_of("tests/flows/operations/test_up.py::test_x") == "operations"
    assert group_of("tests/flows/operations/test_up_alone.py::test_x") == "alone"
    assert group_of("tests/infra/test_lease.py::test_x[a::b]") == "tests/infra/test_lease.py"
    assert group_of(f"{APART[0]}::test_x[r1]") == f"{APART[0]}::test_x[r1]"


def test_a_server_of_the_cluster_ends_after_its_last_test() -> None:
    names = {"ray_place": r"ray_place", "slurm_variables": r"slurm_variables", "s3": r"\bs3\b|on_s3"}
    for fixture, last in ENDS.items():
        users = [file for file in TOGETHER["cluster"] if re.search(names[fixture], (HOUSE / file).read_text())]
        assert users[-1] == last, fixture
    assert ended(f"{ENDS['ray_place']}::test_x[ray]", f"{ENDS['ray_place']}::test_y") == []
    assert ended(f"{ENDS['ray_place']}::test_y", "tests/infra/test_slurm.py::test_x") == ["ray_place"]
    assert ended(f"{ENDS['s3']}::test_x", None) == ["s3"]


def test_ends() -> None:
    ends = Ends()
    for worker, name, start, stop in (
        ("gw0", "tests/a.py::x", 10.0, 12.0),
        ("gw1", "tests/infra/test_store.py::x", 10.5, 11.0),
        ("gw0", "tests/a.py::y", 12.0, 19.0),
        ("gw0", "tests/b.py::y", 19.0, 20.0),
        ("gw1", "tests/infra/test_slurm.py::x", 11.0, 14.0),
    ):
        node: Any = SimpleNamespace(gateway=SimpleNamespace(id=worker))
        report: Any = SimpleNamespace(node=node, nodeid=name, start=start, stop=stop)
        ends.pytest_runtest_logreport(report)
    assert list(ends.lines()) == [
        "    9.0 s from     0.0 s on gw0  tests/a.py",
        "    3.5 s from     0.5 s on gw1  cluster",
        "    1.0 s from     9.0 s on gw0  tests/b.py",
        "gw0 ended after 10.0 s with tests/b.py",
        "gw1 ended after 4.0 s with cluster",
    ]


def test_what_a_suite_in_the_background_starts_can_be_interrupted() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        hear_interrupts()
        program = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
        assert subprocess.check_output([sys.executable, "-S", "-c", program]) == b"True\n"
    finally:
        signal.signal(signal.SIGINT, before)
