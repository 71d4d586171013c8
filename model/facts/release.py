"""What `quantize` and `export` find, as ``quantization.json`` and ``export.json`` keep it, and what they report."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, ValidationError

from infra.errors import UserError
from infra.facts import Facts, StageMetrics
from infra.json_objects import JsonObject

__all__ = [
    "Calibration",
    "DivergenceFacts",
    "EngineAgreement",
    "ExportFacts",
    "ExportMetrics",
    "Judged",
    "Llmcompressor",
    "MatrixFacts",
    "Measured",
    "MemoryFacts",
    "PrecisionFacts",
    "Pruning",
    "Quantization",
    "QuantizeMetrics",
    "UnderCalibrated",
    "checkpoint_of",
    "read_quantization",
    "tokenizer_of",
]

QUANTIZATION = "quantization.json"
EXPORT = "export.json"
WHOLE = "f32"
"""What the unquantized model is called among the precisions."""
PRUNED = "pruned"
"""What it is called without the experts that were taken out."""
CHECKPOINT, TOKENIZER = "checkpoint", "tokenizer"
"""Folders of the model in 32 bits and of its tokenizer, where they are others than those that `quantize` was given."""
STUDENT = "model-draft-q8_0.gguf"
"""The small model that was distilled from the released one: a draft model, as llama.cpp calls it."""


class QuantizeMetrics(StageMetrics):
    """The chief numbers of ``quantization.json``, as ``MEASURE_PRECISION``."""

    calibration_tokens: int | None = None
    parameters: int | None = None
    """Of the pruned or trimmed model, where there is one."""
    routed_experts: int | None = None
    """Left in each of its layers."""

    def bytes_of(self, precision: str) -> float | None:
        """Size of the weights at a precision."""
        return self.named(f"bytes_{precision}")

    def kl_of(self, precision: str) -> float | None:
        """Divergence from full precision on held-out text, nats per token."""
        return 0.0 if precision == WHOLE else self.named(f"kl_{precision}")


class ExportMetrics(StageMetrics):
    """Of `export`."""

    precision: str | None = None
    """Of what is served."""
    left_out: dict[str, str] | None = None
    """What was not written, and why."""
    bytes_gguf: int | None = None
    bytes_safetensors: int | None = None

    def decode_speed(self, gguf: str) -> float | None:
        """Tokens per second that llama.cpp writes with the GGUF file of that kind (q8_0, q4_0)."""
        return self.named(f"decode_tokens_per_second_{gguf}")

    def start_seconds(self, gguf: str) -> float | None:
        """Seconds from an empty process to llama.cpp's first token with the GGUF file of that kind."""
        return self.named(f"start_seconds_{gguf}")

    def load_bytes(self, gguf: str) -> float | None:
        """Most memory while llama.cpp loads the GGUF file of that kind,"""
        return self.named(f"load_bytes_{gguf}")

    def peak_bytes(self, gguf: str) -> float | None:
        """and with some hundred tokens written."""
        return self.named(f"peak_bytes_{gguf}")


class DivergenceFacts(Facts):
    """How far a quantized model is from its original, on held-out text."""

    kl: float | None = None
    """Nats per token."""
    top1: float | None = None
    """Share of positions where both find the same token likeliest."""
    perplexity: float | None = None


class Judged(DivergenceFacts):
    """The same on held-out solved tasks besides."""

    reasoning: DivergenceFacts | None = None


class MatrixFacts(Facts):
    """How well one matrix was quantized."""

    precision: str | None = None
    error: float | None = None
    """Squared error of the output relative to the output, on rows that were not calibrated on,"""
    error_rounded: float | None = None
    """and that of plain rounding."""
    rounded: int | None = None
    """How many of its matrices keep the codes of plain rounding, which was no worse on those rows."""
    damping: dict[str, float] | None = None
    """By matrix, where it had to be raised."""


class UnderCalibrated(Facts):
    """An expert that too few calibration tokens chose."""

    layer: int
    expert: int
    tokens: int


class Measured(Judged):
    """All that is measured of one model."""

    kl_by_source: dict[str, float] | None = None
    accuracy: float | None = None
    """Share of held-out tasks that it solves."""


