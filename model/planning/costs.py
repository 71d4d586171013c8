"""What training a model costs: floating point operations per token, and memory per device by layout.

Plain arithmetic on the architecture, free of torch, so that a recipe is planned at once. Memory counts what the code
of `model/` and torch's autograd really keep; `tests/model/planning/test_costs.py` holds it to within 10 % of what small
runs on a CPU allocate, and of what an H200 allocated (`bench/gpu_speed.py`), where elements are 2 bytes as autocast has
them.
"""

from __future__ import annotations

from dataclasses import dataclass

from model.architecture.config import ModelConfig, count_parameters

__all__ = ["Layout", "Memory", "expert_parameters", "flops_per_token", "scaled_flops_per_token", "training_memory"]

FP32, BF16 = 4, 2
"""Bytes of a number."""
LOSS_COPIES = 2
"""Times the logits of a chunk are there at once in the cross entropy: as input, and as log softmax or gradient."""
LOSS_ROWS, CPU_LOGITS, GPU_LOGITS = 128, 1 << 20, 1 << 27
"""Least rows, else logits of a chunk (`model.architecture.output`)."""
BLOCK, LONGEST = 128, 2048
"""Queries of a block, and tokens up to which a CPU attends in blocks (`model.architecture.causal`)."""
BACKWARD = 2
"""Operations of a backward pass over those of its forward pass."""


@dataclass(frozen=True)
class Layout:
    """How one copy of the training is spread over devices."""

    devices: int = 1
    expert_parallel: int = 1
    """Devices that share one copy of the routed experts."""
    zero: int = 0
    """ZeRO stage: 1 shares out the optimizer's state, 2 the gradients too, 3 the weights too."""
    rows: int = 1
    """Sequences that go through a device at once."""
    accumulation: int = 1
    """Micro-batches per step."""
    recompute: bool = False
    """Activation checkpointing: a third more operations, hardly any activations."""
    gpu: bool = False
    """bf16 autocast and FlashAttention; else fp32 and SDPA."""


@dataclass(frozen=True)
class Memory:
    """Bytes on one device, at their peak within a step."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    """Logits of a chunk of rows."""
    loss: int
    """Gradients of the output layer's states and weights, which are taken with the loss."""
    working: int
    """What the backward pass of one feed-forward layer makes and drops again."""
    stacked: int
    """Gradients of that layer's weights."""
    recomputed: int
    """Activations of one layer that runs again in the backward pass."""
    rounded: int
    """bf16 copies of the weights that a GPU's products read: all are kept, or with recomputation those of a layer."""
    is_accumulating: bool

    @property
    def peak(self) -> int:
        """With one micro-batch gradients come as activations go; with several, those of the earlier ones stay."""
        lasting = self.weights + self.optimizer
        last = max(self.logits, self.working + self.stacked + self.recomputed)
        if self.is_accumulating:
            return lasting + self.gradients + self.activations + self.rounded + self.loss + last
        ending = self.gradients + self.working + self.recomputed + (self.rounded if self.recomputed else 0)
        return lasting + max(self.activations + self.rounded + self.loss + last, ending)


def expert_parameters(config: ModelConfig) -> int:
    """Parameters of the routed experts, which expert parallelism shares out."""
    layers = len(config.moe_layers) + config.num_nextn_predict_layers
    return layers * config.n_routed_experts * 3 * config.hidden_size * config.moe_intermediate_size if layers else 0


def flops_per_token(config: ModelConfig, length: int) -> float:
    """Training operations per token in rows of `length` tokens: three times those of a forward pass.

    It takes two per weight that a token meets, and the attention to half of its row. Multi-token prediction adds its
    layers and output layers.
    """
    embedding = config.vocab_size * config.hidden_size
    met = count_parameters(config, active=True) - (0 if config.tie_word_embeddings else embedding)
    depths = config.num_nextn_predict_layers
    if depths:
        met += count_parameters(config, active=True, prediction=True) - count_parameters(config, active=True)
        met += depths * embedding
    query, value = _widths(config)
    attention = (config.num_hidden_layers + depths) * config.num_attention_heads * (query + value) * length
    return (2 * met + attention) * (1 + BACKWARD)


def scaled_flops_per_token(config: ModelConfig, length: int) -> float:
    """M of the scaling laws (DeepSeek-LLM, section 3.2): training operations per token without the vocabulary's, with
    attention counted in full. Of a mixture of experts, those of what a token meets."""
    vocabulary = config.vocab_size * config.hidden_size * (1 if config.tie_word_embeddings else 2)
    query, value = _widths(config)
    attention = config.num_hidden_layers * config.num_attention_heads * (query + value) * length
    return 6 * (count_parameters(config, active=True) - vocabulary) + 6 * attention


def _widths(config: ModelConfig) -> tuple[int, int]:
    """Query and value width of a head."""
    if config.has_latent_attention:
        return config.qk_nope_head_dim + config.qk_rope_head_dim, config.v_head_dim
    return config.head_width, config.head_width


