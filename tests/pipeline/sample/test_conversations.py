"""The sample's conversations: the same every time, right in their sums, and none of what the model is asked later."""

from __future__ import annotations

import json
import re
from pathlib import Path

from pipeline.reasoning.chains import WORKED
from pipeline.reasoning.problem_files import question_keys
from pipeline.reasoning.problems import question_key
from pipeline.sample.conversations import EVERYDAY, conversations, pairs, sums, write_conversations
from pipeline.sections import ReasoningTask


def _plain(text: str) -> str:
    return re.sub(r"[^a-z ]", "", text.casefold()).strip()


def test_everyday_messages_are_in_no_conversation() -> None:
    said = {_plain(turn["content"]) for talk in conversations() for turn in talk if turn["role"] == "user"}
    assert len(EVERYDAY) == len(set(EVERYDAY)) == 30
    assert not said & {_plain(message) for message in EVERYDAY}


def test_every_sum_is_right_and_one_of_those_that_are_left_out_of_the_tasks(tmp_path: Path) -> None:
    said = write_conversations(tmp_path)
    rows = [json.loads(line)["messages"] for line in (tmp_path / "conversations.jsonl").read_text().splitlines()]
    assert said.startswith(f"{len(rows):,} conversations")
    assert rows == conversations(), "the same again"
    left_out = question_keys((str(tmp_path / "sums.jsonl"),), "reasoning.exclude")
    seen, later = set(), 0
    for talk in rows:
        assert [turn["role"] for turn in talk] == ["user", "assistant"] * (len(talk) // 2)
        for place, (user, assistant) in enumerate(zip(talk[::2], talk[1::2], strict=True)):
            if "reasoning_content" not in assistant:
                assert assistant["content"]
                continue
            numbers = tuple(map(int, re.findall(r"\d+", user["content"])))
            assert assistant["content"] == str(sum(numbers))
            left = question_key(f"Calculate {' + '.join(map(str, numbers))}.") in left_out
            assert left == (len(numbers) == 3), "two numbers are no question of the tasks"
            seen.add(numbers)
            later += place > 0
    assert seen == {*sums(), *pairs()}
    assert later > 500, "sums that follow on something"


def test_sums_in_digits_are_worked_out_as_the_tasks_are(tmp_path: Path) -> None:
    write_conversations(tmp_path)
    by_lines, in_digits = (
        [json.loads(line)["messages"] for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()]
        for name in ("conversations", "in-digits")
    )
    assert in_digits == conversations(in_digits=True), "the same again"
    told = [[(turn["role"], turn["content"]) for turn in talk] for talk in by_lines]
    assert [[(turn["role"], turn["content"]) for turn in talk] for talk in in_digits] == told
    task = ReasoningTask(name="basic_arithmetic", known_sums=9, remaining=True)
    for user, assistant in (talk[place : place + 2] for talk in in_digits for place in range(0, len(talk), 2)):
        if "reasoning_content" in assistant:
            expression = " + ".join(re.findall(r"\d+", user["content"]))
            worked = WORKED[task.name]({"expression": expression}, task)
            assert (assistant["reasoning_content"], assistant["content"]) == worked
