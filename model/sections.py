"""Recipe sections of the model stages. Light on purpose: the command line loads them to plan."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from infra.section import Section
from model.config import ModelConfig

__all__ = [
    "BadStep",
    "EvaluateConfig",
    "ExportConfig",
    "GrpoConfig",
    "PretrainConfig",
    "QuantizeConfig",
    "Schedule",
    "SftConfig",
    "TrainingConfig",
]


class Schedule(StrEnum):
    """How the learning rate moves after warm-up."""

    MULTI_STEP = "multi_step"
    """31.6 % of the peak from 80 % of the steps, 10 % from 90 % (DeepSeek-LLM, section 2.3)."""
    CONSTANT = "constant"
    COSINE = "cosine"
    """Down to 10 % of the peak along a cosine."""


class BadStep(StrEnum):
    """What to do about a step whose loss is not a number, or has jumped."""

    SKIP = "skip"
    """Leave the weights alone and go on with the next batch."""
    STOP = "stop"
    """End the stage with an error; the last checkpoint stays."""


class TrainingConfig(Section):
    """Optimizer, schedule and safeguards: what pretraining and supervised fine-tuning have in common."""

    steps: int = Field(100, ge=1)
    """Optimizer steps."""
    batch_size: int = Field(16, ge=1)
    """Sequences per step, over all ranks."""
    micro_batch: int = Field(0, ge=0)
    """Sequences, over all ranks, that go through the model at once; 0 for all of `batch_size`, which it divides."""
    learning_rate: float = Field(4.2e-4, gt=0)
    """Peak learning rate (DeepSeek-LLM 7B, DeepSeekMoE 16B: 4.2e-4)."""
    schedule: Schedule = Schedule.MULTI_STEP
    """How the learning rate moves after warm-up."""
    warmup_steps: int = Field(2000, ge=0)
    """Steps of linear warm-up (2,000 in the DeepSeek papers)."""
    weight_decay: float = Field(0.1, ge=0)
    """AdamW weight decay (DeepSeek: 0.1)."""
    beta1: float = Field(0.9, ge=0, lt=1)
    """AdamW decay of the first moment."""
    beta2: float = Field(0.95, ge=0, lt=1)
    """AdamW decay of the second moment."""
    clip_norm: float = Field(1.0, gt=0)
    """Largest norm of the gradient (DeepSeek: 1)."""
    balance_loss: float = Field(1e-4, ge=0)
    """Factor of the balance loss: sequence-wise for deepseek_v3 (V3: 1e-4), else expert-level (DeepSeekMoE: 1e-3)."""
    bias_update_speed: float = Field(1e-3, ge=0)
    """Step by which deepseek_v3's selection bias moves against the load (V3: gamma = 0.001); 0 leaves it alone."""
    document_mask: bool = True
    """Keep the tokens of a packed sequence from seeing other documents (V3 packs without)."""
    seed: int = Field(0, ge=0)
    """Of the initial weights and the order of the data."""
    bad_step: BadStep = BadStep.SKIP
    """What to do about a step whose loss is not a number, or has jumped."""
    spike_factor: float = Field(3.0, gt=1)
    """A loss above this multiple of the recent median has jumped."""
    validate_every: int = Field(0, ge=0)
    """Steps between validations; 0 for the first and the last only."""
    validation_sequences: int = Field(32, ge=1)
    """Held-out sequences per validation, taken in whole batches of `batch_size`."""
    checkpoint_seconds: float = Field(300.0, ge=0)
    """Seconds between checkpoints to resume from (DeepSeek-LLM: 5 minutes); 0 for one at every step."""


class PretrainConfig(TrainingConfig):
    """Architecture and schedule of pretraining."""

    model: ModelConfig = ModelConfig()
    """Architecture, in Hugging Face's field names."""
    mixture: dict[str, float] | None = None
    """Weight of each source when sequences are drawn; as they come in the shards when empty."""


class SftConfig(TrainingConfig):
    """Supervised fine-tuning on chains of thought (defaults: DeepSeekMath, arXiv 2402.03300, section 3.2)."""

    steps: int = Field(500, ge=1)
    """Optimizer steps (DeepSeekMath: 500)."""
    batch_size: int = Field(256, ge=1)
    """Sequences per step, over all ranks (DeepSeekMath: 256)."""
    sequence_length: int = Field(4096, ge=8)
    """Tokens of a sequence that tasks are packed into (DeepSeekMath: 4 K); a longer task is left out."""
    learning_rate: float = Field(5e-5, gt=0)
    """Peak learning rate (DeepSeekMath: 5e-5)."""
    schedule: Schedule = Schedule.CONSTANT
    """How the learning rate moves after warm-up (DeepSeekMath: not at all)."""
    warmup_steps: int = Field(0, ge=0)
    """Steps of linear warm-up."""
    accuracy_tasks: int = Field(256, ge=0)
    """Held-out tasks that the finished model is asked, for the stage's report; 0 for none."""
    max_new_tokens: int = Field(1024, ge=1)
    """Most tokens it may write for one of them."""


class GrpoConfig(Section):
    """Group relative policy optimization with verifiable rewards."""


class EvaluateConfig(Section):
    """What is measured on each checkpoint."""


class QuantizeConfig(Section):
    """Post-training quantization of the weights."""


class ExportConfig(Section):
    """Formats that other engines read."""
