"""What the report shows of the corpus: what each stage kept of each source, and why it dropped the rest."""

from __future__ import annotations

from flows.report import charts
from flows.report.accounts import flows_of
from flows.report.figures import Section, chart, section
from flows.report.summary import drops
from flows.run.run_view import Run
from infra.units import decimal
from pipeline.tasks.ledger import DocumentMetrics
from pipeline.tokens.metrics import ShardMetrics, TokenizerMetrics

__all__ = ["corpus_section"]

RULES_SHOWN = 12


def corpus_section(run: Run) -> Section | None:
    found = {
        stage.name: metrics
        for stage in run.stages
        if (metrics := stage.measured_as(DocumentMetrics)) is not None and not isinstance(metrics, ShardMetrics)
    }
    funnel = []
    for name, metrics in found.items():
        kept = metrics.documents_out
        dropped = max((metrics.documents_in or kept) - kept, sum(hits for _, hits in drops(metrics)))
        funnel.append((name, {"kept": float(kept), "dropped": float(dropped)}))
    rules = sorted(
        ((f"{name} · {rule}", hits) for name, metrics in found.items() for rule, hits in drops(metrics)),
        key=lambda row: -row[1],
    )
    by_stage: dict[str, dict[str, float]] = {
        name: {source: float(account.documents_out) for source, account in metrics.by_source.items()}
        for name, metrics in found.items()
    }
    sources = {source for counts in by_stage.values() for source in counts}
    shards = run.stage("shards").measured_as(ShardMetrics)
    mixture = [
        (source, float(entry.train_tokens))
        for source, entry in (shards.by_source.items() if shards else ())
        if entry.train_tokens
    ]
    words = run.stage("tokenizer").measured_as(TokenizerMetrics)
    compression = list(((words and words.bytes_per_token) or {}).items())
    copies = run.stage("dedup").measured_as(DocumentMetrics)
    duplicates = drops(copies) if copies else []
    return section(
        "corpus",
        "Corpus",
        "From raw files to packed rows of tokens: what each stage kept, and why it dropped the rest.",
        [
            each
            for source, svg, caption in flows_of(run)
            for each in chart(f"Where the characters of {source} went", svg, caption)
        ],
        chart("Documents by stage", charts.stacks("funnel", funnel, label="Documents kept and dropped by stage")),
        chart(
            "Why documents were dropped",
            charts.bars("rules", rules[:RULES_SHOWN], label="Documents dropped by rule"),
            f"The {RULES_SHOWN} chief rules of {len(rules)}." if len(rules) > RULES_SHOWN else "",
        ),
        chart(
            "Duplicates",
            charts.bars("dedup", duplicates, label="Duplicates removed, by how they were found"),
            "Removed, by how they were found.",
        ),
        chart(
            "Documents by source",
            charts.stacks("sources", list(by_stage.items()), label="Documents of each source after each stage")
            if len(sources) > 1
            else "",
            "After each stage.",
        ),
        chart(
            "Mixture",
            charts.bars("mixture", sorted(mixture, key=lambda row: -row[1]), label="Training tokens by source"),
            "Training tokens by source.",
        ),
        chart(
            "Compression",
            charts.bars("compression", compression, label="Bytes per token by source", form=decimal),
            "Bytes of text that one token stands for; more is better.",
        ),
    )
