"""Reasoning tasks: right answers, chains of thought that a checker can follow, splits that share no question."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import UserError
from pipeline.reasoning.chains import WORKED, write_addition, write_expression, write_product
from pipeline.reasoning.problem_files import question_keys, read_problems
from pipeline.reasoning.problems import Problem, ReasoningMetrics, question_key, read_tasks
from pipeline.reasoning.scoring import score
from pipeline.reasoning.stage import SPLITS, reasoning
from pipeline.sections import ReasoningConfig, ReasoningTask


def _config(**changes: Any) -> ReasoningConfig:
    fields: dict[str, Any] = {"train": 300, "validation": 20, "test": 50}
    return ReasoningConfig.model_validate(fields | changes)


def _make(config: ReasoningConfig, folder: Path) -> tuple[ReasoningMetrics, dict[str, list[Problem]]]:
    folder.mkdir()
    metrics = reasoning(config, {}, folder)
    return metrics, {split: read_tasks(folder / f"{split}.jsonl") for split in SPLITS}


def _equations_hold(text: str) -> bool:
    """Whether every equation of a chain of thought is true."""
    found = [part for part in re.split(r"[,:\n]", text) if "=" in part]
    return bool(found) and all(len({eval(side) for side in equation.split("=")}) == 1 for equation in found)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[ReasoningMetrics, dict[str, list[Problem]]]:
    return _make(_config(), tmp_path_factory.mktemp("reasoning") / "out")


def test_sizes_and_shares_are_as_asked(made: tuple[ReasoningMetrics, dict[str, list[Problem]]]) -> None:
    metrics, splits = made
    assert {split: len(rows) for split, rows in splits.items()} == {"train": 300, "validation": 20, "test": 50}
    assert metrics.test_tasks == 50
    assert {task: sizes["test"] for task, sizes in metrics.by_task.items()} == {
        "chain_sum": 22,
        "gcd": 11,
        "products": 11,
        "spell_backward": 6,
    }


def test_no_question_occurs_twice(made: tuple[ReasoningMetrics, dict[str, list[Problem]]]) -> None:
    rows = [row for rows in made[1].values() for row in rows]
    assert len({row["question"].casefold() for row in rows}) == len({row["id"] for row in rows}) == len(rows)


def test_every_task_has_a_true_chain_of_thought(made: tuple[ReasoningMetrics, dict[str, list[Problem]]]) -> None:
    for row in made[1]["train"]:
        assert set(row) == {"id", "task", "question", "reasoning", "answer", "metadata"}
        assert score(row["task"], row["answer"], row) == 1
        if row["task"] == "spell_backward":
            word, reverse = row["reasoning"].split("\n")
            assert word.split(" ") == list(reversed(reverse.split(" "))) == list(reversed(row["answer"]))
        else:
            assert _equations_hold(row["reasoning"]), row
        if row["task"] == "chain_sum":
            assert eval(row["metadata"]["expression"]) == int(row["answer"])
            assert re.split("[ =]", row["reasoning"])[-1] == row["answer"]


@given(st.integers(-12_000, 12_000), st.integers(-12_000, 12_000), st.sampled_from([9, 20]))
def test_additions_are_true(left: int, right: int, known: int) -> None:
    line, total = write_addition(left, right, known=known)
    assert total == left + right
    assert _equations_hold(line) or ": " in line
    assert line.endswith(str(total))
    assert _equations_hold(line.partition(": ")[2] or line)


@given(st.integers(-1_200, 1_200), st.integers(-1_200, 1_200))
def test_products_are_true(left: int, right: int) -> None:
    lines, product = write_product(left, right)
    assert product == left * right
    assert _equations_hold("\n".join(lines))
    assert lines[-1].endswith(str(product))


@pytest.mark.parametrize(
    ("left", "right", "line"),
    [
        (47, 38, "47+38: 7+8=15, 4+3+1=8, 85"),
        (52, -38, "52-38: 12-8=4, 5-3-1=1, 14"),
        (100, -1, "100-1: 10-1=9, 10-1=9, 1-1=0, 99"),
        (12, -47, "12-47=-(47-12): 7-2=5, 4-1=3, -35"),
        (-12, -47, "-12-47=-(12+47): 2+7=9, 1+4=5, -59"),
        (-12, 47, "-12+47=47-12: 7-2=5, 4-1=3, 35"),
        (7, 8, "7+8=15"),
        (4, -9, "4-9=-5"),
    ],
)
def test_the_working_of_a_pupil(left: int, right: int, line: str) -> None:
    assert write_addition(left, right) == (line, left + right)


@pytest.mark.parametrize(
    ("left", "right", "line"),
    [
        (16, 7, "16+7: 6+7=13, 1+1=2, 23"),
        (9, 9, "9+9=18"),
        (15, -8, "15-8: 15-8=7, 1-1=0, 7"),
        (7, 10, "7+10: 0+7=7, 1=1, 17"),
        (20, -8, "20-8: 10-8=2, 2-1=1, 12"),
    ],
)
def test_what_is_not_known_by_heart_is_worked_out(left: int, right: int, line: str) -> None:
    assert write_addition(left, right, known=9) == (line, left + right)
    assert write_addition(left, right) == (f"{left}{right:+d}={left + right}", left + right)


@pytest.mark.parametrize(
    ("left", "right", "line"),
    [
        (47, 38, "47+38: 7+8=15, 4+3=7, 7+1=8, 85"),
        (147, 59, "147+59: 7+9=16, 4+5=9, 9+1=10, 1+1=2, 206"),
        (52, -38, "52-38: 12-8=4, 5-3=2, 2-1=1, 14"),
        (155, -56, "155-56: 15-6=9, 15-5=10, 10-1=9, 1-1=0, 99"),
    ],
)
def test_a_carry_has_a_step_of_its_own_where_little_is_known(left: int, right: int, line: str) -> None:
    assert write_addition(left, right, known=9) == (line, left + right)


def test_a_task_says_what_is_known_by_heart(tmp_path: Path) -> None:
    options = {"min_terms": 3, "max_terms": 3, "max_digits": 2, "allow_parentheses": False, "operators": ("+",)}
    known = ReasoningTask(name="basic_arithmetic", options=options)
    _, at_once = _make(_config(tasks=(known,)), tmp_path / "known")
    _, worked = _make(_config(tasks=(known.model_copy(update={"known_sums": 9}),)), tmp_path / "worked")
    for one, other in zip(at_once["train"], worked["train"], strict=True):
        assert (one["question"], one["answer"]) == (other["question"], other["answer"])
        written = [line.partition(":")[0] for line in other["reasoning"].split("\n")]
        assert not any(re.match(r"\d\d\+|\d\+\d\d", line) and "=" in line for line in written)


@pytest.mark.parametrize(
    ("expression", "lines", "value"),
    [
        ("35 + 84 + 71", ["35+84 +71: 5+4=9, 3+8=11, 119", "119 +71: 9+1=10, 1+7=8, 8+1=9, 1+0=1, 190"], 190),
        ("0 + 6 + 1", ["0+6 +1: 0+6=6, 6", "6 +1: 6+1=7, 7"], 7),
        ("1+2+3+4", ["1+2 +3 +4: 1+2=3, 3", "3 +3 +4: 3+3=6, 6", "6 +4: 6+4=10, 10"], 10),
        ("7 + 24", ["7+24: 7+4=11, 0+2=2, 2+1=3, 31"], 31),
        ("24 + 7 + 100", ["24+7 +100: 4+7=11, 2+0=2, 2+1=3, 31", "31 +100: 1+0=1, 3+0=3, 0+1=1, 131"], 131),
        ("99 + 1", ["99+1: 9+1=10, 9+0=9, 9+1=10, 100"], 100),
        ("12 - 3 + 4", ["12-3: 12-3=9, 1-1=0, 9", "9+4=13"], 13),
        ("(1 + 2) + 3 + 4", ["1+2=3", "3+3=6", "6+4=10"], 10),
        ("2 * 3 + 4 + 5", ["2*3=6", "6+4=10", "10+5: 0+5=5, 1=1, 15"], 15),
    ],
)
def test_lines_name_what_is_still_to_be_added(expression: str, lines: list[str], value: int) -> None:
    assert write_expression(expression, known=9, remaining=True) == (lines, value)


def test_a_task_names_what_is_still_to_be_added(tmp_path: Path) -> None:
    options = {"min_terms": 3, "max_terms": 4, "allow_parentheses": False, "operators": ("+",)}
    task = ReasoningTask(name="basic_arithmetic", options=options, remaining=True)
    _, splits = _make(_config(tasks=(task,)), tmp_path / "made")
    for row in splits["train"]:
        first = row["reasoning"].partition(":")[0]
        assert first.replace("+", " + ").replace("  ", " ") in row["question"]
        assert row["reasoning"].endswith(f", {row['answer']}")


def test_euclid() -> None:
    text, answer = WORKED["gcd"]({"numbers": [48, 36, 30]}, ReasoningTask(name="gcd"))
    assert text == "48-1*36=12\n36-3*12=0\n30-2*12=6\n12-2*6=0"
    assert int(answer) == math.gcd(48, 36, 30)


def test_the_bytes_depend_on_the_config_alone(tmp_path: Path) -> None:
    config = _config(train=60, seed=3)
    _make(config, tmp_path / "here")
    program = (
        "import sys; from pathlib import Path; from pipeline.reasoning.stage import reasoning;"
        "from pipeline.sections import ReasoningConfig;"
        "reasoning(ReasoningConfig.model_validate_json(sys.argv[1]), {}, Path(sys.argv[2]))"
    )
    (tmp_path / "there").mkdir()
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    arguments = [sys.executable, "-c", program, config.model_dump_json(), str(tmp_path / "there")]
    subprocess.run(arguments, check=True, cwd=tmp_path, env=environment)
    for split in SPLITS:
        name = f"{split}.jsonl"
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / name).read_bytes()
    _, other = _make(_config(train=60, seed=4), tmp_path / "other")
    assert other["test"] != read_tasks(tmp_path / "here" / "test.jsonl")


def _row(answer: str, **metadata: Any) -> dict[str, Any]:
    return {"question": "?", "answer": answer, "metadata": metadata}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [("1234", 1), (" 1,234\n", 1), ("+01234.0", 1), ("1235", 0), ("it is 1234", 0), ("12345", 0), ("", 0), ("nan", 0)],
)
def test_a_number_is_right_however_it_is_written(answer: str, expected: float) -> None:
    assert score("chain_sum", answer, _row("1234", source_dataset="chain_sum")) == expected


def test_a_task_of_ones_own_wants_the_letter() -> None:
    assert score("mine", "the  answer", _row("the answer")) == 1
    assert score("mine", "an answer", _row("the answer")) == 0


def test_tasks_without_a_writer_are_judged_by_reasoning_gym(tmp_path: Path) -> None:
    tasks = (ReasoningTask(name="puzzle24"),)
    _, splits = _make(_config(tasks=tasks, train=4, validation=1, test=1), tmp_path / "out")
    (row,) = splits["test"]
    assert row["reasoning"] == ""
    numbers = row["metadata"]["numbers"]
    assert score("puzzle24", row["answer"], row) == 1
    assert score("puzzle24", "+".join(map(str, numbers)), row) == float(sum(numbers) == 24)


def test_own_files_are_dealt_out_and_checked(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    rows = [{"question": f"What is {n}?", "answer": n, "reasoning": f"It is {n}.", "level": 1} for n in range(200)]
    file.write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[0], rows[1] | {"answer": 7}]) + "not json\n")
    config = _config(tasks=(), files=(str(file),), train=8, validation=1, test=1)
    metrics, splits = _make(config, tmp_path / "out")
    assert metrics.rejected == 3
    assert sum(map(len, splits.values())) == 200
    assert {split: len(part) for split, part in splits.items()} == {"train": 198, "validation": 1, "test": 1}
    assert {row["task"] for row in splits["test"]} == {"mine"}
    assert splits["test"][0]["metadata"] == {"file": "mine.jsonl", "level": 1}
    rejects = [json.loads(line) for line in (tmp_path / "out" / "rejects.jsonl").read_text().splitlines()]
    assert [(row["record"], row["rule"].split(" (")[0]) for row in rejects] == [
        (201, "question seen before"),
        (202, "question seen before, with another answer"),
        (203, "no JSON"),
    ]


def test_files_give_as_many_held_out_problems_as_were_asked_for(tmp_path: Path) -> None:
    """With the default `train`, which counts generated tasks, and whatever else is in the file."""
    file = tmp_path / "mine.jsonl"
    rows = [{"question": f"What is {n}?", "answer": n} for n in range(300)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    alone = ReasoningConfig(tasks=(), files=(str(file),), validation=16, test=16)
    _, splits = _make(alone, tmp_path / "alone")
    assert {split: len(part) for split, part in splits.items()} == {"train": 268, "validation": 16, "test": 16}
    questions = [row["question"] for part in splits.values() for row in part]
    assert len(set(questions)) == 300
    file.write_text("".join(json.dumps(row) + "\n" for row in [*rows[::-1], {"question": "One more?", "answer": 1}]))
    _, grown = _make(alone, tmp_path / "grown")
    assert len({row["question"] for row in grown["test"]} & {row["question"] for row in splits["test"]}) >= 15
    tasks = ({"name": "chain_sum"},)
    _, both = _make(_config(tasks=tasks, files=(str(file),), train=301, validation=20, test=10), tmp_path / "both")
    assert {split: len(part) for split, part in both.items()} == {"train": 301 + 301 - 15, "validation": 20, "test": 10}
    assert [sum(row["task"] == "mine" for row in both[split]) for split in ("validation", "test")] == [10, 5]


def test_files_that_are_too_small_for_what_is_asked(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text("".join(json.dumps({"question": f"{n}?", "answer": n}) + "\n" for n in range(30)))
    with pytest.raises(UserError, match=r"reasoning\.files: 30 problems, of which 10 for validation and 20 for test"):
        reasoning(_config(tasks=(), files=(str(file),), validation=10, test=20), {}, tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": ({"name": "nonsense"},)}, "no 'nonsense'"),
        ({"tasks": ({"name": "chain_sum", "options": {"max_term": 2}},)}, "max_terms"),
        ({"tasks": ({"name": "chain_sum", "options": {"max_digits": 0}},)}, "max_digits must be"),
        ({"tasks": ({"name": "products", "options": {"max_digits": 1}},)}, "only about 100 distinct questions"),
        ({"tasks": ()}, "the train split is empty"),
    ],
)
def test_wrong_recipes_are_one_clear_line(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        reasoning(_config(**changes), {}, tmp_path)


def test_a_file_of_another_kind_names_the_record(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    first = '\ufeff{"question": "1 + \\ud800 1?", "answer": "2"}\n'  # a mark of byte order, half a character
    for record, why in (
        ('{"question": "1 + 2?"}', r"no text in answer \(it has question\)"),
        ("[" * 100_000, "no JSON"),
    ):
        file.write_text(first + record + "\n", encoding="utf-8")
        with pytest.raises(UserError, match=rf"mine\.jsonl: record 2: {why}; 1 of 2 records are unusable"):
            reasoning(_config(files=(str(file),)), {}, tmp_path)


def test_files_in_the_forms_of_the_field(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    gsm8k = {"question": "2 + 2?", "answer": "Two and two is <<2+2=4>>4.\n#### 4"}
    maths = {"problem": "Half of one?", "solution": r"It is $\boxed{\frac{1}{2}}$.", "level": "Level 1"}
    (tmp_path / "a.jsonl").write_text(json.dumps(gsm8k) + "\n" + json.dumps(maths) + "\n")
    pq.write_table(pa.Table.from_pylist([{"prompt": "3 + 3?", "answer": 6, "task": "sums"}]), tmp_path / "b.parquet")
    rows, rejects = read_problems([str(tmp_path / "*.*")], max_failures=0, where="x")
    assert rejects == []
    assert [(row["question"], row["answer"], row["reasoning"], row["task"]) for row in rows] == [
        ("2 + 2?", "4", "Two and two is 4.", "a"),
        ("Half of one?", r"\frac{1}{2}", r"It is $\boxed{\frac{1}{2}}$.", "a"),
        ("3 + 3?", "6", "", "sums"),
    ]
    assert score("a", "0.5", rows[1]) == 1


def test_types_of_answers_are_declared_or_found_and_told_by_file(tmp_path: Path) -> None:
    mine = [
        {"question": "How far?", "answer": "5 km", "note": "half \ud800", "size": float("nan")},
        {"question": "In which order?", "answer": "1, 2, 3", "answer_type": "sequence"},
        {"question": "Which version?", "answer": "3.10", "answer_type": "text"},
        *({"question": f"{n} + 1?", "answer": str(n + 1)} for n in range(30)),
    ]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in mine))
    (tmp_path / "other.jsonl").write_text(json.dumps({"question": "Where?", "answer": "Paris"}) + "\n")
    made, splits = _make(_config(files=(str(tmp_path / "*.jsonl"),)), tmp_path / "out")
    assert made.answer_types == {
        "mine.jsonl": {
            "number": {"found": 30},
            "quantity": {"found": 1},
            "sequence": {"declared": 1},
            "text": {"declared": 1},
        },
        "other.jsonl": {"text": {"found": 1}},
    }
    rows = {row["question"]: row for split in splits.values() for row in split}
    for question, answer, right in (
        ("How far?", "5000 m", 1),
        ("How far?", "5 miles", 0),
        ("In which order?", "3, 2, 1", 0),
        ("Which version?", "3.1", 0),
        ("Where?", "**Paris**.", 1),
        ("Where?", "Pairs", 0),
    ):
        assert score(rows[question]["task"], answer, rows[question]) == right


def test_a_declared_type_must_exist_and_fit(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text(json.dumps({"question": "?", "answer": "2", "answer_type": "nmuber"}) + "\n")
    with pytest.raises(UserError, match=r"mine\.jsonl: record 1: answer_type 'nmuber' is none of number, .*; correct"):
        read_problems([str(file)], max_failures=1, where="x")
    file.write_text(json.dumps({"question": "?", "answer": "Paris", "answer_type": "number"}) + "\n")
    with pytest.raises(UserError, match=r"mine\.jsonl: record 1: the answer 'Paris' is no number, which answer_type"):
        read_problems([str(file)], max_failures=0, where="x")


def test_choices_of_a_free_question_are_known_to_its_judge(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text(json.dumps({"question": "Where?", "choices": ["Rome", "Paris"], "answer": "B"}) + "\n")
    row = read_problems([str(file)], max_failures=0, where="x")[0][0]
    assert [score("mine", answer, row) for answer in ("B", "(b) Paris", "Paris", "Rome", "B) Rome")] == [1, 1, 1, 0, 0]


def test_questions_of_other_sets_are_in_no_split(tmp_path: Path) -> None:
    plain, excluded = tmp_path / "plain", tmp_path / "excluded"
    file, other = tmp_path / "mine.jsonl", tmp_path / "benchmark.jsonl"
    file.write_text("".join(json.dumps({"question": f"{n} ?", "answer": "1"}) + "\n" for n in range(9)))
    _make(_config(files=(str(file),)), plain)
    of_both = [
        {"problem": read_tasks(plain / "train.jsonl")[3]["question"].upper()},
        {"question": "4  ?", "choices": []},
    ]
    other.write_text("".join(json.dumps(row) + "\n" for row in of_both))
    made, splits = _make(_config(files=(str(file),), exclude=(str(other),)), excluded)
    asked = {question_key(row["question"]) for rows in splits.values() for row in rows}
    assert not asked & question_keys([str(other)], "x")
    assert made.rejected == 1
    for line, why in (('{"text": "?"}', r"no text in question.* \(it has text\)"), ("{,}", "no JSON")):
        other.write_text(line + "\n")
        with pytest.raises(UserError, match=rf"reasoning\.exclude: benchmark\.jsonl: record 1: {why}; correct it"):
            question_keys([str(other)], "reasoning.exclude")


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ({"answer": True}, ("True", "")),
        ({"answer": "We get \\boxed{4}, done."}, ("4", "We get \\boxed{4}, done.")),
        ({"answer": "\\boxed{1} and \\boxed{2}"}, ("\\boxed{1} and \\boxed{2}", "")),
        ({"answer": "4", "reasoning": "<think>2 + 2</think>"}, ("4", "2 + 2")),
        ({"answer": float("inf")}, "no text in answer (it has question, answer)"),
        ({"answer": "x" * 2001}, "an answer of more than 2000 characters"),
        ({"answer": "4", "reasoning": ["a"]}, "reasoning that is no text"),
        ({"answer": "4", "judge": "llm"}, "judge 'llm' is neither math nor exact; correct it"),
        ({"output": "4"}, "no text in answer (it has question, output)"),
        ({"answer": "4", "judge": None}, ("4", "")),
        ({"answer": "2 and 2.\r\n##### 4\r\n"}, ("4", "2 and 2.")),
        ({"answer": "We add 2 and 2. The answer is: $4$."}, ("4", "We add 2 and 2.")),
        ({"answer": "The answer is 4."}, ("4", "")),
        ({"solution": "We add.\nThe answer is 4."}, ("4", "We add.\nThe answer is 4.")),
        ({"answer": "<think>2 + 2</think>4"}, ("4", "2 + 2")),
        ({"choices": ["3 km", "4 km"], "answer": 1}, ("4 km", "")),
        ({"choices": ["1", "3"], "answer": 1}, "the answer 1, which may be a choice or its position; write the choice"),
        (
            {"answer": "There are 3 bags. Each has 4. So 12 in all."},
            "an answer of several sentences; mark its value by",
        ),
        ({"answer": ["4"]}, "an answer that is a list, no text or number"),
        ({"answer": "4", "reasoning": "<think>2 + 2"}, "reasoning that holds a mark of its own end"),
        ({"answer": "4", "program": ["print(4)"]}, "a program that is no text"),
    ],
)
def test_answers_as_rows_have_them(row: dict[str, Any], found: tuple[str, str] | str, tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text(json.dumps({"question": "?"} | row) + "\n")
    if isinstance(found, str):
        with pytest.raises(UserError, match=re.escape(f"mine.jsonl: record 1: {found}")):
            read_problems([str(file)], max_failures=0, where="x")
    else:
        (read,) = read_problems([str(file)], max_failures=0, where="x")[0]
        assert (read["answer"], read["reasoning"]) == found


def test_programs_of_thought_from_a_file_are_run_and_kept(tmp_path: Path) -> None:
    told = [
        {"question": "2 + 2?", "answer": "4", "program": "print(2 + 2)", "reasoning": "add them"},
        {"question": "2 + 3?", "answer": "5", "program": "print(2 * 3)"},
        {"question": "2 + 4?", "answer": "6", "program": "import os\nos.listdir('/')"},
        *({"question": f"{n}?", "answer": str(n), "program": f"print({n})"} for n in range(30)),
    ]
    file = tmp_path / "mine.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in told))
    made = reasoning(_config(files=(str(file),), max_failures=0.1, direct_share=1.0), {}, tmp_path)
    rows = [row for split in ("train", "validation", "test") for row in read_tasks(tmp_path / f"{split}.jsonl")]
    mine = {row["question"]: row for row in rows if row["task"] == "mine"}
    assert mine["2 + 2?"]["response"] == "```python\nprint(2 + 2)\n```"
    assert mine["2 + 2?"]["reasoning"] == "add them"
    assert len(mine) == 31
    assert made.train_program == sum(row in mine.values() for row in read_tasks(tmp_path / "train.jsonl"))
    wrong = [json.loads(line)["rule"] for line in (tmp_path / "rejects.jsonl").read_text().splitlines()]
    assert wrong == [
        "the program does not print the answer: printed '6'",
        "the program does not print the answer: error",
    ]


@pytest.mark.parametrize(
    ("row", "place"),
    [
        ({"choices": ["x", "y"], "answer": 1}, 1),
        ({"choices": ["x", "y"], "answer": "B"}, 1),
        ({"choices": ["x", "y"], "answer": "x"}, 0),
        ({"choices": {"text": ["x", "y"], "label": ["1", "2"]}, "answerKey": "2"}, 1),
        ({"choices": ["x", "y"], "answer": "Z"}, None),
        ({"choices": ["x"], "answer": 0}, None),
        ({"choices": "xy", "answer": 0}, None),
        ({"choices": {"text": ["x", "y"], "label": 3}, "answer": 1}, 1),
        ({"answer": 0}, None),
    ],
)
def test_multiple_choice(row: dict[str, Any], place: int | None, tmp_path: Path) -> None:
    file = tmp_path / "choice.jsonl"
    file.write_text(json.dumps({"question": "Which?"} | row) + "\n")
    if place is None:
        with pytest.raises(UserError, match=r"choice\.jsonl: record 1: (the answer is none|no list)"):
            read_problems([str(file)], max_failures=0, where="x", choices=True)
    else:
        assert read_problems([str(file)], max_failures=0, where="x", choices=True)[0][0]["answer"] == place


def test_some_tasks_are_solved_by_programs_and_some_at_once(tmp_path: Path) -> None:
    tasks = tuple(ReasoningTask(name=name) for name in ("chain_sum", "gcd", "products", "spell_backward"))
    shares = {"program_share": 0.3, "direct_share": 0.3}
    metrics, splits = _make(_config(tasks=tasks, train=200, **shares), tmp_path / "out")
    programs = [row for row in splits["train"] if "response" in row]
    assert metrics.train_program == len(programs)
    assert 30 < len(programs) < 90
    assert 30 < metrics.train_direct < 90
    for row in programs[:12]:
        assert score(row["task"], row["response"], row) == 1, row
    assert not any("response" in row for row in splits["test"])
    assert all(row["reasoning"] for row in splits["test"])


def test_copies_without_working_cost_none_of_it(tmp_path: Path) -> None:
    tasks = (ReasoningTask(name="chain_sum"),)
    metrics, splits = _make(_config(tasks=tasks, train=100, direct_copies=1.5), tmp_path / "out")
    worked = {row["id"]: row for row in splits["train"] if row["reasoning"]}
    copies = [row for row in splits["train"] if not row["reasoning"]]
    assert (metrics.train_chain, metrics.train_direct) == (100, len(copies))
    assert len(worked) == 100
    assert 130 < len(copies) < 170
    assert len({row["id"] for row in splits["train"]}) == len(splits["train"])
    for copy in copies:
        original = worked[copy["id"].partition("-direct-")[0]]
        assert (copy["question"], copy["answer"]) == (original["question"], original["answer"])
    assert all(row["reasoning"] for row in splits["validation"])
