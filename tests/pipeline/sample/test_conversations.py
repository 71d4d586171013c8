"""The sample's conversations: the same every time, right in their sums, and none of what the model is asked later."""

from __future__ import annotations

import json
import re
from pathlib import Path

from pipeline.reasoning.problem_files import question_keys
from pipeline.reasoning.problems import question_key
from pipeline.sample.conversations import EVERYDAY, conversations, pairs, sums, write_conversations


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
