"""What a person reads at the end of a run: a line per stage, a few answers of the model, and what to do next.

Written for a terminal of 80 columns and for a log file alike: colours only repeat what the words say. `outcome` turns
the metrics of a stage into that line; the report uses it too.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from flows.recipe.stages import CHECKPOINTS
from flows.report.accounts import kept_characters
from flows.run.record import RunRecord
from flows.run.records import Run, StageView, number
from infra.settings import Settings
from infra.store import Store
from infra.units import count, decimal, duration, percent, plural, printable, shorten, size

__all__ = ["LAST_CHECKPOINTS", "drops", "next_commands", "outcome", "print_summary", "quantization_points", "samples"]

LAST_CHECKPOINTS = CHECKPOINTS[::-1]
"""Checkpoints, the most finished first."""
STATE_STYLES = {
    "made": "green",
    "completed": "green",
    "cached": "cyan",
    "pinned": "cyan",
    "drifted": "cyan",
    "waited": "yellow",
    "running": "yellow",
    "cancelled": "yellow",
    "failed": "bold red",
}
SAMPLES = 3
PRECISIONS = ("f32", "bf16", "int8", "int4")


def print_summary(console: Console, record: RunRecord, store: Store, recipe: str = "") -> None:
    """Print the summary of a run that has ended, well or not; `recipe` is what the command line called its recipe."""
    run = Run(record, store)
    console.print()
    console.print(_headline(run))
    if run.error:
        console.print(Text(printable(run.error), style="red"), soft_wrap=True)
    if run.stages:
        console.print(_table(run))
    chosen = samples(run)
    if chosen:
        _print_samples(console, chosen)
    _print_places(console, run, recipe)
    console.print()


def _headline(run: Run) -> Text:
    text = Text()
    text.append(run.recipe_name, style="bold")
    text.append(" · ")
    text.append(run.state or "unknown", style=STATE_STYLES.get(run.state, ""))
    if run.seconds is not None:
        text.append(f" in {duration(run.seconds)}")
    if run.saved_seconds >= 1:
        text.append(f" · {duration(run.saved_seconds)} saved by the cache")
    return text


def _table(run: Run) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("stage", no_wrap=True)
    table.add_column("what happened", ratio=1)
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for stage in run.stages:
        table.add_row(
            stage.name,
            Text(outcome(stage, run) or stage.why),
            size(stage.manifest.size) if stage.manifest else "",
            "" if stage.reused else duration(stage.seconds),
            Text(stage.state, style=STATE_STYLES.get(stage.state, "")),
        )
    return table


def outcome(stage: StageView, run: Run) -> str:
    """What came of a stage, in one line; empty where nothing is known."""
    if stage.name in ("register", "promote"):
        return _release_outcome(stage.name, run)
    if stage.manifest is None:
        return ""
    phrases = _OUTCOMES.get(stage.name, _documents)(stage, run)
    return "; ".join(phrase for phrase in phrases if phrase)


def _documents(stage: StageView, run: Run) -> Iterator[str]:
    """Any stage of documents."""
    before, after = stage.number("documents_in"), stage.number("documents_out")
    if after is None:
        return
    length = stage.number("bytes_out")
    text = f", {size(length)}" if length else ""
    if before is None or before == after:
        yield f"{plural(after, 'document')}{text}"
    else:
        yield f"{count(before)} → {plural(after, 'document')}{text}"
    yield kept_characters(stage.metrics)
    reasons = drops(stage)
    if reasons:
        chief = ", ".join(f"{count(hits)} {shorten(rule, 24)}" for rule, hits in reasons[:2])
        yield f"dropped {chief}{', …' if len(reasons) > 2 else ''}"


def drops(stage: StageView) -> list[tuple[str, float]]:
    """Rules of a document stage and how many documents each dropped, most first."""
    found = stage.metrics.get("dropped")
    names = found if isinstance(found, Mapping) else {}
    hits = [(str(rule), value) for rule in names if (value := number(names, rule))]
    return sorted(hits, key=lambda item: (-item[1], item[0]))


def _recall(stage: StageView, run: Run) -> Iterator[str]:
    found, rounds = stage.metrics.get("recalled"), stage.metrics.get("rounds")
    if isinstance(found, Mapping):
        for name in sorted(found):
            pages, took = number(found, name), number(rounds, name)
            yield f"{plural(pages or 0, 'page')} of {name}" + (f" in {plural(took, 'round')}" if took else "")


def _reasoning(stage: StageView, run: Run) -> Iterator[str]:
    splits = [(split, stage.number(split, f"{split}_tasks", f"{split}_rows", f"splits.{split}")) for split in SPLITS]
    known = [f"{count(value)} {split}" for split, value in splits if value is not None]
    if known:
        yield f"problems: {', '.join(known)}"


def _tokenizer(stage: StageView, run: Run) -> Iterator[str]:
    vocabulary = stage.number("vocabulary")
    if vocabulary is not None:
        yield f"{count(vocabulary)} tokens{', adopted' if stage.metrics.get('adopted') else ''}"
    found = stage.metrics.get("bytes_per_token")
    ratios = [ratio for name in found if (ratio := number(found, name))] if isinstance(found, Mapping) else []
    if ratios:
        low, high = decimal(min(ratios)), decimal(max(ratios))
        yield f"{low} bytes per token" if low == high else f"{low} to {high} bytes per token"


def _shards(stage: StageView, run: Run) -> Iterator[str]:
    tokens, held_out = stage.number("train_tokens"), stage.number("validation_tokens")
    if tokens is not None:
        yield f"{count(tokens)} training tokens" + (f", {count(held_out)} held out" if held_out else "")
    yield kept_characters(stage.metrics)
    ratio = stage.number("bytes_per_token")
    if ratio is not None:
        yield f"{decimal(ratio)} bytes per token"


def _training(stage: StageView, run: Run) -> Iterator[str]:
    total, active = stage.number("parameters"), stage.number("parameters_active")
    if total is not None:
        yield f"{count(total)} parameters" + (f" ({count(active)} active)" if active and active != total else "")
    yield _change(stage, "loss", ("loss_before", "train_loss_first"), ("loss_after", "train_loss_last"), decimal)
    yield _change(stage, "bits per byte", ("bits_per_byte_before",), ("bits_per_byte_after",), decimal)
    for part in ("domain", "general"):
        name = f"bits_per_byte_{part}"
        yield _change(stage, f"{part} bits per byte", (f"{name}_before",), (f"{name}_after",), decimal)
    yield _change(stage, "accuracy", ("accuracy_before",), ("accuracy_after", "accuracy"), percent)
    tokens, speed = stage.number("tokens"), stage.number("tokens_per_second")
    if tokens:
        yield f"{count(tokens)} tokens" + (f" at {count(speed)}/s" if speed else "")


def _grpo(stage: StageView, run: Run) -> Iterator[str]:
    yield _change(stage, "accuracy", ("accuracy_before",), ("accuracy_after", "accuracy"), percent)
    yield _change(stage, "reward", ("reward_before", "reward_first"), ("reward_after", "reward_last"), decimal)
    divergence = stage.number("kl_after", "kl_last", "kl")
    if divergence is not None:
        yield f"KL {decimal(divergence)}"


def _rejection(stage: StageView, run: Run) -> Iterator[str]:
    share, rows = stage.number("accepted_share"), stage.number("train_tasks")
    if share is not None:
        yield f"{percent(share)} of {count(stage.number('answers') or 0)} answers right"
    if rows is not None:
        yield f"{count(rows)} kept to learn from"


def _change(stage: StageView, what: str, before: tuple[str, ...], after: tuple[str, ...], form: Any) -> str:
    first, last = stage.number(*before), stage.number(*after)
    if last is None:
        return ""
    return f"{what} {form(last)}" if first is None else f"{what} {form(first)} → {form(last)}"


def _evaluate(stage: StageView, run: Run) -> Iterator[str]:
    found = run.evaluation.get("checkpoints") or stage.metrics.get("checkpoints") or {}
    steps, last = [], {}
    for name in reversed(LAST_CHECKPOINTS):
        accuracy = number(found, f"{name}.accuracy")
        if accuracy is not None:
            steps.append(f"{name} {percent(accuracy)}")
            last = found[name]
    if steps:
        low, high = number(last, "accuracy_low"), number(last, "accuracy_high")
        interval = f" ({percent(low)} to {percent(high)})" if low is not None and high is not None else ""
        yield f"accuracy {' → '.join(steps)}{interval}"
    problems = number(last, "problems")
    if problems:
        yield plural(problems, "problem")


def _quantize(stage: StageView, run: Run) -> Iterator[str]:
    points = quantization_points(run)
    if points:
        yield " → ".join(f"{name} {size(length)}" for name, length, _ in points)
        name, _, divergence = points[-1]
        yield f"KL {decimal(divergence)} at {name}"


def quantization_points(run: Run) -> list[tuple[str, float, float]]:
    """Name, bytes and divergence from full precision (nats per token) of each precision, largest first."""
    stage = run.stage("quantize")
    kept = stage.json("quantization.json")
    points = []
    for name in PRECISIONS:
        length = number(kept, f"precisions.{name}.bytes", f"variants.{name}.bytes") or stage.number(f"bytes_{name}")
        if length is not None:
            divergence = number(kept, f"precisions.{name}.kl", f"variants.{name}.kl") or stage.number(f"kl_{name}")
            points.append((name, length, divergence or 0.0))
    return sorted(points, key=lambda point: (-point[1], point[0]))


def _export(stage: StageView, run: Run) -> Iterator[str]:
    if stage.manifest is None:
        return
    largest: dict[str, int] = {}
    for file in stage.manifest.files:
        kind = {"gguf": "GGUF", "safetensors": "safetensors"}.get(file.path.rpartition(".")[2])
        if kind:
            largest[kind] = largest.get(kind, 0) + file.size
    yield ", ".join(f"{kind} {size(length)}" for kind, length in sorted(largest.items()))


def _release_outcome(name: str, run: Run) -> str:
    release = run.release
    if not release.model:
        return ""
    what = f"{release.model} version {release.version or '?'}"
    if name == "register":
        return shorten(what, 80)
    failed = [gate.gate for gate in release.gates if not gate.passed]
    alias = release.alias or "champion"
    if release.promoted:
        after = f", after version {release.previous}" if release.previous else ""
        return shorten(f"{what} is {alias}{after}", 100)
    return shorten(f"{what} is not {alias}: {', '.join(failed) or 'not promoted'}", 100)


SPLITS = ("train", "validation", "test")
_OUTCOMES = {
    "recall": _recall,
    "reasoning": _reasoning,
    "tokenizer": _tokenizer,
    "shards": _shards,
    "pretrain": _training,
    "student": _training,
    "continued": _training,
    "sft": _training,
    "sft_second": _training,
    "distill": _training,
    "dpo": _grpo,
    "grpo": _grpo,
    "grpo_second": _grpo,
    "rejection": _rejection,
    "evaluate": _evaluate,
    "quantize": _quantize,
    "export": _export,
}


def samples(run: Run, limit: int = SAMPLES) -> list[dict[str, Any]]:
    """A few answers of the most finished checkpoint, right ones and wrong ones."""
    found = run.evaluation.get("samples")
    rows = [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []
    for name in LAST_CHECKPOINTS:
        mine = [row for row in rows if row.get("checkpoint") == name]
        right = [row for row in mine if row.get("correct")]
        wrong = [row for row in mine if not row.get("correct")]
        if mine:
            kept = right[: max(limit - 1, limit - len(wrong))]
            return kept + wrong[: limit - len(kept)]
    return rows[:limit]


def _print_samples(console: Console, rows: list[dict[str, Any]]) -> None:
    console.print()
    console.print(Text(f"What {rows[0].get('checkpoint', 'the model')} answers", style="bold"))
    width = max(console.width - 2, 20)
    for row in rows:
        right = bool(row.get("correct"))
        text = Text()
        text.append(f"Q {shorten(row.get('question', ''), 2 * width - 8)}\n")
        thoughts = shorten(row.get("reasoning") or "", width - 4)
        if thoughts:
            text.append(f"  {thoughts}\n", style="dim italic")
        text.append(f"A {shorten(row.get('answer', ''), width - 30) or '(none)'}")
        text.append("  ✓ right" if right else "  ✗ wrong", style="green" if right else "red")
        if not right:
            text.append(f", it is {shorten(row.get('expected', ''), 24)}", style="dim")
        console.print(Padding(text, (0, 0, 0, 2), expand=False))


def _print_places(console: Console, run: Run, recipe: str) -> None:
    console.print()
    places = []
    page = store_page(run)
    report = run.record.report or (page if page.exists() else None)
    if report:
        places.append(("Report", shorten(report, 4096)))
    tracking = shorten(run.record.mlflow.get("uri") or "", 4096)
    if tracking.startswith(("http://", "https://")):
        places.append(("MLflow", re.sub(r"//[^/@]*@", "//", tracking)))
    elif tracking:
        places.append(("MLflow", f"{_program('mlflow')} ui --backend-store-uri {shlex.quote(tracking)}"))
    if run.release.model:
        places.append(("Model", _release_outcome("promote", run)))
        exported = run.stage("export")
        if exported and exported.identity:
            places.append(("", f"files in {run.store.place('export', exported.identity)}"))
    elif run.record.root:
        places.append(("Store", shorten(run.record.root, 4096)))
    for name, text in places:
        line = Text(f"{name:8}", style="bold").append(text, style="not bold")
        console.print(line, soft_wrap=True)
    console.print(Text("Next", style="bold"))
    for command in next_commands(run, _program("deepmill"), recipe):
        console.print(Text(f"        {command}"), soft_wrap=True)


def store_page(run: Run) -> Path:
    """Where the report of a run lies unless it was wanted elsewhere."""
    return run.store.local / "runs" / f"{run.run_id}.html"


def _program(name: str) -> str:
    """How to call a program from the shell: by name where that works, else by the path beside this Python."""
    beside = Path(sys.executable).parent / name
    if shutil.which(name) or not beside.exists():
        return name
    return shlex.quote(str(beside.relative_to(Path.cwd()) if beside.is_relative_to(Path.cwd()) else beside))


def next_commands(run: Run, program: str = "deepmill", recipe: str = "") -> list[str]:
    """Commands worth trying after this run; the first about what there is, the last one a change.

    They name the store where it is not the one that a command without settings takes.
    """
    recipe = shlex.quote(shorten(recipe or run.recipe_name, 200))
    root = str(run.record.root or "")
    if root and root != Settings.model_fields["root"].default:
        program = f"DEEPMILL_ROOT={shlex.quote(shorten(root, 4096))} {program}"
    report = f"{program} report {shlex.quote(shorten(run.run_id, 200))}"
    if run.state != "completed":
        return [f"{program} run {recipe}", report, f"{program} plan {recipe}"]
    steps = number(run.recipe, "pretrain.steps")
    change = f"{program} plan {recipe}" + (f" --set pretrain.steps={2 * int(steps)}" if steps else "")
    if not run.release.model:
        return [report, change]
    model = shorten(run.release.model, 200)
    version = run.release.version
    reference = f"{model}@{run.release.alias or 'champion'}"
    if not run.release.promoted and version:
        reference = f"{model}/{shorten(version, 40)}"
    return [f"{program} chat {shlex.quote(reference)}", report, change]
