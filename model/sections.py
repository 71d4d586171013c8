"""Recipe sections of the model stages. Light on purpose: the command line loads them to plan."""

from __future__ import annotations

from infra.section import Section

__all__ = ["EvaluateConfig", "ExportConfig", "GrpoConfig", "PretrainConfig", "QuantizeConfig", "SftConfig"]


class PretrainConfig(Section):
    """Architecture and schedule of pretraining."""


class SftConfig(Section):
    """Supervised fine-tuning on chains of thought."""


class GrpoConfig(Section):
    """Group relative policy optimization with verifiable rewards."""


class EvaluateConfig(Section):
    """What is measured on each checkpoint."""


class QuantizeConfig(Section):
    """Post-training quantization of the weights."""


class ExportConfig(Section):
    """Formats that other engines read."""
