"""The gates of promotion: conditions on the numbers that a version was registered with, beside the champion's."""

from __future__ import annotations

from dataclasses import dataclass

from flows.recipe.sections import PromoteConfig
from flows.registry.facts import VersionFacts

__all__ = ["Gate", "judge"]


@dataclass(frozen=True)
class Gate:
    """One condition of promotion."""

    gate: str
    passed: bool
    value: float
    limit: float
    text: str


def judge(config: PromoteConfig, facts: VersionFacts, champion: VersionFacts | None) -> list[Gate]:
    """Every gate of `config` on the numbers of a version, beside those of the present champion."""
    gates = [
        Gate(
            "accuracy",
            facts.accuracy >= config.min_accuracy,
            facts.accuracy,
            config.min_accuracy,
            "share of held-out problems answered right, at least",
        ),
        Gate(
            "format",
            facts.format_rate >= config.min_format_rate,
            facts.format_rate,
            config.min_format_rate,
            "share of answers in the asked-for format, at least",
        ),
        Gate(
            "quantization",
            facts.quantization_kl <= config.max_quantization_kl,
            facts.quantization_kl,
            config.max_quantization_kl,
            "divergence from full precision in nats per token, at most",
        ),
    ]
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


def _regressions(config: PromoteConfig, ours: dict[str, float], theirs: dict[str, float]) -> list[Gate]:
    """A gate per source of text that both versions were measured on."""
    found = []
    for source in sorted(ours.keys() & theirs.keys()):
        rise = ours[source] / theirs[source] - 1
        text = f"rise of bits per byte on {source} against the champion's, at most"
        limit = config.max_domain_regression
        found.append(Gate(f"domain {source}", rise <= limit, rise, limit, text))
    return found
