"""Recipe sections of the model stages. Light on purpose: the command line loads them to plan."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, ValidationError

from infra.section import Added, Section
from model.architecture.config import ModelConfig

__all__ = [
    "Activations",
    "BadStep",
    "BalanceScope",
    "Decayed",
    "ExportConfig",
    "InitialWeights",
    "OptimizerConfig",
    "OptimizerKind",
    "Precision",
    "PretrainConfig",
    "PruneBy",
    "PruneConfig",
    "QuantizeConfig",
    "Schedule",
    "ServedPrecision",
    "Spread",
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


class OptimizerKind(StrEnum):
    """What turns gradients into updates."""

    ADAMW = "adamw"
    MUON = "muon"
    """Orthogonalised momentum for hidden matrices, AdamW for the rest (arXiv 2502.16982); ZeRO 0 and 1."""


class Decayed(StrEnum):
    """What weight decay falls on."""

    ALL = "all"
    MATRICES = "matrices"
    """Neither norms nor embeddings nor the experts' gates."""


class OptimizerConfig(Section):
    """Optimizer and schedule: what all training has in common."""

    optimizer: OptimizerKind = OptimizerKind.ADAMW
    """What turns gradients into updates (DeepSeek: AdamW); learning rate and weight decay carry over to Muon."""
    adamw_rate: Annotated[float, Added] = Field(1.0, gt=0)
    """Learning rate of what Muon leaves to AdamW (embedding, output layer, gates, norms), as a multiple of
    `learning_rate`."""
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
    decayed: Annotated[Decayed, Added] = Decayed.ALL
    """What weight decay falls on."""
    router_rate: Annotated[float, Added] = Field(1.0, gt=0)
    """Learning rate of the experts' gates, as a multiple of `learning_rate`."""
    beta1: float = Field(0.9, ge=0, lt=1)
    """AdamW decay of the first moment."""
    beta2: float = Field(0.95, ge=0, lt=1)
    """AdamW decay of the second moment."""
    clip_norm: float = Field(1.0, gt=0)
    """Largest norm of the gradient (DeepSeek: 1)."""
    balance_loss: float = Field(1e-4, ge=0)
    """Factor of the balance loss over experts (V3: 1e-4; DeepSeekMoE 2B: 0.01, 16B: 0.001, 145B: 0.003)."""
    router_z_loss: Annotated[float, Added] = Field(0.0, ge=0)
    """Factor of the mean squared log-sum-exp of the gates' logits (ST-MoE, arXiv 2202.08906, Eq 5: 0.001), which keeps
    them small."""
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
    """A loss above this multiple of the recent median, and half a nat above it, has jumped."""
    prediction_loss: float = Field(0.3, ge=0)
    """Weight of multi-token prediction, where the model has layers for it (V3: 0.3 for its first 10 T tokens)."""
    prediction_loss_late: float = Field(0.1, ge=0)
    """The same for the rest of the steps (V3: 0.1 for the last 4.8 T tokens)."""
    prediction_loss_until: float = Field(0.676, ge=0, le=1)
    """Share of the steps after which the weight changes (V3: 10 of 14.8 T tokens)."""
    validation_sequences: int = Field(32, ge=1)
    """Held-out sequences per validation, taken in whole batches of `batch_size`."""


class Spread(StrEnum):
    """How wide the normal is that a matrix is drawn from."""

    FLAT = "flat"
    """`initializer_range` for all, as published."""
    FAN_IN = "fan_in"
    """The width that the matrix reads, to the power of -1/2; embeddings stay at `initializer_range`."""


class InitialWeights(Section):
    """Where pretraining starts from. Anything but the defaults draws each weight by its own name and the seed."""

    spread: Spread = Spread.FLAT
    """How wide the normal is that a matrix is drawn from."""
    depth_scaled: bool = False
    """Divide what writes into the residual stream by the square root of twice the layers."""
    unit_embeddings: bool = False
    """Embeddings of standard deviation 1."""
    by_name: bool = False
    """Draw each weight by its own name and the seed where the rest is at its default, too: models that share a weight
    begin with the same one."""


class PretrainConfig(TrainingConfig):
    """Architecture and schedule of pretraining."""

    model: ModelConfig = ModelConfig()
    """Architecture, in Hugging Face's field names."""
    initial: Annotated[InitialWeights, Added] = InitialWeights()
    """Where the weights start from."""
    validation_seed: Annotated[int | None, Added] = Field(None, ge=0)
    """Of the choice of held-out sequences; `seed` when empty. Runs that are compared want the same ones."""
    diagnose: Annotated[bool, Added] = False
    """With every validation also the loss by place in the sequence, and of tokens that repeat (induction)."""
    mixture: dict[str, Annotated[float, Field(ge=0)]] | None = None
    """Weight of each source when sequences are drawn; as they come in the shards when empty."""


