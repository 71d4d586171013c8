"""What the recipe that people meet first promises: ``python -m bench.sample [RECIPE] [--seeds N] [--root STORE] [--json
FILE]``.

Runs the recipe as it is, or once per seed (of the weights, the order of the data and the samples; the data stages are
shared), and asks the released model what its users ask: sums, everyday messages that no conversation of the sample
holds, a second sum in the same conversation, and who it is. A store that has the runs already is only asked.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from bench.table import Row, print_table, row, write_rows
from flows.recipe.recipe import load_recipe
from flows.run.record import records
from flows.run.run_view import Run
from infra.open_store import open_store
from infra.settings import Settings
from pipeline.sample.conversations import EVERYDAY

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from model.architecture.transformer import Transformer
    from pipeline.reasoning.problems import Problem
    from pipeline.tokens.chat import Turn

__all__ = ["main"]

SEEDED = ("pretrain", "sft", "grpo")


def main() -> None:
    """Run, ask, print a table, and with ``--json`` write its rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", nargs="?", default="sample")
    parser.add_argument("--seeds", type=int, default=0, help="0 to N-1; the recipe's own when left out")
    parser.add_argument("--root", type=Path, help="the store; a temporary one when left out")
    parser.add_argument("--set", action="append", default=[], help="section.key=value, as in `deepmill run`")
    parser.add_argument("--json", type=Path, help="where the rows go")
    chosen = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        root = chosen.root or Path(scratch)
        for seed in range(chosen.seeds) if chosen.seeds else (None,):
            seeds = [] if seed is None else [f"{stage}.seed={seed}" for stage in SEEDED]
            found = promises(run(chosen.recipe, [*chosen.set, *seeds], root))
            print("the recipe's own seeds" if seed is None else f"seed {seed}")
            print_table(found)
            rows += [{"seed": seed, **entry} for entry in found]
    write_rows(rows, chosen.json)


def run(recipe: str, settings: Sequence[str], root: Path) -> Run:
    """The recipe's finished run with these settings; made where the store has none."""
    wanted = load_recipe(recipe, settings).model_dump(mode="json")
    store = open_store(Settings(root=str(root)))
    there = (record for record in records(store) if record.recipe == wanted and record.state == "completed")
    record = next(there, None)
    if record is None:
        command = [sys.executable, "-m", "flows.cli", "run", recipe, "--root", str(root)]
        subprocess.run([*command, *(part for setting in settings for part in ("--set", setting))], check=True)
        record = next(records(store))
    return Run(record, store)


def promises(made: Run) -> list[Row]:
    """What a run's model does, beside what was asked of it."""
    marks = made.evaluation.checkpoints
    base, last = "pretrain", "grpo"
    tuned = marks["sft"].accuracy or 0.0
    rises = {name: marks[last].bits_per_byte[name] / value for name, value in marks[base].bits_per_byte.items()}
    accuracy, low = marks[last].accuracy or 0.0, marks[last].accuracy_low or 0.0
    rows = [
        row("sums of three", "%", 100 * accuracy, {}, 85),
        row("its interval's lower end", "%", 100 * low, {}, 80),
        row("grpo above sft", "points", 100 * (accuracy - tuned), {}, 10),
        *(
            row(f"bits per byte of {name}, of the base", "", value, {}, 1.05, most=True)
            for name, value in rises.items()
        ),
        row("whole run", "s", made.seconds or 0.0, {}, None),
    ]
    return [*rows, *four_bits(made, last), *conversation(made, last)]


