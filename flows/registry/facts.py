"""What a registered version and a model carry in their tags: the numbers that gates look at, what the version was made
of, and the trail of moves."""

from __future__ import annotations

import json
from collections.abc import Mapping

from pydantic import ConfigDict, Field, ValidationError

from infra.errors import UserError, first_problem
from infra.facts import Facts

__all__ = ["FACTS", "LINEAGE", "JudgedGate", "Move", "VersionFacts", "facts_in", "lineage_in"]

FACTS = "deepmill.facts"
"""Tag with the `VersionFacts`, as JSON."""
LINEAGE = "deepmill.lineage"
"""Tag with the identity of the artifact of each stage, as JSON."""


class VersionFacts(Facts):
    """The numbers of a version, of its served precision where they depend on one."""

    accuracy: float
    """Share of held-out problems answered right,"""
    accuracy_low: float
    """and the limits of its 95 % interval."""
    accuracy_high: float
    format_rate: float
    precision: str = ""
    quantization_kl: float
    """Divergence from full precision, nats per token."""
    bytes: int | None = None
    bits_per_weight: float | None = None
    """Of the served weights' file, over all parameters."""
    tokens_per_second: float | None = None
    """What llama.cpp wrote when it was exported."""
    parameters: int | None = None
    bits_per_byte: dict[str, float] = Field(default_factory=dict)
    """Of held-out text, by source."""
    measured: str = ""
    """The checkpoint that accuracy, format and bits per byte are of, in full precision; `release`: the served weights.
    Empty in earlier releases, which measured the last checkpoint."""
    base: str = ""
    """The stage whose model was fine-tuned; empty where it is the released one, and in earlier releases."""
    bits_per_byte_base: dict[str, float] = Field(default_factory=dict)
    """Of that model, likewise."""
    files: dict[str, str] | None = None
    """SHA-256 of the weights' files by path; earlier releases recorded no others."""

    def tag(self) -> str:
        """For `FACTS`."""
        return json.dumps(self.model_dump(mode="json", exclude_none=True))


def facts_in(tags: Mapping[str, str], label: str) -> VersionFacts | None:
    """What the tags of the version that people call `label` say; None where it is not ours.

    Raises:
        UserError: they cannot be read.
    """
    text = tags.get(FACTS)
    if text is None:
        return None
    try:
        return VersionFacts.model_validate(json.loads(text))
    except ValidationError as error:
        raise UserError(f"{label}: its numbers (tag {FACTS}) cannot be read: {first_problem(error)}") from None


def lineage_in(tags: Mapping[str, str]) -> dict[str, str]:
    """By stage, the identity of the artifact behind the version with these tags; empty where it is not ours."""
    return dict(json.loads(tags.get(LINEAGE, "{}")))


class JudgedGate(Facts):
    """What the audit keeps of a gate."""

    passed: bool
    value: float | None = None
    limit: float | None = None


class Move(Facts):
    """One entry of the audit: an alias that was moved."""

    model_config = ConfigDict(populate_by_name=True, coerce_numbers_to_str=True)

    at: str = ""
    """UTC, ISO 8601."""
    by: str = ""
    """The user."""
    version: str | None
    """Where to; None when the alias was taken away."""
    previous: str | None = Field(None, alias="from")
    """The version that held it."""
    alias: str
    why: str
    gates: dict[str, JudgedGate] = Field(default_factory=dict)
    """What was judged; empty in entries of earlier releases, and where nothing was."""

    @property
    def passed(self) -> bool | None:
        """Whether its gates passed; None where none was judged."""
        return all(gate.passed for gate in self.gates.values()) if self.gates else None

    @property
    def forced(self) -> bool:
        """Whether a person overrode the gates, and the audit says so."""
        return self.why.startswith("forced by hand")

    def entry(self) -> str:
        """For a tag of the model."""
        return json.dumps(self.model_dump(mode="json", by_alias=True, exclude=None if self.gates else {"gates"}))
