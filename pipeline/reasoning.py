"""The stage `reasoning`: tasks whose answers a program can check, each with a chain of thought.

Questions and answers come from `reasoning-gym`; `pipeline.chains` writes the reasoning for the tasks it knows, and its
result must agree with the answer. Tasks without a writer are kept with empty reasoning: reinforcement learning can use
them, fine-tuning learns to answer them at once. Own tasks come from JSONL files.

Artifact: ``train.jsonl``, ``validation.jsonl`` and ``test.jsonl``, rows ``{"id", "task", "question", "reasoning",
"answer", "metadata"}``; no question, but for case and spacing, is in two of them. Rejected rows of own files are in
``rejects.jsonl``. Light on purpose: `score` runs where rewards are computed, and loads `reasoning-gym` only when an
answer is not the expected one to the letter.
"""

from __future__ import annotations

import functools
import hashlib
import json
import random
import re
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path, PurePath
from typing import Any

from infra import events
from infra.errors import UserError
from infra.storage import open_file, resolve
from pipeline.chains import WRITERS
from pipeline.sections import ReasoningConfig, ReasoningTask

__all__ = ["SPLITS", "read_tasks", "reasoning", "score"]

SPLITS = ("train", "validation", "test")
TRIES = 20
"""Candidates drawn per question wanted, before a task is taken to have no more."""

Row = dict[str, Any]


def reasoning(config: ReasoningConfig, inputs: Mapping[str, Path], out_dir: Path) -> dict[str, Any]:
    """Make the tasks; the number of each kind follows the weights.

    Raises:
        UserError: an unknown task or option, a task with too few distinct questions, unusable files.
    """
    sizes = {"train": config.train, "validation": config.validation, "test": config.test}
    events.begin("tasks", sum(sizes.values()) if config.tasks else 0, "tasks")
    splits: dict[str, list[Row]] = {split: [] for split in SPLITS}
    taken: set[str] = set()
    rejects: list[Row] = []
    if config.files:
        rejects = _add_files(config, splits, taken)
    shares = {split: _shares([task.weight for task in config.tasks], size) for split, size in sizes.items()}
    for number, task in enumerate(config.tasks):
        wanted = {split: shares[split][number] for split in SPLITS}
        _add_generated(task, number, config.seed, wanted, splits, taken)
    for split, rows in splits.items():
        if not rows:
            raise UserError(f"reasoning: the {split} split is empty; raise reasoning.{split} or add tasks")
        random.Random(f"{config.seed} {split}").shuffle(rows)
        _write(out_dir / f"{split}.jsonl", rows)
    if rejects:
        _write(out_dir / "rejects.jsonl", rejects)
    events.flush()
    by_task = {split: Counter(row["task"] for row in rows) for split, rows in splits.items()}
    return {
        **{f"{split}_tasks": len(rows) for split, rows in splits.items()},
        "by_task": {
            task: {split: by_task[split][task] for split in SPLITS}
            for task in sorted({row["task"] for rows in splits.values() for row in rows})
        },
        "rejected": len(rejects),
    }


def read_tasks(file: Path) -> list[Row]:
    """The rows of one split."""
    with file.open(encoding="utf-8") as handle:
        return [json.loads(line) for line in handle]


def score(task: str, answer: str, row: Mapping[str, Any]) -> float:
    """1 when `answer` is right for `row`, else 0: equal to the letter but for commas and spacing, or full marks from
    reasoning-gym's own judge of the task (which may accept other solutions, and other ways to write a number).

    Its partial marks are not given: they reward answers that merely contain the right one.
    """
    given = _normal(answer)
    if given == _normal(row["answer"]):
        return 1.0
    source = row.get("metadata", {}).get("source_dataset")
    if not given or source is None or source != task:
        return 0.0
    entry = {"question": row["question"], "answer": row["answer"], "metadata": row["metadata"]}
    return float(_judge(source)(answer.strip(), entry) >= 1.0)


def _normal(text: str) -> str:
    return re.sub(r"\s+", " ", text.replace(",", "")).strip()


@functools.cache
def _judge(source: str) -> Callable[[str, Row], float]:
    import reasoning_gym

    judge: Callable[[str, Row], float] = reasoning_gym.get_score_answer_fn(source)
    return judge


def _key(question: str) -> str:
    """What makes two questions the same one."""
    return " ".join(question.casefold().split())


def _identifier(task: str, question: str) -> str:
    return f"{task}-{hashlib.blake2b(_key(question).encode(), digest_size=8).hexdigest()}"


def _shares(weights: Sequence[float], size: int) -> list[int]:
    """Whole numbers in the proportion of `weights` that add up to `size`; the largest remainders are rounded up."""
    if not weights:
        return []
    exact = [size * weight / sum(weights) for weight in weights]
    shares = [int(share) for share in exact]
    by_remainder = sorted(range(len(weights)), key=lambda number: (shares[number] - exact[number], number))
    for number in by_remainder[: size - sum(shares)]:
        shares[number] += 1
    return shares


