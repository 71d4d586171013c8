r"""Problems from the user's files, JSONL or Parquet, in the forms that the field's sets have.

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
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import PurePath
from typing import Any

from infra.errors import UserError
from infra.json_objects import JsonObject
from infra.storage import ExternalFile, open_file, open_seekable, resolve
from pipeline.reasoning.answers.boxes import boxed
from pipeline.reasoning.answers.judge import fits
from pipeline.reasoning.answers.types import declared_type
from pipeline.reasoning.problems import RejectedRecord, question_key
from pipeline.reasoning.scoring import mark_answers

__all__ = ["identifier", "question_keys", "read_problems", "read_records"]

Row = JsonObject
"""A `Problem` or `ChoiceProblem` in the making."""
SEEN = "question seen before"
CHUNK = 4096
"""Records whose programs are run together."""
QUESTIONS = ("question", "problem", "prompt")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
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
    repeated = 0
    for name, number, given, row, why in _rows(paths, choices):
        if row is not None and question_key(row["question"]) in seen:
            row, why = None, SEEN
            repeated += 1
        if row is None:
            if why != SEEN:
                example = example or f"{name}: record {number}: {why}"
            text = given if isinstance(given, str) else json.dumps(given, default=str)
            rejects.append({"file": name, "record": number, "rule": why, "text": text.strip()})
        else:
            good.append(row)
            seen.add(question_key(row["question"]))
    broken = len(rejects) - repeated
    if not good or broken > max_failures * (len(good) + broken):
        raise UserError(
            f"{example or f'{where}: no rows'}; {broken} of {len(good) + broken} records are unusable, "
            f"each wants a JSON object with a question and an answer{' and choices' if choices else ''}"
        )
    return good, rejects


def read_records(paths: Sequence[str]) -> Iterator[tuple[str, int, Any]]:
    """File name, record number and record: an object, or a line that is none."""
    for file in sorted(resolve(paths), key=lambda file: file.name):
        if file.name.endswith(".parquet"):
            yield from _parquet(file)
            continue
        with open_file(file) as handle:
            for number, line in enumerate(handle, 1):
                text = line.decode("utf-8-sig" if number == 1 else "utf-8", errors="replace")
                if text.strip():
                    try:
                        yield file.name, number, json.loads(text)
                    except (ValueError, RecursionError):
                        yield file.name, number, text


def _parquet(file: ExternalFile) -> Iterator[tuple[str, int, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with open_seekable(file) as handle:
            number = 0
            for batch in pq.ParquetFile(pa.PythonFile(handle, mode="r")).iter_batches(1024):
                for row in batch.to_pylist():
                    number += 1
                    yield file.name, number, row
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{file.name}: not a readable Parquet file ({error}); write it again") from None


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
            raise UserError(f"{where}: {name}: record {number}: no text in {', '.join(QUESTIONS)}")
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
    if isinstance(given, str):
        return None, "no JSON"
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
        if not answer:
            return None, "no text in answer"
        row |= {"reasoning": reasoning, "answer": answer}
        if program := _text(given.get("program")):
            row["response"] = f"```python\n{program}\n```"
            used.add("program")
        try:
            kind = declared_type(given)
        except ValueError as error:
            raise UserError(f"{name}: record {number}: {error}; correct it, or leave it out to have it found") from None
        if kind is not None and not fits(answer, kind):
            return None, f"the answer {answer[:40]!r} is no {kind.replace('_', ' ')}, which answer_type says"
    metadata = {name: value for name, value in given.items() if name not in used}
    row["metadata"] = metadata | {"file": name}
    return row, ""


def _solution(given: Mapping[str, Any]) -> tuple[str, str]:
    """Answer and reasoning; the answer is empty where none can be found."""
    answer, reasoning = _text(given.get("answer")), _text(given.get("reasoning"))
    if "####" in answer:
        working, _, answer = answer.rpartition("####")
        reasoning = reasoning or _CALCULATOR.sub("", working).strip()
    solution = _text(given.get("solution"))
    if not answer and (boxes := boxed(solution)):
        answer = boxes[-1]
    return answer.strip(), reasoning or solution


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
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    return value.strip().encode("utf-8", errors="replace").decode() if isinstance(value, str) else ""
