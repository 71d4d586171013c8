r"""Problems from the user's files, in the forms that the field's sets have.

    {"question", "answer", "reasoning"?}           own tasks; "problem" and "prompt" are other names for the question
    {"question", "answer": "... #### 42"}          GSM8K: the working, then the answer after ####
    {"problem", "solution": "... \boxed{42} ..."}  MATH: the answer is what the last box holds
    {"question", "answer", "program"}              program of thought: Python that prints the answer
    {"question", "choices": [...], "answer"}       multiple choice; the answer is a letter, a position or the text

A record may declare the type of its answer (``"answer_type": "quantity"``; `pipeline.reasoning.answers.types` has all);
else it is found from the answer. A program is run, sandboxed, and its row rejected when it prints something else than
the answer; `reasoning` is its plan then. Everything else in a row is kept as metadata; ``"judge": "exact"`` there asks
for the answer to the letter, where ``1/2`` would be taken for ``0.5``.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import PurePath
from typing import Any

from infra.errors import UserError
from infra.json_objects import JsonObject
from pipeline.reasoning.answers.boxes import boxed, unboxed
from pipeline.reasoning.answers.judge import fits
from pipeline.reasoning.answers.normalise import LONGEST, conclusion
from pipeline.reasoning.answers.types import declared_type
from pipeline.reasoning.problems import RejectedRecord, question_key
from pipeline.reasoning.record_files import keys_of, read_records
from pipeline.reasoning.scoring import mark_answers
from pipeline.reasoning.unread import Unread

__all__ = ["identifier", "question_keys", "read_problems"]

Row = JsonObject
"""A `Problem` or `ChoiceProblem` in the making."""
SEEN, SEEN_OTHERWISE = "question seen before", "question seen before, with another answer"
CHUNK = 4096
"""Records whose programs are run together."""
JUDGES = ("math", "exact")
"""How a row may ask to be judged."""
QUESTIONS = ("question", "problem", "prompt")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_THOUGHT = re.compile(r"<think>(.*?)</think>(.*)", re.DOTALL)
_SENTENCE = re.compile(r"[a-z\d)]\.\s+(?=[A-Z])")
MOST_SENTENCES = 2
"""Of an answer whose value nothing marks; no other answer would be equal to more."""
_CALCULATOR = re.compile(r"<<[^<>]*>>")


def identifier(task: str, question: str) -> str:
    """The name of a problem, from its question."""
    return f"{task}-{hashlib.blake2b(question_key(question).encode(), digest_size=8).hexdigest()}"


def read_problems(
    paths: Sequence[str],
    *,
    max_failures: float,
    where: str,
    choices: bool = False,
    taken: set[str] | None = None,
) -> tuple[list[Row], list[RejectedRecord]]:
    """Good rows and rejected ones, of all files in the order of their names.

    Args:
        max_failures: share of unusable records from which on the files are not what they should be.
        where: the recipe key, for messages.
        choices: whether multiple choice is wanted, or free answers.
        taken: keys of questions that are there already, and now of these too; a question that is, is rejected.

    Raises:
        UserError: too many rejects, no good row, a file that cannot be read.
    """
    good: list[Row] = []
    rejects: list[RejectedRecord] = []
    example = ""
    seen = set() if taken is None else taken
    answers: dict[str, str] = {}
    broken = 0
    for name, number, given, row, why in _rows(paths, choices):
        key = "" if row is None else question_key(row["question"])
        if row is not None and key not in seen:
            good.append(row)
            seen.add(key)
            answers[key] = str(row["answer"])
            continue
        if row is not None:
            why = SEEN if answers.get(key, str(row["answer"])) == str(row["answer"]) else SEEN_OTHERWISE
        else:
            broken += 1
            example = example or f"{name}: record {number}: {why}{keys_of(given)}"
        text = given if isinstance(given, str) else json.dumps(given, default=str)
        rejects.append({"file": name, "record": number, "rule": why, "text": text.strip()})
    if not good and not rejects:
        raise UserError(f"{where}: no record in the files; leave them out, or correct the paths")
    if not good or broken > max_failures * (len(good) + broken):
        raise UserError(
            f"{example or f'{where}: every question is in another split or set'}; {broken} of {len(good) + broken} "
            "records are unusable, each wants a JSON object with a question and an "
            f"answer{' and choices' if choices else ''}"
        )
    return good, rejects


def question_keys(paths: Sequence[str], where: str) -> set[str]:
    """`question_key` of every record's question, whatever else it holds.

    Raises:
        UserError: a record without one, a file that cannot be read.
    """
    found = set()
    for name, number, given in read_records(paths):
        texts = [_text(given.get(key)) for key in QUESTIONS] if isinstance(given, Mapping) else []
        question = next((text for text in texts if text), "")
        if not question:
            why = given.why if isinstance(given, Unread) else f"no text in {', '.join(QUESTIONS)}{keys_of(given)}"
            raise UserError(f"{where}: {name}: record {number}: {why}; correct it, or leave it out")
        found.add(question_key(question))
    return found


def _rows(paths: Sequence[str], choices: bool) -> Iterator[tuple[str, int, Any, Row | None, str]]:
    """Every record with its row, or None and what is wrong; programs have been run, many at a time."""
    records = read_records(paths)
    while chunk := list(islice(records, CHUNK)):
        rows = [_row(name, number, given, choices) for name, number, given in chunk]
        programs = [(place, row) for place, (row, _) in enumerate(rows) if row is not None and "response" in row]
        marks = mark_answers([row["response"] for _, row in programs], [row for _, row in programs])
        for (place, _), mark in zip(programs, marks, strict=True):
            if mark.score < 1:
                ended = f"printed {mark.value[:80]!r}" if mark.program == "ok" else mark.program or "too long to be run"
                rows[place] = (None, f"the program does not print the answer: {ended}")
        for (name, number, given), (row, why) in zip(chunk, rows, strict=True):
            yield name, number, given, row, why


def _row(name: str, number: int, given: Any, choices: bool) -> tuple[Row | None, str]:
    """A row in our form, or None and what is wrong with it.

    Raises:
        UserError: the record declares a type that there is not.
    """
    if isinstance(given, Unread):
        return None, given.why
    if not isinstance(given, Mapping):
        return None, "no JSON object"
    key = next((key for key in QUESTIONS if given.get(key) is not None), "question")
    question = _text(given.get(key))
    if not question:
        return None, "no text in question"
    task = _text(given.get("task")) or PurePath(name).name.split(".")[0]
    used = {"id", "task", key, "answer", "reasoning"}
    row: Row = {"id": str(given.get("id") or identifier(task, question)), "task": task, "question": question}
    if choices:
        found = _choices(given)
        if isinstance(found, str):
            return None, found
        row |= found
        used.add("choices")
    else:
        answer, reasoning = _solution(given)
        if (why := _unusable(given, answer, reasoning)) is not None:
            return None, why
        row |= {"reasoning": reasoning, "answer": answer}
        if program := _text(given.get("program")):
            row["response"] = f"```python\n{program}\n```"
            used.add("program")
        try:
            kind = declared_type(given)
        except ValueError as error:
            raise UserError(f"{name}: record {number}: {error}; correct it, or leave it out to have it found") from None
        if (way := given.get("judge") or "math") not in JUDGES:
            raise UserError(f"{name}: record {number}: judge {way!r:.40} is neither {' nor '.join(JUDGES)}; correct it")
        if kind is not None and not fits(answer, kind):
            return None, f"the answer {answer[:40]!r} is no {kind.replace('_', ' ')}, which answer_type says"
    metadata = {name: value for name, value in given.items() if name not in used}
    row["metadata"] = metadata | {"file": name}
    return row, ""


def _unusable(given: Mapping[str, Any], answer: str, reasoning: str) -> str | None:
    """What is wrong with the answer of a free question, or with how it is reached."""
    if not answer:
        if isinstance(raw := given.get("answer"), int):
            return f"the answer {raw}, which may be a choice or its position; write the choice"
        is_nested = isinstance(raw, list | Mapping)
        return f"an answer that is a {type(raw).__name__}, no text or number" if is_nested else "no text in answer"
    if len(answer) > LONGEST:
        return f"an answer of more than {LONGEST} characters, which is compared with none"
    if given.get("answer_type") is None and len(_SENTENCE.findall(answer)) >= MOST_SENTENCES:
        return (
            "an answer of several sentences; mark its value by #### or \\boxed, or give the file to conversations.files"
        )
    if not isinstance(given.get("reasoning") or "", str) or "think>" in reasoning:
        return (
            "reasoning that is no text" if "think>" not in reasoning else "reasoning that holds a mark of its own end"
        )
    return "a program that is no text" if given.get("program") and not _text(given["program"]) else None


def _solution(given: Mapping[str, Any]) -> tuple[str, str]:
    """Answer and reasoning; the answer is empty where none can be found."""
    answer, reasoning = _text(given.get("answer")), _text(given.get("reasoning"))
    if isinstance(given.get("answer"), bool):
        answer = str(given["answer"])
    if (chosen := _chosen(given)) is not None:
        answer = chosen
    if (thought := _THOUGHT.fullmatch(reasoning)) is not None and not thought[2].strip():
        reasoning = thought[1].strip()
    if (thought := _THOUGHT.fullmatch(answer)) is not None:
        reasoning, answer = reasoning or thought[1].strip(), thought[2].strip()
    if "####" in answer:
        working, _, answer = answer.rpartition("####")
        reasoning = reasoning or _CALCULATOR.sub("", working).rstrip("# \n").strip()
    elif len(boxes := boxed(answer)) == 1 and unboxed(answer) == answer:  # in a sentence
        reasoning, answer = reasoning or answer, boxes[0]
    elif (concluded := conclusion(answer))[1]:
        reasoning, answer = reasoning or concluded[0], concluded[1]
    solution = _text(given.get("solution"))
    if not answer:
        answer = boxes[-1] if (boxes := boxed(solution)) else conclusion(solution)[1]
    return answer.strip(), reasoning or solution


def _chosen(given: Mapping[str, Any]) -> str | None:
    """The text of the choice whose position is the answer, as MMLU has it; nothing where it may be a choice itself."""
    choices, answer = given.get("choices"), given.get("answer")
    if not isinstance(choices, list) or not isinstance(answer, int) or isinstance(answer, bool):
        return None
    texts = [_text(choice) for choice in choices]
    if not 0 <= answer < len(texts) or texts[answer] == str(answer):
        return None
    return "" if str(answer) in texts else texts[answer]


def _choices(given: Mapping[str, Any]) -> Row | str:
    """Choices and the position of the right one, or what is wrong."""
    choices = given.get("choices")
    if isinstance(choices, Mapping):  # ARC: {"text": [...], "label": [...]}
        labels, choices = choices.get("label"), choices.get("text")
    else:
        labels = None
    texts = [_text(choice) for choice in choices] if isinstance(choices, list | tuple) else []
    if len(texts) < 2 or not all(texts):
        return "no list of choices"
    answer = given.get("answer", given.get("answerKey", given.get("label")))
    names = [str(label) for label in labels] if isinstance(labels, list | tuple) else list(LETTERS[: len(texts)])
    if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(texts):
        place = answer
    elif str(answer).strip() in texts:
        place = texts.index(str(answer).strip())
    elif str(answer).strip() in names:
        place = names.index(str(answer).strip())
    else:
        return "the answer is none of the choices"
    return {"choices": texts, "answer": place}


def _text(value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        value = str(value)
    return value.strip().encode("utf-8", errors="replace").decode() if isinstance(value, str) else ""
