"""What the study `code-first` reads besides the sample's text: ``python -m pipeline.sample.code_first FOLDER``.

code: the modules of Python's standard library, as the running interpreter has them. maths: exercises in arithmetic with
small numbers, worked out, in words and in signs. problems: names are given values one after the other, and the last is
asked for; every second problem wants the working, the others a program. No exercise has more than one unknown, so that
following names is left to fine-tuning and to what was read before. Nothing is fetched.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

from infra.errors import UserError
from infra.json_objects import JsonObject

__all__ = ["PROBLEMS", "exercises", "gather_code_first", "problems"]

LEFT_OUT = frozenset(("encodings", "idlelib", "lib2to3", "pydoc_data", "site-packages", "test", "tests", "turtledemo"))
"""Folders of tables, tests and somebody else's packages."""
DOCUMENTS, LINES = 1500, 40
"""Exercises: so many documents of so many lines."""
PROBLEMS = 6000
NAMES = "bcdfghjkmnpqrstvwxyz"
LARGEST = 18
"""Of all values: sums and differences up to it are few enough to be known by heart."""
SIGNS = {"+": "plus", "-": "minus"}
PEOPLE = ("Anna", "Ben", "Clara", "David", "Eva", "Frank", "Greta", "Hugo")
THINGS = ("apples", "books", "coins", "eggs", "keys", "marbles", "pears", "stones")
WORDS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
)


def gather_code_first(folder: Path, tell: Callable[[str], None] = print) -> None:
    """Fill `folder` with ``code/``, ``maths/`` and ``problems.jsonl``; the same interpreter gives the same bytes.

    Raises:
        UserError: `folder` is there already, and not complete: it may be somebody else's.
    """
    if folder.exists():
        raise UserError(f"{folder}: there, but not complete; move it away, and the study's text is written anew")
    unfinished = folder.absolute().with_name(f".{folder.name}.{os.getpid()}")
    try:
        size = sum(_copy_modules(unfinished / "code"))
        (unfinished / "maths").mkdir()
        _write(unfinished / "maths" / "exercises.jsonl", ({"text": text} for text in exercises()))
        _write(unfinished / "problems.jsonl", problems())
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    tell(f"{folder}: {size / 1e6:.1f} MB of Python's standard library (PSF), exercises and problems of our own")


def _copy_modules(folder: Path) -> Iterator[int]:
    library = Path(sysconfig.get_paths()["stdlib"])
    for module in sorted(library.rglob("*.py")):
        path = module.relative_to(library)
        if LEFT_OUT.isdisjoint(path.parts):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(module, folder / path)
            yield module.stat().st_size


def _write(path: Path, rows: Iterator[JsonObject]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def exercises(documents: int = DOCUMENTS) -> Iterator[str]:
    """Documents of worked arithmetic with whole numbers from 0 to `LARGEST`."""
    draw = random.Random("exercises")
    for number in range(documents):
        yield "\n".join([f"Exercises {number + 1}", *(_exercise(draw) for _ in range(LINES))])


def _exercise(draw: random.Random) -> str:
    first, second, total = _sum(draw)
    match draw.randrange(8):
        case 0:
            return f"{first} + {second} = {total}"
        case 1:
            return f"{total} - {second} = {first}"
        case 2:
            return f"{WORDS[first].capitalize()} and {WORDS[second]} are {WORDS[total]}."
        case 3:
            return f"{WORDS[total].capitalize()} less {WORDS[second]} is {WORDS[first]}."
        case 4:
            unknown = draw.choice("xyz")
            return f"{unknown} + {second} = {total}, so {unknown} = {total} - {second} = {first}"
        case 5:
            who, what = draw.choice(PEOPLE), draw.choice(THINGS)
            return f"{who} has {first} {what} and finds {second}: {first} + {second} = {total} {what}."
        case 6:
            who, what = draw.choice(PEOPLE), draw.choice(THINGS)
            return f"{who} has {total} {what} and loses {second}: {total} - {second} = {first} {what}."
        case _:
            less = draw.randint(0, total)
            return f"{first} + {second} - {less} = {total} - {less} = {total - less}"


def _sum(draw: random.Random) -> tuple[int, int, int]:
    total = draw.randint(0, LARGEST)
    first = draw.randint(0, total)
    return first, total - first, total


def problems(count: int = PROBLEMS) -> Iterator[JsonObject]:
    """Rows of ``reasoning.files``: of kind `worked` and `program` in turns, of two to five names."""
    draw = random.Random("problems")
    for number in range(count):
        names = draw.sample(NAMES, 2 + number // 2 % 4)
        sentences, working, program, value = _chain(draw, names)
        row: JsonObject = {"answer": str(value), "answer_type": "number"}
        told = " ".join(sentences)
        if number % 2:
            asked = f"Write a program that prints {names[-1]}. {told}"
            lines = "\n".join([*program, f"print({names[-1]})"])
            yield row | {"task": "program", "question": asked, "reasoning": f"print {names[-1]}", "program": lines}
        else:
            asked = f"{told} What is {names[-1]}?"
            yield row | {"task": "worked", "question": asked, "reasoning": "\n".join(working)}


def _chain(draw: random.Random, names: list[str]) -> tuple[list[str], list[str], list[str], int]:
    """Sentences that give each name a value, their working, the same as statements of Python, and the last value."""
    values = {names[0]: draw.randint(1, 9)}
    sentences, working = [f"Let {names[0]} be {values[names[0]]}."], [f"{names[0]} = {values[names[0]]}"]
    program = list(working)
    for place, name in enumerate(names[1:], 1):
        earlier, sign, other, told = _step(draw, {known: values[known] for known in names[:place]})
        values[name] = values[earlier] + other if sign == "+" else values[earlier] - other
        sentences.append(f"Let {name} be {earlier} {SIGNS[sign]} {told}.")
        working.append(f"{name} = {values[earlier]} {sign} {other} = {values[name]}")
        program.append(f"{name} = {earlier} {sign} {told}")
    return sentences, working, program, values[names[-1]]


def _step(draw: random.Random, values: dict[str, int]) -> tuple[str, str, int, str]:
    """A name, a sign, a number and how it is told (as itself, or in two of five as another name that has it), such that
    the result is none of a name less itself, and not above `LARGEST`."""
    while True:
        earlier, other, number = draw.choice(list(values)), draw.choice(list(values)), draw.randint(1, 9)
        sign = draw.choice(list(SIGNS))
        second, told = (values[other], other) if draw.random() < 0.4 else (number, str(number))
        result = values[earlier] + second if sign == "+" else values[earlier] - second
        if 0 <= result <= LARGEST and told != earlier:
            return earlier, sign, second, told


if __name__ == "__main__":
    try:
        gather_code_first(Path(sys.argv[1]))
    except UserError as problem:
        sys.exit(f"error {problem}")
