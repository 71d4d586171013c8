"""Recipe sections of the model stages. Light on purpose: the command line loads them to plan."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from infra.section import Section
from model.config import ModelConfig

__all__ = [
    "BadStep",
    "BalanceScope",
    "EvaluateConfig",
    "ExportConfig",
    "GrpoConfig",
    "OptimizerConfig",
    "Precision",
    "PretrainConfig",
    "QuantizeConfig",
    "Schedule",
    "ServedPrecision",
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


class BalanceScope(StrEnum):
    """Over which tokens the balance loss asks for an even use of the experts."""

    AUTO = "auto"
    """`sequence` for deepseek_v3, as its paper has it, else `batch`."""
    SEQUENCE = "sequence"
    """Each sequence alone (DeepSeek-V3, Eq 17-20; `seq_aux` in the published configs). Same for all micro-batches."""
    BATCH = "batch"
    """All sequences of a micro-batch, over all ranks (DeepSeekMoE, Eq 12-14)."""


class OptimizerConfig(Section):
    """Optimizer and schedule: what all training has in common."""

    steps: int = Field(100, ge=1)
    """Optimizer steps."""
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
    """Factor of the balance loss over experts (V3: 1e-4; DeepSeekMoE 2B: 0.01, 16B: 0.001, 145B: 0.003)."""
    balance_scope: BalanceScope = BalanceScope.AUTO
    """Over which tokens experts are to be used evenly."""
    device_balance_loss: float = Field(0.0, ge=0)
    """Factor of the balance loss over devices (DeepSeekMoE 145B: 0.05, Eq 15-17)."""
    balance_devices: int = Field(1, ge=1)
    """Devices that this loss spreads the routed experts over (145B: 4); part of what is trained, not of where."""
    bias_update_speed: float = Field(1e-3, ge=0)
    """Step by which deepseek_v3's selection bias moves against the load (V3: gamma = 0.001); 0 leaves it alone."""
    seed: int = Field(0, ge=0)
    """Of all that is drawn: initial weights, order of the data, samples."""
    validate_every: int = Field(0, ge=0)
    """Steps between validations; 0 for the first and the last only."""
    checkpoint_seconds: float = Field(300.0, ge=0)
    """Seconds between checkpoints to resume from (DeepSeek-LLM: 5 minutes); 0 for one at every step."""


class TrainingConfig(OptimizerConfig):
    """Batches and safeguards: what pretraining and supervised fine-tuning have in common."""

    batch_size: int = Field(16, ge=1)
    """Sequences per step, over all ranks."""
    micro_batch: int = Field(0, ge=0)
    """Sequences, over all ranks, that go through the model at once; 0 for all of `batch_size`, which it divides."""
    document_mask: bool = True
    """Keep the tokens of a packed sequence from seeing other documents (V3 packs without)."""
    bad_step: BadStep = BadStep.SKIP
    """What to do about a step whose loss is not a number, or has jumped."""
    spike_factor: float = Field(3.0, gt=1)
    """A loss above this multiple of the recent median has jumped."""
    prediction_loss: float = Field(0.3, ge=0)
    """Weight of multi-token prediction, where the model has layers for it (V3: 0.3 for its first 10 T tokens)."""
    prediction_loss_late: float = Field(0.1, ge=0)
    """The same for the rest of the steps (V3: 0.1 for the last 4.8 T tokens)."""
    prediction_loss_until: float = Field(0.676, ge=0, le=1)
    """Share of the steps after which the weight changes (V3: 10 of 14.8 T tokens)."""
    validation_sequences: int = Field(32, ge=1)
    """Held-out sequences per validation, taken in whole batches of `batch_size`."""


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