def training_memory(config: ModelConfig, length: int, layout: Layout, *, documents: bool = True) -> Memory:
    """Memory of one device with AdamW: fp32 weights and moments; `documents` masks packed documents apart.

    ZeRO shares dense parameters out over all devices and experts over the devices that hold the same ones.
    """
    total = count_parameters(config, prediction=True)
    experts = expert_parameters(config)
    local_experts = experts // layout.expert_parallel
    dense = total - experts
    copies = layout.devices // layout.expert_parallel

    def share(stage: int) -> int:
        if layout.zero < stage:
            return dense + local_experts
        return dense // layout.devices + local_experts // copies

    moments = 2 if layout.devices == 1 or not layout.zero else 3  # ZeRO keeps fp32 weights of its own beside them
    tokens, numbers = layout.rows * length, range(config.num_hidden_layers)
    chunk = max(LOSS_ROWS, (GPU_LOGITS if layout.gpu else CPU_LOGITS) // config.vocab_size)
    kept, layers = _activations(config, length, layout, documents)
    wide = BF16 if layout.gpu else FP32
    largest = max(_feed_forward(config, number, layout.expert_parallel) for number in numbers)
    rounded = (largest if layout.recompute else dense + local_experts) * BF16 if layout.gpu else 0
    return Memory(
        weights=share(3) * FP32,
        gradients=share(2) * FP32,
        optimizer=share(1) * moments * FP32,
        activations=tokens * (kept + (len(layers) * config.hidden_size * FP32 if layout.recompute else sum(layers))),
        logits=min(tokens, chunk) * config.vocab_size * LOSS_COPIES * FP32,
        loss=(tokens + config.vocab_size) * config.hidden_size * (1 + config.num_nextn_predict_layers) * FP32,
        working=max(_working(config, number) for number in numbers) * tokens * wide,
        stacked=largest * FP32,
        recomputed=tokens * max(layers) if layout.recompute else 0,
        rounded=rounded,
        is_accumulating=layout.accumulation > 1,
    )


def _working(config: ModelConfig, number: int) -> int:
    """Elements per token that the backward pass of one feed-forward layer makes: for every expert of a token, the
    gradients of its input and output and of the hidden layer."""
    if not config.is_moe_layer(number):
        return 3 * config.intermediate_size
    return config.num_experts_per_tok * (2 * config.hidden_size + 6 * config.moe_intermediate_size)


def _feed_forward(config: ModelConfig, number: int, expert_parallel: int) -> int:
    """Parameters of one feed-forward layer on a device, without the shared experts and the gate."""
    if not config.is_moe_layer(number):
        return 3 * config.intermediate_size * config.hidden_size
    return config.n_routed_experts // expert_parallel * 3 * config.hidden_size * config.moe_intermediate_size


def _activations(config: ModelConfig, length: int, layout: Layout, documents: bool) -> tuple[int, list[int]]:
    """Bytes per token that are kept outside of the layers, and in each layer."""
    hidden, depths = config.hidden_size, config.num_nextn_predict_layers
    wide = BF16 if layout.gpu else FP32
    norm = 2 * hidden * FP32  # its input, and the normed input before the weight, in fp32
    layers = [
        int(_attention(config, length, layout)) * wide
        + (_experts(config) if config.is_moe_layer(number) else hidden + 4 * config.intermediate_size) * wide
        + 2 * norm
        for number in range(config.num_hidden_layers + depths)
    ]
    kept = (1 + depths) * (norm + hidden * wide)  # before the output layer
    kept += depths * (2 * norm + 2 * hidden * wide)  # of two inputs, and their joint projection
    if documents and not layout.gpu:
        kept += length * FP32 * (1 + depths)  # the mask, once for all layers
    return kept, layers


def _seen_in_blocks(length: int) -> float:
    """Keys per query, when each block of queries meets those up to its own end."""
    blocks = -(-length // BLOCK)
    size = -(-length // blocks)
    ends = [min(start + size, length) for start in range(0, length, size)]
    return sum((end - start) * end for start, end in zip([0, *ends], ends, strict=False)) / length


def _attention(config: ModelConfig, length: int, layout: Layout) -> float:
    """Elements kept by one layer's attention: inputs of the projections; queries, keys, values and outputs."""
    hidden, heads = config.hidden_size, config.num_attention_heads
    query, value = _widths(config)
    if layout.gpu or (length > LONGEST and query == value):
        weights = 1.0  # a fused kernel: the logarithm of each query's sum
    elif length > LONGEST:
        weights = length
    else:
        weights = _seen_in_blocks(length)
    kernel = heads * (2 * query + 2 * value + weights)
    if not config.has_latent_attention:
        return hidden + kernel
    latent = 3 * config.kv_lora_rank + config.qk_rope_head_dim
    return hidden + kernel + latent + 3 * (config.q_lora_rank or 0)


def _experts(config: ModelConfig) -> int:
    """Elements kept by one mixture of experts: its input, the shared experts, the hidden layers of each token's
    experts, the gate's scores and those of the balance loss."""
    hidden, width, chosen = config.hidden_size, config.moe_intermediate_size, config.num_experts_per_tok
    shared = 4 * width * config.n_shared_experts
    return hidden + shared + chosen * (2 * width + 8) + 4 * config.n_routed_experts
