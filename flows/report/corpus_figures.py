"""What the report shows of the corpus: what each stage kept of each source, and why it dropped the rest."""

from __future__ import annotations

from collections.abc import Mapping

from flows.report import charts
from flows.report.accounts import flows_of
from flows.report.figures import Chart, Section, chart, section
from flows.report.summary import drops
from flows.run.run_view import Run
from infra.units import decimal
from pipeline.tasks.ledger import DocumentMetrics
from pipeline.tokens.metrics import ShardMetrics, TokenizerMetrics

__all__ = ["corpus_section"]

RULES_SHOWN = 12


def corpus_section(run: Run) -> Section | None:
    """The accounts of the run's sources, stage by stage; None where nothing of a corpus was made."""
    stages = {
        stage.name: metrics
        for stage in run.stages
        if (metrics := stage.measured_as(DocumentMetrics)) is not None and not isinstance(metrics, ShardMetrics)
    }
    return section(
        "corpus",
        "Corpus",
        "From raw files to packed rows of tokens: what each stage kept, and why it dropped the rest.",
        [
            each
            for source, svg, caption in flows_of(run)
            for each in chart(f"Where the characters of {source} went", svg, caption)
        ],
        _funnel(stages),
        _rules(stages),
        _duplicates(run),
        _sources(stages),
        _mixture(run),
        _compression(run),
    )


def _funnel(stages: Mapping[str, DocumentMetrics]) -> list[Chart]:
    bars = []
    for name, metrics in stages.items():
        kept = metrics.documents_out
        dropped = max((metrics.documents_in or kept) - kept, sum(hits for _, hits in drops(metrics)))
        bars.append((name, {"kept": float(kept), "dropped": float(dropped)}))
    return chart("Documents by stage", charts.stacks("funnel", bars, label="Documents kept and dropped by stage"))


def _rules(stages: Mapping[str, DocumentMetrics]) -> list[Chart]:
    found = ((f"{name} · {rule}", hits) for name, metrics in stages.items() for rule, hits in drops(metrics))
    rules = sorted(found, key=lambda row: -row[1])
    return chart(
        "Why documents were dropped",
        charts.bars("rules", rules[:RULES_SHOWN], label="Documents dropped by rule"),
        f"The {RULES_SHOWN} chief rules of {len(rules)}." if len(rules) > RULES_SHOWN else "",
    )


def _duplicates(run: Run) -> list[Chart]:
    copies = run.stage("dedup").measured_as(DocumentMetrics)
    found = drops(copies) if copies else []
    label = "Duplicates removed, by how they were found"
    return chart("Duplicates", charts.bars("dedup", found, label=label), "Documents removed, by how they were found.")


def _sources(stages: Mapping[str, DocumentMetrics]) -> list[Chart]:
    """Nothing where there is one source: the funnel says it."""
    counts = [
        (name, {source: float(account.documents_out) for source, account in metrics.by_source.items()})
        for name, metrics in stages.items()
    ]
    if len({source for _, by_source in counts for source in by_source}) < 2:
        return []
    drawn = charts.stacks("sources", counts, label="Documents of each source after each stage")
    return chart("Documents by source", drawn, "After each stage.")


def _mixture(run: Run) -> list[Chart]:
    shards = run.stage("shards").measured_as(ShardMetrics)
    by_source = shards.by_source if shards else {}
    tokens = [(source, float(entry.train_tokens)) for source, entry in by_source.items() if entry.train_tokens]
    drawn = charts.bars("mixture", sorted(tokens, key=lambda row: -row[1]), label="Training tokens by source")
    return chart("Mixture", drawn, "Training tokens by source.")


def _compression(run: Run) -> list[Chart]:
    words = run.stage("tokenizer").measured_as(TokenizerMetrics)
    found = list(((words and words.bytes_per_token) or {}).items())
    drawn = charts.bars("compression", found, label="Bytes per token by source", form=decimal)
    return chart("Compression", drawn, "Bytes of text that one token stands for; more is better.")