class GrpoConfig(OptimizerConfig):
    """Group relative policy optimization with verifiable rewards (defaults: DeepSeekMath, section 4.2).

    Answers are sampled from the policy itself, at temperature 1 (DeepSeek-R1), so that its probabilities are those of
    the samples.
    """

    steps: int = Field(1000, ge=1)
    """Rollouts, each followed by `minibatches` updates."""
    questions: int = Field(16, ge=1)
    """Questions per step (DeepSeekMath: 1,024 answers of 64 each)."""
    group_size: int = Field(64, ge=2)
    """Answers per question, judged against each other (DeepSeekMath: 64; R1: 16)."""
    max_new_tokens: int = Field(1024, ge=1)
    """Most tokens of an answer (DeepSeekMath: 1,024); one without an end earns nothing."""
    minibatches: int = Field(1, ge=1)
    """Updates per step, each on a share of its questions (DeepSeekMath: 1; R1: 16)."""
    micro_tokens: int = Field(16_384, ge=1)
    """Most tokens that go through the model at once in an update; a longer answer goes alone."""
    learning_rate: float = Field(1e-6, gt=0)
    """Peak learning rate (DeepSeekMath: 1e-6; R1-Zero: 3e-6)."""
    schedule: Schedule = Schedule.CONSTANT
    """How the learning rate moves after warm-up."""
    warmup_steps: int = Field(0, ge=0)
    """Steps of linear warm-up."""
    balance_loss: float = Field(0.0, ge=0)
    """Factor of the balance loss; none, for the gates come balanced from pretraining."""
    bias_update_speed: float = Field(0.0, ge=0)
    """Step by which deepseek_v3's selection bias moves; not at all, for it would change the policy from outside."""
    clip: float = Field(0.2, gt=0)
    """How far the probability ratio of a token may move before its gradient ends (PPO: 0.2; R1's first stage: 10)."""
    kl_weight: float = Field(0.04, ge=0)
    """Weight of the divergence from the reference model (DeepSeekMath: 0.04; R1-Zero: 0.001); 0 for no reference."""
    reference_every: int = Field(0, ge=0)
    """Steps after which the policy becomes its own reference (R1-Zero: 400); 0 keeps the fine-tuned model."""
    accuracy_reward: float = Field(1.0, ge=0)
    """Reward of a right answer."""
    format_reward: float = Field(1.0, ge=0)
    """Reward of one piece of reasoning inside its tags, an answer after it and an end (R1: as much as accuracy)."""
    accuracy_tasks: int = Field(256, ge=1)
    """Held-out tasks asked at a validation, greedily."""
    kept_answers: int = Field(4, ge=0)
    """Answers per step that `rollouts.jsonl` keeps, all to one question."""
    collapse_below: float = Field(0.5, ge=0, lt=1)
    """The stage ends with an error when the mean reward of 10 steps falls below this share of its best; 0: never."""


class EvaluateConfig(Section):
    """What is measured on each checkpoint."""

    problems: int = Field(1000, ge=1)
    """Tasks of the test split that are asked."""
    max_new_tokens: int = Field(1024, ge=1)
    """Most tokens of an answer."""
    temperature: float = Field(0.0, ge=0)
    """0 takes the likeliest token; R1 is evaluated at 0.6."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Sample from the likeliest tokens that together have this probability (R1: 0.95)."""
    seed: int = Field(0, ge=0)
    """Of the samples, where the temperature is not 0."""
    sequences: int = Field(64, ge=1)
    """Held-out rows of each source that bits per byte are measured on."""
    batch_size: int = Field(64, ge=1)
    """Answers written at once; rows of text go in proportion."""
    samples: int = Field(8, ge=0)
    """Answers of each checkpoint that are kept to be read, to the same questions."""
    prompts: tuple[str, ...] = ("In the beginning", "The city of", "Return the")
    """Beginnings of text that each checkpoint continues."""
    continuation_tokens: int = Field(48, ge=1)
    """Most tokens of a continuation."""


class Precision(StrEnum):
    """How a weight matrix is kept."""

    Q4_0 = "q4_0"
    """4-bit codes with a 16-bit scale per 32 weights of a row: 4.5 bits per weight."""
    Q8_0 = "q8_0"
    """8-bit codes with a 16-bit scale per 32 weights of a row: 8.5 bits per weight."""
    F16 = "f16"


class QuantizeConfig(Section):
    """Post-training quantization of the weights: GPTQ (arXiv 2210.17323), calibrated layer by layer.

    Two models come of it: `int8`, 8 bits throughout, and `int4`, whose make-up the first three keys choose. Router,
    norms and selection bias stay in fp32 in both.
    """

    experts: Precision = Precision.Q4_0
    """Routed experts of the int4 model."""
    linear: Precision = Precision.Q4_0
    """Attention, dense layers and shared experts of the int4 model."""
    embeddings: Precision = Precision.Q8_0
    """Embedding and output layer of the int4 model."""
    calibration_sequences: int = Field(128, ge=1)
    """Rows of training text and solved tasks that calibration sees (GPTQ: 128)."""
    reasoning_share: float = Field(0.5, ge=0, le=1)
    """Share of these rows that are solved reasoning tasks."""
    evaluation_sequences: int = Field(32, ge=1)
    """Held-out rows, of text and of tasks each, that the divergence is measured on."""
    expert_tokens: int = Field(128, ge=0)
    """An expert that fewer calibration tokens chose is starved: it is calibrated on all tokens of its layer instead."""
    damping: float = Field(0.01, gt=0)
    """Share of the mean added to the diagonal of a Hessian (GPTQ: 1 %); raised where that is not enough."""
    batch_size: int = Field(4, ge=1)
    """Rows that go through a layer at once. Small ones keep to memory that a process already has, which is faster."""
    seed: int = Field(0, ge=0)
    """Of the choice of calibration rows."""


class ServedPrecision(StrEnum):
    """Which of the quantized models is registered and served."""

    INT4 = "int4"
    INT8 = "int8"


class ExportConfig(Section):
    """Formats that other engines read, and the folder that MLflow serves."""

    precision: ServedPrecision = ServedPrecision.INT4
    """Which of the quantized models is registered and served."""
    gguf: bool = True
    """Write GGUF files (llama.cpp and what is built on it)."""
    title: str = "deepmill"
    """Name of the model in its card and inside the GGUF files."""
    licence: str = ""
    """Licence of the weights, for the card; unstated when empty."""