def _add_generated(
    task: ReasoningTask,
    number: int,
    seed: int,
    wanted: Mapping[str, int],
    splits: Mapping[str, list[Row]],
    taken: set[str],
) -> None:
    """Draw distinct questions of one task and deal them out; which go where is up to the random draw alone."""
    dataset = _dataset(task, random.Random(f"{seed} {number}").getrandbits(40))
    left = {split: wanted[split] for split in reversed(SPLITS)}
    needed = sum(wanted.values())
    for index in count():
        left = {split: open_places for split, open_places in left.items() if open_places}
        if not left:
            return
        if index > TRIES * needed + 100:
            found = needed - sum(left.values())
            raise UserError(
                f"reasoning.tasks: {task.name} has only about {found} distinct questions with these options, "
                f"{needed} are wanted; lower its weight, or widen its options"
            )
        entry = dataset[index]
        key = _key(entry["question"])
        row = None if key in taken else _row(task.name, entry)
        if row is None:
            continue
        taken.add(key)
        split = next(iter(left))
        left[split] -= 1
        splits[split].append(row)
        events.advance()


def _dataset(task: ReasoningTask, seed: int) -> Any:
    import reasoning_gym
    from reasoning_gym.factory import DATASETS

    if task.name not in DATASETS:
        raise UserError(f"reasoning.tasks: reasoning-gym has no {task.name!r}; with chains of thought: {list(WRITERS)}")
    try:
        return reasoning_gym.create_dataset(task.name, **{**task.options, "seed": seed})
    except (AssertionError, TypeError, ValueError) as error:
        fields = [name for name in DATASETS[task.name][1].__dataclass_fields__ if name not in ("seed", "size")]
        raise UserError(
            f"reasoning.tasks: {task.name}: {error or 'wrong options'}; it has {', '.join(fields)}"
        ) from None


def _row(name: str, entry: Mapping[str, Any]) -> Row | None:
    """The entry in our form; None when working it out leads to another answer than the expected one."""
    written, answer = "", str(entry["answer"])
    if name in WRITERS:
        written, found = WRITERS[name](entry["metadata"])
        if found != answer:  # basic_arithmetic with "/" asks for other numbers than it answers for
            return None
    return {
        "id": _identifier(name, entry["question"]),
        "task": name,
        "question": entry["question"],
        "reasoning": written,
        "answer": answer,
        "metadata": entry["metadata"],
    }


def _add_files(config: ReasoningConfig, splits: Mapping[str, list[Row]], taken: set[str]) -> list[Row]:
    """Deal the rows of the user's files out by a hash of the question, in the ratio of the splits' sizes.

    Returns the rejected rows; UserError when they are too many.
    """
    sizes = (config.train, config.validation, config.test)
    edges = (sizes[0], sizes[0] + sizes[1])
    rejects: list[Row] = []
    good, example = 0, ""
    for name, line_number, line in _lines(config.files):
        row, why = _user_row(name, line)
        if row is not None and _key(row["question"]) in taken:
            row, why = None, "question seen before"
        if row is None:
            example = example or f"{name}: record {line_number}: {why}"
            rejects.append({"file": name, "record": line_number, "rule": why, "text": line.strip()})
            continue
        good += 1
        taken.add(_key(row["question"]))
        digest = hashlib.blake2b(_key(row["question"]).encode(), digest_size=8).digest()
        place = int.from_bytes(digest) / 2**64 * sum(sizes)
        splits[SPLITS[bisect(edges, place)]].append(row)
    broken = sum(row["rule"] != "question seen before" for row in rejects)
    if not good or broken > config.max_failures * (good + broken):
        raise UserError(
            f"{example or 'reasoning.files: no rows'}; {broken} of {good + broken} records are unusable, "
            "each wants a JSON object with a question and an answer"
        )
    return rejects


def _lines(paths: Sequence[str]) -> Iterator[tuple[str, int, str]]:
    for file in sorted(resolve(paths), key=lambda file: file.name):
        with open_file(file) as handle:
            for number, line in enumerate(handle, 1):
                if line.strip():
                    yield file.name, number, line.decode("utf-8", errors="replace")


def _user_row(name: str, line: str) -> tuple[Row | None, str]:
    """A row in our form, or None and what is wrong with it."""
    try:
        given = json.loads(line)
    except ValueError as error:
        return None, f"no JSON ({error})"
    if not isinstance(given, dict):
        return None, "no JSON object"
    texts = {}
    for field, default in (("question", None), ("answer", None), ("reasoning", ""), ("task", PurePath(name).stem)):
        value = given.get(field, default)
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str) or (default is None and not value.strip()):
            return None, f"no text in {field}"
        texts[field] = value.strip()
    known = {"id", *texts}
    identifier = str(given.get("id") or _identifier(texts["task"], texts["question"]))
    metadata = {key: value for key, value in given.items() if key not in known}
    return {"id": identifier, **texts, "metadata": {**metadata, "file": name}}, ""


def _write(path: Path, rows: Sequence[Row]) -> None:
    try:
        lines = [json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n" for row in rows]
    except TypeError as error:
        raise UserError(f"reasoning: a task's metadata cannot be kept as JSON ({error}); leave that task out") from None
    path.write_text("".join(lines), encoding="utf-8")
