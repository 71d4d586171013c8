"""The gates of promotion: conditions on the numbers that a version was registered with, beside the champion's."""

from __future__ import annotations

from dataclasses import dataclass

from flows.recipe.sections import PromoteConfig
from flows.registry.facts import VersionFacts
from model.facts.evaluation import RELEASE
from model.facts.training import rise

__all__ = ["Gate", "judge"]


@dataclass(frozen=True)
class Gate:
    """One condition of promotion."""

    gate: str
    passed: bool
    value: float
    limit: float
    text: str

    @property
    def told(self) -> str:
        """What it found, for a message."""
        return f"{self.gate}: {self.value:.4g}, the limit is {self.limit:.4g} ({self.text})"


def judge(config: PromoteConfig, facts: VersionFacts, champion: VersionFacts | None) -> list[Gate]:
    """Every gate of `config` on the numbers of a version, beside those of the present champion."""
    by = "by the served weights, at least" if facts.measured == RELEASE else "at least"
    gates = [
        Gate(
            "accuracy",
            facts.accuracy >= config.min_accuracy,
            facts.accuracy,
            config.min_accuracy,
            f"share of held-out problems answered right, {by}",
        ),
        Gate(
            "format",
            facts.format_rate >= config.min_format_rate,
            facts.format_rate,
            config.min_format_rate,
            f"share of answers in the asked-for format, {by}",
        ),
        Gate(
            "quantization",
            facts.quantization_kl <= config.max_quantization_kl,
            facts.quantization_kl,
            config.max_quantization_kl,
            "divergence from full precision in nats per token, at most",
        ),
    ]
    gates += _forgetting(config, facts)
    if champion and config.must_match_champion:
        gates.append(
            Gate(
                "champion",
                facts.accuracy_high >= champion.accuracy_low,
                facts.accuracy_high,
                champion.accuracy_low,
                "upper end of its accuracy (95 %) against the lower end of the champion's",
            )
        )
    if champion:
        gates += _regressions(config, facts.bits_per_byte, champion.bits_per_byte)
    return gates


def _forgetting(config: PromoteConfig, facts: VersionFacts) -> list[Gate]:
    """A gate on the source that a version forgot most of since its base model; none where that is not known."""
    ours, base = facts.bits_per_byte, facts.bits_per_byte_base
    rises = {source: rise(base[source], ours[source]) for source in sorted(ours.keys() & base.keys())}
    if not rises or not config.max_forgetting:
        return []
    source, most = max(rises.items(), key=lambda item: item[1])
    change = f"{base[source]:.3g} to {ours[source]:.3g}"
    remedy = "more replay.text in sft and grpo, or a lower learning_rate"
    if facts.measured == RELEASE:
        remedy = f"fewer experts pruned, fewer tokens trimmed or more bits in quantize, {remedy}"
    text = f"rise of bits per byte of {source} since {facts.base} ({change}; less with {remedy}), at most"
    return [Gate("forgetting", most <= config.max_forgetting, most, config.max_forgetting, text)]


def _regressions(config: PromoteConfig, ours: dict[str, float], theirs: dict[str, float]) -> list[Gate]:
    """A gate per source of text that both versions were measured on."""
    found = []
    for source in sorted(ours.keys() & theirs.keys()):
        rose = rise(theirs[source], ours[source])
        text = f"rise of bits per byte on {source} against the champion's, at most"
        limit = config.max_domain_regression
        found.append(Gate(f"domain {source}", rose <= limit, rose, limit, text))
    return found