class PrecisionFacts(Measured):
    """One quantized model."""

    bytes: int | None = None
    bits_per_weight: float | None = None
    rounded_to_nearest: Judged | None = None
    """What plain rounding would have cost; None where nothing is calibrated."""
    calibrated: bool | None = None
    """False where plain rounding was kept, for calibration had done worse."""
    matrices: dict[str, MatrixFacts] | None = None
    expert_tokens: dict[str, list[int]] | None = None
    """By layer: calibration tokens of every expert."""
    starved_experts: list[UnderCalibrated] | None = None
    uncalibrated_matrices: list[str] | None = None
    """Whose statistics were of no use."""
    kept_in_16_bits: list[str] | None = None


class Llmcompressor(PrecisionFacts):
    """The model that llmcompressor has quantized."""

    version: str = ""


class Calibration(Facts):
    """What the quantizer was calibrated on."""

    rows: int = 0
    tokens: int = 0
    held_out_tokens: int = 0
    """Of further rows, which say matrix by matrix whether calibration is kept."""


class Pruning(Facts):
    """Which experts were taken out, and what the rest learned."""

    by: str
    """What they were judged by."""
    experts_before: int
    """Of each layer."""
    experts_after: int
    kept: dict[str, list[int]]
    """By layer: the numbers that they had."""
    scores: dict[str, list[float]]
    """By layer: what each expert of the whole model was worth."""
    unhealed: Judged
    """The pruned model before it learned anything, against the whole one."""
    heal_steps: int = 0
    healed: bool = False
    """Whether what these steps taught was kept."""
    divergence_first: float | None = None
    """Of the first and of the last step's rows, nats per token."""
    divergence_last: float | None = None


class Quantization(Facts):
    """All of ``quantization.json``."""

    calibration: Calibration = Calibration()
    cost_at_4_bits: dict[str, float] = Field(default_factory=dict)
    """By matrix, where bits were allocated by cost."""
    held_out_tokens: dict[str, int] = Field(default_factory=dict)
    parameters: int | None = None
    pruning: Pruning | None = None
    vocabulary: int | None = None
    """Tokens that are left, where it was trimmed."""
    precisions: dict[str, PrecisionFacts] = Field(default_factory=dict)
    """By name, `f32` among them: the original."""
    w8a8: PrecisionFacts | None = None
    llmcompressor: Llmcompressor | None = None

    def written(self) -> JsonObject:
        """As JSON values, floats to six digits, without what was not measured."""
        return {name: _short(value) for name, value in self.model_dump(mode="json", exclude_none=True).items()}


class EngineAgreement(Facts):
    """How closely another engine computes what we do."""

    log_probabilities_within: float
    top1_equal: bool
    tokens_equal: bool


class MemoryFacts(Facts):
    """Bytes that llama.cpp takes with one GGUF file on ARM64, as `model.release.footprint` computes them."""

    context: int
    """The longest that the model is meant for, in tokens."""
    short: int
    """With a context of 512 tokens,"""
    long: int
    """with the longest,"""
    long_8_bits: int
    """and with that and a cache in 8 bits, where heads are a multiple of 32 wide."""


class ExportFacts(Facts):
    """All of ``export.json``."""

    files: dict[str, int] = Field(default_factory=dict)
    """Sizes in bytes."""
    left_out: dict[str, str] = Field(default_factory=dict)
    """What was not written, and why."""
    not_read_by: dict[str, str] = Field(default_factory=dict)
    """What of transformers does not read what was written, or reads it otherwise, and why."""
    precision: str = ""
    verified: dict[str, EngineAgreement] = Field(default_factory=dict)
    """By engine."""
    memory: dict[str, MemoryFacts] = Field(default_factory=dict)
    """By the kind of GGUF file (q4_0)."""


def checkpoint_of(model: Path, quantized: Path) -> Path:
    """The checkpoint in 32 bits that the quantized models were made of: that of `model`, unless it was made smaller."""
    return quantized / CHECKPOINT if (quantized / CHECKPOINT).is_dir() else model / "model"


def tokenizer_of(tokenizer: Path, quantized: Path) -> Path:
    """The tokenizer of the quantized models: that of the artifact `tokenizer`, unless its vocabulary was trimmed."""
    return quantized / TOKENIZER if (quantized / TOKENIZER).is_dir() else tokenizer


def read_quantization(folder: Path) -> Quantization:
    """What the artifact in `folder` says.

    Raises:
        UserError: it cannot be read.
    """
    path = folder / QUANTIZATION
    try:
        return Quantization.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise UserError(f"{path}: not readable ({error}); make quantize again") from None


def _short(value: object) -> object:
    """Numbers to six digits, in a structure of any depth."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _short(item) for key, item in value.items()}
    return [_short(item) for item in value] if isinstance(value, list) else value
