"""Recipe sections of the release: what is registered, and what the gates ask for."""

from __future__ import annotations

from pydantic import Field

from infra.section import Section

__all__ = ["PromoteConfig", "RegistryConfig"]


class RegistryConfig(Section):
    """How the released model is named."""

    model: str = Field("", pattern=r"^[^/:]*$")
    """Name in MLflow's registry; ``deepmill-`` and the recipe's name when empty."""


class PromoteConfig(Section):
    """Gates a version must pass before the alias `champion` moves to it."""

    alias: str = "champion"
    """The alias that serving follows."""
    min_accuracy: float = Field(0.01, ge=0, le=1)
    """Least share of held-out problems answered right; for a first version too. 0 lets one pass that answers none."""
    min_format_rate: float = Field(0.0, ge=0, le=1)
    """Least share of answers in the asked-for format."""
    max_quantization_kl: float = Field(0.1, gt=0)
    """Most Kullback-Leibler divergence (nats per token) of the registered weights to full precision."""
    must_match_champion: bool = True
    """Refuse a version whose accuracy interval (95 %) lies wholly below the champion's."""
    max_domain_regression: float = Field(0.1, ge=0)
    """Most relative rise of bits per byte against the champion, on any source that both were measured on."""
    max_forgetting: float = Field(0.2, ge=0)
    """Most relative rise of bits per byte, on any source, since the base model that it was fine-tuned from; for a first
    version too. What goes on reading text (`sft.replay`) stays below; 0: not asked."""
    check_files: bool = True
    """Fetch the registered files and compare them with the checksums they were registered with."""
    require_card: bool = True
    """Refuse a version whose model card lacks a section."""
    require_licence: bool = False
    """Refuse a version whose card states no licence for the weights."""
