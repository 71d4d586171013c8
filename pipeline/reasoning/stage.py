"""The stage `reasoning`: tasks whose answers a program can check, each with a chain of thought.

Questions and answers come from `reasoning-gym`; `pipeline.reasoning.chains` writes the reasoning for the tasks it
knows, and its result must agree with the answer. Tasks without a writer are kept with empty reasoning: reinforcement
learning can use them, fine-tuning learns to answer them at once. Own tasks come from JSONL and Parquet files
(`pipeline.reasoning.problem_files`). A share of the training tasks may be solved by a program instead (program of
thought; DeepSeekMath, section 3.1).

Artifact: ``train.jsonl``, ``validation.jsonl`` and ``test.jsonl``, rows ``{"id", "task", "question", "reasoning",
"answer", "metadata"}`` and, where the solution ends in something else than the answer, ``"response"``; no question,
but for case and spacing, is in two of them. Rejected rows of own files are in ``rejects.jsonl``.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from itertools import count, islice
from pathlib import Path
from typing import Any, cast

from infra import events
from infra.errors import UserError
from pipeline.reasoning.answers.detect import find_type
from pipeline.reasoning.answers.types import declared_type
from pipeline.reasoning.chains import PROGRAMS, WORKED
from pipeline.reasoning.problem_files import identifier, question_keys, read_problems
from pipeline.reasoning.problems import Problem, ReasoningMetrics, RejectedRecord, question_key
from pipeline.sections import ReasoningConfig, ReasoningTask

__all__ = ["SPLITS", "generate_problems", "reasoning"]

SPLITS = ("train", "validation", "test")
TRIES = 20
"""Candidates drawn in vain one after the other, per question wanted, before a task is taken to have no more."""


def reasoning(config: ReasoningConfig, inputs: Mapping[str, Path], out_dir: Path) -> ReasoningMetrics:
    """Make the tasks; the number of each kind follows the weights.

    Raises:
        UserError: an unknown task or option, a task with too few distinct questions, unusable files.
    """
    sizes = {"train": config.train, "validation": config.validation, "test": config.test}
    events.begin("tasks", sum(sizes.values()) if config.tasks else 0, "tasks")
    splits: dict[str, list[Problem]] = {split: [] for split in SPLITS}
    taken = question_keys(config.exclude, "reasoning.exclude") if config.exclude else set()
    rejects: list[RejectedRecord] = []
    if config.files:
        held_out, rejects = _add_files(config, splits, taken)
        sizes |= {split: sizes[split] - count for split, count in held_out.items()}
    shares = {split: _shares([task.weight for task in config.tasks], size) for split, size in sizes.items()}
    for number, task in enumerate(config.tasks):
        wanted = {split: shares[split][number] for split in SPLITS}
        _add_generated(task, number, config.seed, wanted, splits, taken)
    for split, rows in splits.items():
        if not rows:
            raise UserError(f"reasoning: the {split} split is empty; raise reasoning.{split} or add tasks")
        random.Random(f"{config.seed} {split}").shuffle(rows)
        if split == "train":
            styles = _in_styles(config, rows)
            copies = list(_direct_copies(config, rows))
            styles["direct"] += len(copies)
            rows += copies
        _write(out_dir / f"{split}.jsonl", rows)
    if rejects:
        _write(out_dir / "rejects.jsonl", rejects)
    events.flush()
    by_task = {split: Counter(row["task"] for row in rows) for split, rows in splits.items()}
    return ReasoningMetrics(
        train_tasks=len(splits["train"]),
        validation_tasks=len(splits["validation"]),
        test_tasks=len(splits["test"]),
        by_task={
            task: {split: by_task[split][task] for split in SPLITS}
            for task in sorted({row["task"] for rows in splits.values() for row in rows})
        },
        train_chain=styles["chain"] or None,
        train_direct=styles["direct"] or None,
        train_program=styles["program"] or None,
        answer_types=_answer_types(splits) if config.files else None,
        rejected=len(rejects),
    )


def _answer_types(splits: Mapping[str, Sequence[Problem]]) -> dict[str, dict[str, dict[str, int]]]:
    """By file and type: how many answers declare it, and of how many it was found."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for row in (row for rows in splits.values() for row in rows if "file" in row["metadata"]):
        declared = declared_type(row["metadata"])
        kind = declared or find_type(str(row["answer"]))
        counts[row["metadata"]["file"], kind, "found" if declared is None else "declared"] += 1
    found: dict[str, dict[str, dict[str, int]]] = {}
    for (file, name, how), number in sorted(counts.items()):
        found.setdefault(file, {}).setdefault(name, {})[how] = number
    return found