def four_bits(made: Run, stage: str) -> list[Row]:
    """What is lost by four bits per weight: the served model is asked what `evaluate` asked the model of `stage`."""
    from model.evaluation.evaluate import evaluate_release
    from model.evaluation.sections import EvaluateReleaseConfig
    from model.facts.evaluation import RELEASE, read_evaluation

    config = EvaluateReleaseConfig.model_validate(made.recipe["evaluate"])
    needed = ("quantize", "shards", "reasoning", "tokenizer", "decontaminate")
    inputs = {name: folder for name in needed if (folder := made.stage(name).folder)}
    with tempfile.TemporaryDirectory() as scratch:
        evaluate_release(config, inputs, Path(scratch))
        served = read_evaluation(Path(scratch)).checkpoints[RELEASE]
    whole = made.evaluation.checkpoints[stage]
    before, after = (fmean(marks.bits_per_byte.values()) for marks in (whole, served))
    lost = 100 * ((whole.accuracy or 0.0) - (served.accuracy or 0.0))
    return [
        row("4 bits below the model, sums", "points", lost, {}, 1, most=True),
        row("4 bits, bits per byte", "", after, {"the model": before}, None),
        row("4 bits, bits per byte, of the model's", "", after / before, {}, 1.01, most=True),
    ]


def conversation(made: Run, stage: str) -> list[Row]:
    """What the model of `stage` says to people."""
    from model.architecture.checkpoint import load_model
    from pipeline.reasoning.problems import read_tasks
    from pipeline.tokens.chat import read_tokenizer

    folder, reasoning = made.stage(stage).folder, made.stage("reasoning").folder
    assert folder is not None
    assert reasoning is not None
    model = load_model(folder / "model").eval()
    tokenizer = read_tokenizer(folder / "model")
    problems = read_tasks(reasoning / "test.jsonl")
    said = say(model, tokenizer, [*EVERYDAY, "Hello"])
    for message, answer in zip([*EVERYDAY, "Hello"], said, strict=True):
        print(f"  {message!r}: {answer!r}")
    first, second = turns(model, tokenizer, problems)
    introduces = all(word in said[-1] for word in ("Deepmill", "add"))
    return [
        row(
            "everyday messages answered with nothing",
            "of 30",
            sum(not answer for answer in said[:-1]),
            {},
            0,
            most=True,
        ),
        row("Hello: who it is and what it can do", "", float(introduces), {}, 1),
        row("second turn below the first", "points", 100 * (first - second), {}, 5, most=True),
    ]


def say(model: Transformer, tokenizer: Tokenizer, messages: Sequence[str]) -> list[str]:
    """Greedy answers to single messages; one without an end is none."""
    from pipeline.tokens.chat import Turn

    return [answer for answer, _ in _answers(model, tokenizer, [[Turn("user", message)] for message in messages])]


def turns(model: Transformer, tokenizer: Tokenizer, problems: Sequence[Problem]) -> tuple[float, float]:
    """Accuracy of the problems asked first, and asked after another one that the model has answered."""
    from pipeline.reasoning.scoring import mark_answers
    from pipeline.tokens.chat import Turn

    asked = [[Turn("user", problem["question"])] for problem in problems]
    first = _answers(model, tokenizer, asked)
    before = [[*turn, Turn("assistant", answer, thought)] for turn, (answer, thought) in zip(asked, first, strict=True)]
    second = _answers(model, tokenizer, [before[place - 1] + asked[place] for place in range(len(asked))])
    right, later = (
        fmean(mark.score for mark in mark_answers([answer for answer, _ in found], problems))
        for found in (first, second)
    )
    return right, later


def _answers(model: Transformer, tokenizer: Tokenizer, chats: Sequence[Sequence[Turn]]) -> list[tuple[str, str]]:
    """Answer and reasoning, greedily."""
    from model.generation.generate import Sampling, generate
    from model.generation.reasoning import split_reasoning
    from pipeline.tokens.chat import chat_format

    chat = chat_format(tokenizer)
    found = generate(model, [chat.prompt(turns) for turns in chats], Sampling(96), stop=chat.eos, logprobs=False)
    parts = []
    for completion in found:
        thought, answer = split_reasoning(chat.begun + chat.said(completion.tokens))
        parts.append((answer.strip() if completion.finished else "", thought))
    return parts


if __name__ == "__main__":
    main()