class Precision(StrEnum):
    """How a weight matrix is kept."""

    Q4_0 = "q4_0"
    """4-bit codes with a 16-bit scale per 32 weights of a row: 4.5 bits per weight."""
    Q8_0 = "q8_0"
    """8-bit codes with a 16-bit scale per 32 weights of a row: 8.5 bits per weight."""
    Q2_K = "q2_k"
    """2-bit codes in blocks of llama.cpp's: 2.63 bits per weight, in rows of a multiple of 256 (others get q4_0). For
    llama.cpp alone."""
    Q3_K = "q3_k"
    """Likewise 3-bit codes: 3.44 bits per weight."""
    Q4_K = "q4_k"
    """Likewise 4-bit codes: 4.5 bits per weight."""
    Q6_K = "q6_k"
    """Likewise 6-bit codes: 6.56 bits per weight (other rows get q8_0)."""
    F16 = "f16"


class Activations(StrEnum):
    """How the inputs of quantized matrices are computed with."""

    FLOAT = "float"
    """As they are: only weights are quantized."""
    INT8 = "int8"
    """Also a third model, `w8a8`: 8-bit weights with a scale per row, activations in 8 bits with a scale per token."""


class PruneBy(StrEnum):
    """What an expert is worth, over the calibration tokens."""

    REAP = "reap"
    """Mean of gate times size of the output, over the tokens that chose it (REAP, arXiv 2510.13999)."""
    NORM = "norm"
    """Mean size of its output over these tokens, without the gate (arXiv 2606.15716): for models of no one field."""
    FREQUENCY = "frequency"
    """How many tokens chose it."""


class PruneConfig(Section):
    """Routed experts that are taken out of every layer before quantization, and how the rest makes up for them."""

    share: float = Field(0.0, ge=0, lt=1)
    """Share of the routed experts to take out of each layer, and of each group of experts, those worth least (REAP:
    0.25, 0.5); 0 takes none. As many go from every layer, and a token passes as many experts as before."""
    by: PruneBy = PruneBy.REAP
    """What an expert is worth."""
    heal_steps: int = Field(100, ge=0)
    """Steps in which the pruned model learns the whole one's predictions again, on training rows; 0 for none."""
    heal_batch: int = Field(16, ge=1)
    """Rows of such a step."""
    heal_learning_rate: float = Field(3e-4, gt=0)
    """Peak learning rate of these steps, which falls along a cosine."""

    def architecture(self, config: ModelConfig) -> ModelConfig:
        """That of a model without the share of its experts, rounded to whole ones of each group, and without
        multi-token prediction.

        Raises:
            ValueError: it has no experts, none would go, or a token could no longer pass as many as before.
        """
        if not config.moe_layers:
            raise ValueError("quantize.prune: the model has no experts to take out; set quantize.prune.share to 0")
        group = config.n_routed_experts // config.n_group
        left = (group - round(self.share * group)) * config.n_group
        what = f"quantize.prune.share {self.share:g}"
        if left == config.n_routed_experts:
            raise ValueError(f"{what} takes out none of {group} experts; set at least {1 / group:g}")
        try:
            changes = {"n_routed_experts": left, "num_nextn_predict_layers": 0}
            return ModelConfig.model_validate(config.model_dump() | changes)
        except ValidationError as error:
            reason = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
            raise ValueError(f"{what} leaves {left} of {config.n_routed_experts} experts: {reason}; set less") from None