def generate_problems(
    name: str, options: Mapping[str, Any], seed: int, wanted: int, where: str, avoid: Set[str] = frozenset()
) -> tuple[list[Problem], int]:
    """`wanted` distinct problems of one data set of reasoning-gym, in the form of a split's rows.

    Args:
        avoid: keys of questions (`question_key`) that are passed over, and others drawn for them as far as there are.

    Returns:
        The rows, and how many questions were passed over.

    Raises:
        UserError: no such data set or options, too few distinct questions.
    """
    task = ReasoningTask(name=name, options=dict(options))
    rows: list[Problem] = []
    passed = 0
    for row in _distinct(task, 0, seed, wanted, where, set()):
        if question_key(row["question"]) in avoid:
            passed += 1
            continue
        rows.append(row)
        if len(rows) == wanted:
            break
    if not rows and passed:
        raise UserError(f"{where}: all {passed} questions of {name} are training questions; widen its options")
    if len(rows) + passed < wanted:
        raise _too_few(task, len(rows) + passed, wanted, where)
    return rows, passed


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
    splits: Mapping[str, list[Problem]],
    taken: set[str],
) -> None:
    """Draw distinct questions of one task and deal them out; which go where is up to the random draw alone."""
    left = {split: wanted[split] for split in reversed(SPLITS)}
    needed = sum(wanted.values())
    questions = _distinct(task, number, seed, needed, "reasoning.tasks", taken)
    for split, places in left.items():
        rows = list(islice(questions, places))
        splits[split] += rows
        needed -= len(rows)
    if needed:
        raise _too_few(task, sum(wanted.values()) - needed, sum(wanted.values()), "reasoning.tasks")


def _distinct(
    task: ReasoningTask, number: int, seed: int, needed: int, where: str, taken: set[str]
) -> Iterator[Problem]:
    """Questions of one task that are not among `taken`, which they enter, until there seem to be no more."""
    dataset = _dataset(task, random.Random(f"{seed} {number}").getrandbits(40), where)
    in_vain = 0
    for index in count():
        entry = dataset[index]
        key = question_key(entry["question"])
        row = None if key in taken else _row(task, entry)
        if row is not None:
            in_vain = 0
            taken.add(key)
            events.advance()
            yield row
        elif in_vain == TRIES * needed + 100:
            return
        else:
            in_vain += 1


def _too_few(task: ReasoningTask, found: int, wanted: int, where: str) -> UserError:
    return UserError(
        f"{where}: {task.name} has only about {found} distinct questions with these options, "
        f"{wanted} are wanted; lower its weight, or widen its options"
    )


def _dataset(task: ReasoningTask, seed: int, where: str) -> Any:
    import reasoning_gym
    from reasoning_gym.factory import DATASETS

    if task.name not in DATASETS:
        raise UserError(f"{where}: reasoning-gym has no {task.name!r}; with chains of thought: {list(WORKED)}")
    try:
        return reasoning_gym.create_dataset(task.name, **{**task.options, "seed": seed})
    except (AssertionError, TypeError, ValueError) as error:
        fields = [name for name in DATASETS[task.name][1].__dataclass_fields__ if name not in ("seed", "size")]
        raise UserError(f"{where}: {task.name}: {error or 'wrong options'}; it has {', '.join(fields)}") from None


