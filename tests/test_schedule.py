"""The suite's own schedule names files that exist, and keeps together what shares servers."""

from __future__ import annotations

from pathlib import Path

from tests.schedule import APART, LONGEST, SLOW, TOGETHER, group_of

HOUSE = Path(__file__).parents[1]


def test_what_it_names_is_there() -> None:
    names = [name for members in TOGETHER.values() for name in members] + [*APART, *LONGEST]
    assert not [name for name in names if name not in TOGETHER and not list(HOUSE.glob(f"{name}*"))]
    for name in SLOW:
        file, _, function = name.partition("::")
        assert f"def {function}" in (HOUSE / file).read_text(), name


def test_groups() -> None:
    assert group_of("tests/infra/test_store.py::test_x[s3]") == "cluster"
    assert group_of("tests/flows/operations/test_up_alone.py::test_x") == "operations"
    assert group_of("tests/infra/test_lease.py::test_x[a::b]") == "tests/infra/test_lease.py"
    assert group_of(f"{APART[0]}::test_x[r1]") == f"{APART[0]}::test_x[r1]"
