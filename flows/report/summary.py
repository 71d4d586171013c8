"""What a person reads at the end of a run: a line per stage, a few answers of the model, and what to do next.

Written for a terminal of 80 columns and for a log file alike: colours only repeat what the words say. `outcome` turns
the metrics of a stage into that line; the report uses it too.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from functools import singledispatch

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from flows.recipe.stages import CHECKPOINTS
from flows.report.accounts import kept_characters
from flows.report.commands import next_commands, path_of_program
from flows.run.record import RunRecord, report_file
from flows.run.run_view import Run, StageView
from infra.store import Store
from infra.units import count, decimal, duration, percent, plural, printable, shorten, size
from model.facts.evaluation import RELEASE, EvaluateMetrics, Sample
from model.facts.release import ExportMetrics, QuantizeMetrics
from model.facts.training import (
    ContinuedMetrics,
    DpoMetrics,
    Forgetting,
    GrpoMetrics,
    PretrainMetrics,
    RejectionMetrics,
    SftMetrics,
    StartMetrics,
    TrainingMetrics,
)
from pipeline.index.card import IndexMetrics
from pipeline.reasoning.chats import ConversationsMetrics
from pipeline.reasoning.problems import ReasoningMetrics
from pipeline.recall.rounds import RecallMetrics
from pipeline.tasks.ledger import DocumentMetrics
from pipeline.tokens.metrics import ShardMetrics, TokenizerMetrics
from pipeline.tokens.passes import repeated

__all__ = [
    "LAST_CHECKPOINTS",
    "drops",
    "outcome",
    "print_summary",
    "quantization_points",
    "samples",
]

LAST_CHECKPOINTS = (RELEASE, *CHECKPOINTS[::-1])
"""Checkpoints, the most finished first; before them what is served, where that is another model."""
STATE_STYLES = {
    "made": "green",
    "completed": "green",
    "cached": "cyan",
    "pinned": "cyan",
    "drifted": "cyan",
    "held back": "yellow",
    "running": "yellow",
    "cancelled": "yellow",
    "failed": "bold red",
}
SAMPLES = 3


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
    return "; ".join(phrase for phrase in _phrases(stage.measured, stage, run) if phrase)


@singledispatch
def _phrases(found: object, stage: StageView, run: Run) -> Iterator[str]:
    """What came of a stage, by the kind of its metrics."""
    return iter(())


@_phrases.register
def _(found: DocumentMetrics, stage: StageView, run: Run) -> Iterator[str]:
    before, after = found.documents_in, found.documents_out
    if not before and not after:
        return
    text = f", {size(found.bytes_out)}" if found.bytes_out else ""
    kept = plural(after, "document")
    yield f"{kept}{text}" if before in (0, after) else f"{count(before)} → {kept}{text}"
    yield kept_characters(found)
    reasons = drops(found)
    if reasons:
        chief = ", ".join(f"{count(hits)} {shorten(rule, 24)}" for rule, hits in reasons[:2])
        yield f"dropped {chief}{', …' if len(reasons) > 2 else ''}"


def drops(found: DocumentMetrics) -> list[tuple[str, float]]:
    """Rules of a document stage and how many documents each dropped, most first."""
    hits = [(rule, float(number)) for rule, number in found.dropped.items() if number]
    return sorted(hits, key=lambda item: (-item[1], item[0]))


@_phrases.register
def _(found: RecallMetrics, stage: StageView, run: Run) -> Iterator[str]:
    for name, pages in sorted(found.recalled.items()):
        took = found.rounds.get(name)
        yield f"{plural(pages, 'page')} of {name}" + (f" in {plural(took, 'round')}" if took else "")


@_phrases.register
def _(found: ReasoningMetrics, stage: StageView, run: Run) -> Iterator[str]:
    splits = (("train", found.train_tasks), ("validation", found.validation_tasks), ("test", found.test_tasks))
    known = [f"{count(value)} {split}" for split, value in splits if value is not None]
    if known:
        yield f"problems: {', '.join(known)}"


@_phrases.register
def _(found: IndexMetrics, stage: StageView, run: Run) -> Iterator[str]:
    if found.tokens is not None:
        yield f"{plural(found.tokens, 'token')} of {plural(found.documents or 0, 'document')}"
    if found.index_bytes is not None:
        yield f"{size(found.index_bytes)} in {plural(found.pieces or 0, 'piece')}"


@_phrases.register
def _(found: ConversationsMetrics, stage: StageView, run: Run) -> Iterator[str]:
    train, held_out = found.train_conversations, found.validation_conversations
    if train is not None:
        yield f"{count(train)} conversations" + (f", {count(held_out)} held out" if held_out else "")
    if found.answers:
        yield plural(found.answers, "answer")
    if found.rejected:
        yield f"{count(found.rejected)} rejected"


@_phrases.register
def _(found: TokenizerMetrics, stage: StageView, run: Run) -> Iterator[str]:
    if found.vocabulary is not None:
        yield f"{count(found.vocabulary)} tokens{', adopted' if found.adopted else ''}"
    ratios = [ratio for ratio in (found.bytes_per_token or {}).values() if ratio]
    if ratios:
        low, high = decimal(min(ratios)), decimal(max(ratios))
        yield f"{low} bytes per token" if low == high else f"{low} to {high} bytes per token"


@_phrases.register
def _(found: ShardMetrics, stage: StageView, run: Run) -> Iterator[str]:
    tokens, held_out = found.train_tokens, found.validation_tokens
    if tokens:
        yield f"{count(tokens)} training tokens" + (f", {count(held_out)} held out" if held_out else "")
    yield kept_characters(found)
    if found.bytes_per_token is not None:
        yield f"{decimal(found.bytes_per_token)} bytes per token"


@_phrases.register
def _(found: TrainingMetrics, stage: StageView, run: Run) -> Iterator[str]:
    if isinstance(found, PretrainMetrics | ContinuedMetrics) and found.parameters is not None:
        active = found.parameters_active if isinstance(found, PretrainMetrics) else None
        told = f" ({count(active)} active)" if active and active != found.parameters else ""
        yield f"{count(found.parameters)} parameters{told}"
    before, after = found.loss_before, found.loss_after
    yield _change("loss", before or found.train_loss_first, after or found.train_loss_last, decimal)
    yield _change("bits per byte", found.bits_per_byte_before, found.bits_per_byte_after, decimal)
    if isinstance(found, ContinuedMetrics):
        domain, general = "domain bits per byte", "general bits per byte"
        yield _change(domain, found.bits_per_byte_domain_before, found.bits_per_byte_domain_after, decimal)
        yield _change(general, found.bits_per_byte_general_before, found.bits_per_byte_general_after, decimal)
    if isinstance(found, PretrainMetrics | ContinuedMetrics):
        yield _repeats(stage, run)
    if isinstance(found, SftMetrics):
        yield _change("accuracy", None, found.accuracy, percent)
        yield _forgotten(found)
    if found.tokens:
        yield f"{count(found.tokens)} tokens" + (
            f" at {count(found.tokens_per_second)}/s" if found.tokens_per_second else ""
        )


def _repeats(stage: StageView, run: Run) -> str:
    """The sources that a training read more often than serves."""
    shards = run.stage("shards").measured_as(ShardMetrics)
    config = stage.manifest.config if stage.manifest else {}
    steps, batch, mixture = (config.get(key) for key in ("steps", "batch_size", "mixture"))
    if shards is None or not isinstance(steps, int) or not isinstance(batch, int):
        return ""
    rows = {source: found.train_rows for source, found in shards.by_source.items()}
    weights = {str(name): float(str(weight)) for name, weight in mixture.items()} if isinstance(mixture, dict) else None
    return repeated(rows, weights, steps * batch)


@_phrases.register
def _(found: StartMetrics, stage: StageView, run: Run) -> Iterator[str]:
    if found.parameters is not None:
        yield f"{count(found.parameters)} parameters"
    if found.tokens_added:
        yield f"{plural(found.tokens_added, 'token')} added"


@_phrases.register
def _(found: DpoMetrics, stage: StageView, run: Run) -> Iterator[str]:
    yield _change("accuracy", found.accuracy_before, found.accuracy_after, percent)
    yield _forgotten(found)
    if found.pairs is not None:
        yield plural(found.pairs, "pair")


@_phrases.register
def _(found: GrpoMetrics, stage: StageView, run: Run) -> Iterator[str]:
    yield _change("accuracy", found.accuracy_before, found.accuracy_after, percent)
    yield _change("reward", found.reward_before, found.reward_after, decimal)
    if found.kl_last is not None:
        yield f"KL {decimal(found.kl_last)}"
    yield _forgotten(found)


@_phrases.register
def _(found: RejectionMetrics, stage: StageView, run: Run) -> Iterator[str]:
    if found.accepted_share is not None:
        yield f"{percent(found.accepted_share)} of {count(found.answers or 0)} answers right"
    if found.train_tasks is not None:
        yield f"{count(found.train_tasks)} kept to learn from"


def _forgotten(found: Forgetting) -> str:
    """Bits per byte of the source of text that a stage forgot most of."""
    source = found.most_forgotten
    before, after = (found.named(f"bits_per_byte_{source}_{place}") for place in ("before", "after"))
    if source is None or before is None or after is None:
        return ""
    return _change(f"bits per byte of {shorten(source, 24)}", before, after, decimal)


def _change(what: str, first: float | None, last: float | None, form: Callable[[float], str]) -> str:
    if last is None:
        return ""
    return f"{what} {form(last)}" if first is None else f"{what} {form(first)} → {form(last)}"


@_phrases.register
def _(found: EvaluateMetrics, stage: StageView, run: Run) -> Iterator[str]:
    checkpoints = run.evaluation.checkpoints
    judged = [(name, checkpoints[name]) for name in reversed(LAST_CHECKPOINTS) if name in checkpoints]
    of_release = [name == RELEASE for name, _ in judged]
    if stage.name == "evaluate_release":
        judged = judged[-2:]  # the last checkpoint, and what became of it
    elif any(of_release):
        judged = judged[:-1]
    steps = [f"{name} {percent(marks.accuracy)}" for name, marks in judged if marks.accuracy is not None]
    if not steps:
        return
    last = judged[-1][1]
    interval = " ({} to {})".format(*map(percent, last.interval)) if last.interval else ""
    yield f"accuracy {' → '.join(steps)}{interval}"
    if last.problems:
        yield plural(last.problems, "problem")


@_phrases.register
def _(found: QuantizeMetrics, stage: StageView, run: Run) -> Iterator[str]:
    points = quantization_points(run)
    if points:
        bits = {name: facts.bits_per_weight for name, facts in run.quantization.precisions.items()}
        told = {name: f" ({each:.1f} bits per weight)" if each else "" for name, each in bits.items()}
        yield " → ".join(f"{name} {size(length)}{told[name]}" for name, length, _ in points)
        name, _, divergence = points[-1]
        yield f"KL {decimal(divergence)} at {name}"


def quantization_points(run: Run) -> list[tuple[str, float, float]]:
    """Name, bytes and divergence from full precision (nats per token) of each precision, largest first."""
    points = [
        (name, float(facts.bytes), facts.kl or 0.0)
        for name, facts in run.quantization.precisions.items()
        if facts.bytes is not None
    ]
    return sorted(points, key=lambda point: (-point[1], point[0]))


@_phrases.register
def _(found: ExportMetrics, stage: StageView, run: Run) -> Iterator[str]:
    if stage.manifest is None:
        return
    largest: dict[str, int] = {}
    for file in stage.manifest.files:
        kind = {"gguf": "GGUF", "safetensors": "safetensors"}.get(file.path.rpartition(".")[2])
        if kind:
            largest[kind] = largest.get(kind, 0) + file.size
    yield ", ".join(f"{kind} {size(length)}" for kind, length in sorted(largest.items()))
    if (peak := found.peak_bytes("q4_0")) is not None:
        yield f"q4_0 takes {size(peak)} of memory"


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


def samples(run: Run) -> list[Sample]:
    """A few answers of the most finished checkpoint, right ones and wrong ones."""
    rows = run.evaluation.samples
    for name in LAST_CHECKPOINTS:
        mine = [row for row in rows if row.checkpoint == name]
        right = [row for row in mine if row.correct]
        wrong = [row for row in mine if not row.correct]
        if mine:
            kept = right[: max(SAMPLES - 1, SAMPLES - len(wrong))]
            return kept + wrong[: SAMPLES - len(kept)]
    return rows[:SAMPLES]


def _print_samples(console: Console, rows: list[Sample]) -> None:
    console.print()
    console.print(Text(f"What {rows[0].checkpoint or 'the model'} answers", style="bold"))
    width = max(console.width - 2, 20)
    for row in rows:
        text = Text()
        text.append(f"Q {shorten(row.question, 2 * width - 8)}\n")
        reasoning = shorten(row.reasoning, width - 4)
        if reasoning:
            text.append(f"  {reasoning}\n", style="dim italic")
        text.append(f"A {shorten(row.answer, width - 30) or '(none)'}")
        text.append("  ✓ right" if row.correct else "  ✗ wrong", style="green" if row.correct else "red")
        if not row.correct:
            text.append(f", it is {shorten(row.expected, 24)}", style="dim")
        console.print(Padding(text, (0, 0, 0, 2), expand=False))


def _print_places(console: Console, run: Run, recipe: str) -> None:
    console.print()
    places = []
    page = report_file(run.store, run.run_id)
    report = run.record.report or (page if page.exists() else None)
    if report:
        places.append(("Report", shorten(report, 4096)))
    tracking = shorten(run.record.mlflow.get("uri") or "", 4096)
    if tracking.startswith(("http://", "https://")):
        places.append(("MLflow", re.sub(r"//[^/@]*@", "//", tracking)))
    elif tracking:
        places.append(("MLflow", f"{path_of_program('mlflow')} ui --backend-store-uri {shlex.quote(tracking)}"))
    if run.release.model:
        places.append(("Model", _release_outcome("promote", run)))
        exported = run.stage("export")
        if exported.identity:
            places.append(("", f"files in {run.store.place('export', exported.identity)}"))
    elif run.record.root:
        places.append(("Store", shorten(run.record.root, 4096)))
    for name, text in places:
        line = Text(f"{name:8}", style="bold").append(text, style="not bold")
        console.print(line, soft_wrap=True)
    console.print(Text("Next", style="bold"))
    for command in next_commands(run, path_of_program("deepmill"), recipe):
        console.print(Text(f"        {command}"), soft_wrap=True)
