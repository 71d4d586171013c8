"""The text of the study `code-first`: every exercise and every problem is right."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from infra.errors import UserError
from infra.hashing import file_digest, tree_files
from pipeline.sample.code_first import LARGEST, exercises, gather_code_first, problems

EQUATION = re.compile(r"(?<![+\d] )(?<!\d)\d+(?: [+-] \d+)*(?: = \d+(?: [+-] \d+)*)+")
"""Numbers alone, all sides of it."""


def _is_true(equation: str) -> bool:
    sides = [eval(side) for side in equation.split(" = ")]
    return len(set(sides)) == 1 and 0 <= sides[0] <= LARGEST


def test_exercises_are_true() -> None:
    checked = 0
    for text in exercises(50):
        for equation in EQUATION.findall(text):
            checked += 1
            assert _is_true(equation), equation
    assert checked > 1000


def test_problems_are_solved_by_their_working_and_by_their_programs() -> None:
    rows = list(problems(400))
    assert {row["task"] for row in rows} == {"worked", "program"}
    for row in rows:
        assert 0 <= int(row["answer"]) <= LARGEST
        if row["task"] == "program":
            printed: list[int] = []
            exec(row["program"], {"print": printed.append})
            assert printed == [int(row["answer"])], row
        else:
            *_, last = row["reasoning"].splitlines()
            assert last.endswith(f" = {row['answer']}"), row
            assert all(_is_true(equation) for equation in EQUATION.findall(row["reasoning"])), row
    most = max(sum(row["answer"] == str(value) for row in rows) for value in range(LARGEST + 1))
    assert most < 0.12 * len(rows), "no answer is worth guessing"


def test_it_is_gathered_whole_the_same_or_not_at_all(tmp_path: Path) -> None:
    said: list[str] = []
    for name in ("first", "second"):
        gather_code_first(tmp_path / name, said.append)
    first, second = (
        {path: file_digest(tmp_path / name / path) for path in tree_files(tmp_path / name)}
        for name in ("first", "second")
    )
    assert first == second
    assert "Python's standard library" in said[0]
    assert Path("code/argparse.py") in first
    assert not any("test" in path.parts or "site-packages" in path.parts for path in first)
    (tmp_path / "mine").mkdir()
    with pytest.raises(UserError, match="mine: there, but not complete"):
        gather_code_first(tmp_path / "mine")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "mine", "second"]