class QuantizeConfig(Section):
    """Post-training quantization of the weights: GPTQ (arXiv 2210.17323), calibrated layer by layer.

    Two models come of it: `int8`, 8 bits throughout, and `int4`, whose make-up the first three keys choose: 4 bits
    throughout unless they say otherwise. Router, norms and selection bias stay in fp32 in both. Neither is further from
    the original, on held-out text and tasks, than plain rounding would make it.
    """

    experts: Precision = Precision.Q4_0
    """Routed experts of the int4 model."""
    linear: Precision = Precision.Q4_0
    """Attention, dense layers and shared experts of the int4 model. In a mixture of experts they are few weights that
    every token passes: ``q8_0`` costs little there. In a dense model they are all there is, and must be smaller."""
    embeddings: Precision = Precision.Q4_0
    """Embedding and output layer of the int4 model."""
    activations: Activations = Activations.FLOAT
    """Int8 adds the model `w8a8`, for engines that compute in 8 bits; its divergence counts the rounded inputs."""
    bits: float | None = Field(None, gt=0)
    """Bits per weight of the int4 model's matrices to fill up, embeddings with them: beyond what the keys above make,
    the 4-bit matrices whose rounding changes predictions most for their size keep 8 bits while this holds. Q4_K_M has
    about 4.85. None when empty."""
    k_quants: Annotated[bool, Added] = False
    """Let `bits` also give those matrices q2_k and q3_k, where that hardly matters, and q6_k, so that more of the
    others have 8 bits: closer to the original at the same size, and the int4 model is then for llama.cpp alone."""
    sensitivity_sequences: int = Field(16, ge=1)
    """Calibration rows that this is measured on, once per matrix."""
    calibration_sequences: int = Field(128, ge=1)
    """Rows of training text, conversations and solved tasks that calibration sees (GPTQ: 128). A quarter as many more
    say which codes are kept."""
    reasoning_share: float = Field(0.5, ge=0, le=1)
    """Share of these rows that are solved reasoning tasks, half of them conversations where there are any."""
    evaluation_sequences: int = Field(32, ge=1)
    """Held-out rows, of text and of tasks each, that the divergence is measured on."""
    accuracy_problems: int = Field(64, ge=0)
    """Held-out problems that each model solves, full precision too; 0 for none."""
    max_new_tokens: int = Field(96, ge=1)
    """Longest answer to them."""
    expert_tokens: int = Field(128, ge=0)
    """An expert that fewer calibration tokens chose is under-calibrated: all tokens of its layer stand in for them."""
    damping: float = Field(0.01, gt=0)
    """Share of the mean added to the diagonal of a Hessian (GPTQ: 1 %); raised where that is not enough."""
    gradient_sequences: Annotated[int, Added] = Field(0, ge=0)
    """Calibration rows whose gradients say which outputs of a matrix the predictions depend on (YAQA, arXiv
    2505.22988): errors of the int4 model count by that, and by how uncertain the next token is, and are made up for
    along the rows of a matrix as well. 16 are enough; with 0 all outputs and tokens count alike. Takes a square of its
    outputs in memory for every matrix."""
    batch_size: int = Field(4, ge=1)
    """Rows that go through a layer at once. Small ones keep to memory that a process already has, which is faster."""
    seed: int = Field(0, ge=0)
    """Of the choice of calibration rows."""
    prune: Annotated[PruneConfig, Added] = PruneConfig()
    """Routed experts to take out first. All that is quantized and exported is then the pruned model; divergence and
    tasks solved are still measured against the whole one."""
    min_token_count: Annotated[int, Added] = Field(0, ge=0)
    """Drop the tokens that stand fewer times than this in the training rows, with their rows of embedding and output
    layer; 0 keeps all. Single bytes and control tokens stay, so any text can still be written, of rarer words in
    smaller pieces. For a tokenizer that was adopted and knows more than the domain."""
    llmcompressor: Annotated[str, Added] = Field("", pattern=r"^[0-9A-Za-z.+]*$")
    """Version of llmcompressor that makes one model more, `llmcompressor`, of the same make-up and rows as int4, with
    embeddings in 16 bits; in a separate environment, whose Python DEEPMILL_LLMCOMPRESSOR names. None when empty."""

    def changes_model(self, served: ServedPrecision) -> bool:
        """Whether what is served is more than the finished model in 8 or 4 bits: its own quality is then measured."""
        small = {Precision.Q2_K, Precision.Q3_K}
        fewer_bits = self.k_quants or not small.isdisjoint((self.experts, self.linear, self.embeddings))
        return bool(self.prune.share or self.min_token_count) or (fewer_bits and served is ServedPrecision.INT4)

    def has_four_bits(self, has_experts: bool) -> bool:
        """Whether any matrix but embeddings has less than 8 bits in the int4 model."""
        kinds = {self.linear, self.experts} if has_experts else {self.linear}
        return not kinds <= {Precision.Q8_0, Precision.F16}


class ServedPrecision(StrEnum):
    """Which of the quantized models is registered and served."""

    INT4 = "int4"
    INT8 = "int8"


class ExportConfig(Section):
    """Formats that other engines read, and the folder that MLflow serves."""

    precision: ServedPrecision = ServedPrecision.INT4
    """Which of the quantized models is registered and served."""
    gguf: bool = True
    """Write GGUF files (llama.cpp and what is built on it), and have llama.cpp compute with the full one."""
    q4_k_m: bool = True
    """Among them llama.cpp's own mixture Q4_K_M, weighed with what calibration saw."""
    compressed: bool = True
    """Write the served precision as a compressed-tensors checkpoint (vLLM, SGLang)."""
    title: str = "deepmill"
    """Name of the model in its card and inside the GGUF files."""
    licence: str = ""
    """Licence of the weights, for the card; unstated when empty."""
    temperature: Annotated[float | None, Added(), Field(ge=0, le=2)] = None
    """How the model is sampled where a request does not say (its generation_config.json); 0 takes the likeliest token.
    Unset: as the model was adopted, else 1."""
    top_p: Annotated[float | None, Added(), Field(gt=0, le=1)] = None
    """Likewise: from the likeliest tokens that together have this probability."""