def _row(task: ReasoningTask, entry: Mapping[str, Any]) -> Problem | None:
    """The entry in our form; None when working it out leads to another answer than the expected one."""
    written, answer = "", str(entry["answer"])
    if work_out := WORKED.get(task.name):
        written, found = work_out(entry["metadata"], task)
        if found != answer:  # basic_arithmetic with "/" asks for other numbers than it answers for
            return None
    return {
        "id": identifier(task.name, entry["question"]),
        "task": task.name,
        "question": entry["question"],
        "reasoning": written,
        "answer": answer,
        "metadata": entry["metadata"],
    }


def _add_files(
    config: ReasoningConfig, splits: Mapping[str, list[Problem]], taken: set[str]
) -> tuple[dict[str, int], list[RejectedRecord]]:
    """Deal the rows of the user's files out: which of them are held out is up to a hash of the question.

    Returns:
        How many the held-out splits have of them, and the rejected rows.

    Raises:
        UserError: unusable files, or fewer problems than are to be held out.
    """
    rows, rejects = read_problems(config.files, max_failures=config.max_failures, where="reasoning.files", taken=taken)
    share = len(rows) / (len(rows) + (config.train if config.tasks else 0))
    wanted = {"test": round(config.test * share), "validation": round(config.validation * share)}
    if sum(wanted.values()) + (not config.tasks) > len(rows):
        raise UserError(
            f"reasoning.files: {len(rows)} problems, of which {wanted['validation']} for validation and "
            f"{wanted['test']} for test leave none to learn from; lower reasoning.validation and reasoning.test, or "
            "add files"
        )
    by_hash = sorted(range(len(rows)), key=lambda place: _digest(rows[place]["question"]))
    split_of = dict(zip(by_hash, (split for split in wanted for _ in range(wanted[split])), strict=False))
    for place, row in enumerate(rows):
        splits[split_of.get(place, "train")].append(cast(Problem, row))
    return wanted, rejects


def _digest(question: str) -> bytes:
    return hashlib.blake2b(question_key(question).encode(), digest_size=8).digest()


def _in_styles(config: ReasoningConfig, rows: Sequence[Problem]) -> Counter[str]:
    """Give a share of the training rows other solutions, in place: a program, or none at all.

    Which rows is up to a hash of their ids; only rows with a chain of thought lose it, and programs of the user's stay.
    """
    found: Counter[str] = Counter()
    for row in rows:
        if "response" in row:
            found["program"] += 1
        if not row["reasoning"] or "response" in row:
            continue
        digest = hashlib.blake2b(f"{config.seed} {row['id']}".encode(), digest_size=8).digest()
        place = int.from_bytes(digest) / 2**64
        style = "chain"
        if place < config.direct_share:
            style, row["reasoning"] = "direct", ""
        elif place < config.direct_share + config.program_share and row["task"] in PROGRAMS:
            style = "program"
            plan, program = PROGRAMS[row["task"]](row["metadata"])
            row |= {"reasoning": plan, "response": f"```python\n{program}\n```"}
        found[style] += 1
    return found


def _direct_copies(config: ReasoningConfig, rows: Sequence[Problem]) -> Iterator[Problem]:
    """The worked rows once more without their working, as often as configured; a hash decides over what is no whole."""
    whole, part = divmod(config.direct_copies, 1)
    for row in rows:
        if not row["reasoning"] or "response" in row:
            continue
        digest = hashlib.blake2b(f"{config.seed} {row['id']} copies".encode(), digest_size=8).digest()
        for number in range(int(whole) + (int.from_bytes(digest) / 2**64 < part)):
            yield {**row, "id": f"{row['id']}-direct-{number + 1}", "reasoning": ""}


def _write(path: Path, rows: Sequence[Problem] | Sequence[RejectedRecord]) -> None:
    try:
        lines = [json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n" for row in rows]
    except TypeError as error:
        raise UserError(f"reasoning: a task's metadata cannot be kept as JSON ({error}); leave that task out") from None
    path.write_text("".join(lines), encoding="utf-8", errors="replace")  # halves of characters, in metadata
