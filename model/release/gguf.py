"""GGUF files: what llama.cpp and the engines built on it read.

Packed weights go in byte for byte, so the file computes with the very numbers that calibration chose. The metadata
names everything about the gate (function, normalisation, scale, selection bias), for llama.cpp guesses what is missing.
Attention of the latent families is written in the absorbed form (key and value halves apart), which llama.cpp wants.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from gguf import (
    ExpertGatingFuncType,
    GGMLQuantizationType,
    GGUFReader,
    GGUFWriter,
    LlamaFileType,
    RopeScalingType,
    TokenType,
)
from gguf import dequantize as gguf_dequantize

from infra.errors import UserError
from infra.json_objects import JsonObject, read_object
from model.architecture.config import LinearScaling, Llama3Scaling, ModelConfig, YarnScaling
from model.architecture.gguf_limits import unsupported
from model.architecture.gguf_metadata import YARN_WEIGHT
from model.architecture.gguf_names import ARCHITECTURES, PAIRED, ROTATED, gguf_name
from model.architecture.rotary import frequencies
from pipeline.tokens.chat_template import read_format
from pipeline.tokens.llama_names import SENTENCEPIECE, llama_name
from pipeline.tokens.sentencepiece import BYTES, Prefix, is_sentencepiece, prefix_of, scores_of

__all__ = ["DRAFTER", "Stored", "check_gguf", "draft_units", "undraftable", "unsupported", "write_gguf"]

DRAFTER = "model-mtp-{}.gguf"
"""A file with the layer of multi-token prediction and no other. Files with the whole model do not have it: readers from
before it was known would take it for a layer of the model, and compute something else without a word."""

FILE_TYPES = {
    "f32": LlamaFileType.ALL_F32,
    "q8_0": LlamaFileType.MOSTLY_Q8_0,
    "q4_0": LlamaFileType.MOSTLY_Q4_0,
    "q4_k_m": LlamaFileType.MOSTLY_Q4_K_M,
}
LATENT_CACHE_KEYS = 1
"""Key-value heads of absorbed latent attention: all query heads read one latent."""


class Stored(Protocol):
    """One weight as it goes into the file: `model.release.quantized.Unit`."""

    @property
    def stored(self) -> torch.Tensor:
        """Plain numbers, or uint8 blocks."""

    @property
    def precision(self) -> str:
        """The GGUF type's name in small letters."""

    def weight(self) -> torch.Tensor:
        """The float32 weights."""


def undraftable(config: ModelConfig) -> str | None:
    """Why llama.cpp cannot guess tokens with this architecture's layers of multi-token prediction; None when it can.

    It would end the process over what its graph was not written for (deepseek2, read at b11549).
    """
    if not config.num_nextn_predict_layers:
        return "the model has no layer of multi-token prediction"
    if config.num_nextn_predict_layers > 1:
        return "llama.cpp guesses with one layer of multi-token prediction, not with several"
    if config.q_lora_rank is None:
        return "llama.cpp's layer of multi-token prediction wants compressed queries: set model.q_lora_rank"
    if not config.is_moe_layer(config.num_hidden_layers):
        return "llama.cpp's layer of multi-token prediction wants experts: lower model.first_k_dense_replace"
    return None


def draft_units(config: ModelConfig, stored: Mapping[str, Stored]) -> dict[str, Stored]:
    """What of `stored` llama.cpp guesses with: the layer of multi-token prediction, embedding and output layer."""
    wanted = ("model.embed_tokens.", "model.norm.", "lm_head.")
    layers = (*wanted, *(f"model.layers.{number}." for number in config.prediction_layers))
    return {name: unit for name, unit in stored.items() if name.startswith(layers)}


def write_gguf(path: Path, config: ModelConfig, stored: Mapping[str, Stored], tokenizer: Path, *, name: str) -> None:
    """Write one model with its tokenizer.

    Args:
        path: its name ends in ``-`` and one of `FILE_TYPES`.
        stored: units by their names in `model.release.units`.
        tokenizer: folder with ``tokenizer.json`` and ``tokenizer_config.json``.
        name: shown by the engines.

    Raises:
        ValueError: `unsupported` has a reason.
    """
    pre = llama_name(tokenizer)
    if reason := unsupported(config, tokenizer):
        raise ValueError(reason)
    assert pre is not None
    logging.getLogger("gguf").setLevel(logging.WARNING)
    writer = GGUFWriter(path, ARCHITECTURES[config.model_type])
    kind = path.stem.rpartition("-")[2]
    writer.add_name(name)
    writer.add_file_type(FILE_TYPES[kind])
    if kind != "f32":
        writer.add_quantization_version(2)
    _add_architecture(writer, config)
    _add_tokenizer(writer, config, tokenizer, pre)
    for unit_name, unit in stored.items():
        stored_array = _rotary_order(unit_name, unit.stored, config).contiguous().numpy()
        writer.add_tensor(
            gguf_name(unit_name), stored_array, raw_dtype=_type(unit) if unit.stored.dtype == torch.uint8 else None
        )
    for extra, factors in _frequency_factors(config).items():
        writer.add_tensor(extra, factors)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def check_gguf(path: Path, config: ModelConfig, stored: Mapping[str, Stored]) -> None:
    """Read a file back and compare every weight with `stored`.

    Raises:
        UserError: a tensor is missing, one too many, or differs.
    """
    found = {tensor.name: tensor for tensor in GGUFReader(path).tensors}
    for extra, factors in _frequency_factors(config).items():
        if extra not in found or not np.array_equal(found.pop(extra).data, factors):
            raise UserError(f"{path}: tensor {extra} is not what was written; the disk may be failing")
    wanted = {gguf_name(name): (name, unit) for name, unit in stored.items()}
    if found.keys() != wanted.keys():
        odd = sorted(found.keys() ^ wanted.keys())[0]
        raise UserError(f"{path}: tensor {odd} is missing or one too many; report this as a bug")
    for name, tensor in found.items():
        unit_name, unit = wanted[name]
        theirs = gguf_dequantize(tensor.data, tensor.tensor_type)
        ours = _rotary_order(unit_name, unit.weight(), config).numpy()
        if tensor.tensor_type != _type(unit) or not np.array_equal(theirs.reshape(ours.shape), ours):
            raise UserError(f"{path}: tensor {name} is not what was written; the disk may be failing")


def _frequency_factors(config: ModelConfig) -> dict[str, np.ndarray]:
    """What llama.cpp divides the rotary frequencies by, as a tensor of the file; none where it divides by nothing."""
    if not isinstance(config.rope_scaling, Llama3Scaling):
        return {}
    plain = config.model_copy(update={"rope_scaling": None})
    return {"rope_freqs.weight": (frequencies(plain) / frequencies(config)).numpy()}


def _type(unit: Stored) -> GGMLQuantizationType:
    return GGMLQuantizationType[unit.precision.upper()]


def _rotary_order(name: str, weight: torch.Tensor, config: ModelConfig) -> torch.Tensor:
    """Llama's query and key projections and their biases in the order that llama.cpp rotates: pairs side by side."""
    if config.model_type not in PAIRED or not ROTATED.search(name):
        return weight
    heads = config.num_attention_heads if ".q_proj." in name else config.key_value_heads
    return weight.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2)


def _add_architecture(writer: GGUFWriter, config: ModelConfig) -> None:
    writer.add_block_count(config.num_hidden_layers + config.num_nextn_predict_layers)
    if config.num_nextn_predict_layers:
        writer.add_nextn_predict_layers(config.num_nextn_predict_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_rope_dimension_count(config.rotary_dim)
    _add_scaling(writer, config)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    if config.is_dense:
        writer.add_head_count_kv(config.key_value_heads)
        if config.head_dim is not None:
            writer.add_key_length(config.head_dim)
            writer.add_value_length(config.head_dim)
        return
    writer.add_head_count_kv(LATENT_CACHE_KEYS)
    writer.add_q_lora_rank(config.q_lora_rank or 0)
    writer.add_kv_lora_rank(config.kv_lora_rank)
    writer.add_key_length(config.kv_lora_rank + config.qk_rope_head_dim)
    writer.add_value_length(config.kv_lora_rank)
    writer.add_key_length_mla(config.qk_nope_head_dim + config.qk_rope_head_dim)
    writer.add_value_length_mla(config.v_head_dim)
    writer.add_leading_dense_block_count(min(config.first_k_dense_replace, config.num_hidden_layers))
    writer.add_expert_feed_forward_length(config.moe_intermediate_size)
    writer.add_expert_count(config.n_routed_experts)
    writer.add_expert_used_count(config.num_experts_per_tok)
    writer.add_expert_shared_count(config.n_shared_experts)
    writer.add_expert_weights_scale(config.routed_scaling_factor)
    writer.add_expert_weights_norm(config.norm_topk_prob)
    if config.n_group > 1:
        writer.add_expert_group_count(config.n_group)
        writer.add_expert_group_used_count(config.topk_group)
    writer.add_expert_gating_func(
        ExpertGatingFuncType.SIGMOID if config.has_selection_bias else ExpertGatingFuncType.SOFTMAX
    )


def _add_scaling(writer: GGUFWriter, config: ModelConfig) -> None:
    """How the rotary embedding is stretched; Llama 3.1's way is a tensor (`_frequency_factors`)."""
    scaling = config.rope_scaling
    if isinstance(scaling, LinearScaling):
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(scaling.factor)
    elif isinstance(scaling, YarnScaling):
        writer.add_rope_scaling_type(RopeScalingType.YARN)
        writer.add_rope_scaling_factor(scaling.factor)
        writer.add_rope_scaling_orig_ctx_len(scaling.original_max_position_embeddings)
        writer.add_rope_scaling_yarn_beta_fast(scaling.beta_fast)
        writer.add_rope_scaling_yarn_beta_slow(scaling.beta_slow)
        if config.has_latent_attention:
            writer.add_rope_scaling_yarn_log_mul(YARN_WEIGHT * scaling.mscale_all_dim)


def _tokens(state: JsonObject, size: int) -> tuple[list[str], list[TokenType]]:
    """Text and type of every row of the embedding."""
    tokens, types = [f"[PAD{number}]" for number in range(size)], [TokenType.UNUSED] * size
    for token, number in state["model"]["vocab"].items():
        tokens[number], types[number] = token, TokenType.NORMAL
    for added in state["added_tokens"]:
        # user-defined tokens are matched in text and shown in output; control tokens are not shown
        tokens[added["id"]] = added["content"]
        types[added["id"]] = TokenType.CONTROL if added["special"] else TokenType.USER_DEFINED
    if is_sentencepiece(state):
        vocabulary: dict[str, int] = state["model"]["vocab"]
        for byte in BYTES:
            types[vocabulary[byte]] = TokenType.BYTE
        if (unknown := vocabulary.get(state["model"]["unk_token"])) is not None:
            types[unknown] = TokenType.UNKNOWN
    return tokens, types


def _add_tokenizer(writer: GGUFWriter, config: ModelConfig, folder: Path, name: str) -> None:
    state = read_object(folder / "tokenizer.json")
    settings = read_object(folder / "tokenizer_config.json")
    tokens, types = _tokens(state, config.vocab_size)
    if name == SENTENCEPIECE:
        writer.add_tokenizer_model(name)
        writer.add_tokenizer_pre("default")
        scores = scores_of(state["model"])
        writer.add_token_scores(scores + [0.0] * (len(tokens) - len(scores)))
    else:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(name)
        merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in state["model"]["merges"]]
        writer.add_token_merges(merges)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    numbers = {token: number for number, token in enumerate(tokens)}
    for role, add in (
        ("bos", writer.add_bos_token_id),
        ("eos", writer.add_eos_token_id),
        ("pad", writer.add_pad_token_id),
        ("unk", writer.add_unk_token_id),
    ):
        token = settings.get(f"{role}_token")
        content = token["content"] if isinstance(token, dict) else token
        if content in numbers:
            add(numbers[content])
    writer.add_add_bos_token(False)  # the chat format writes it
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(name == SENTENCEPIECE and prefix_of(state) is Prefix.EVERY)
    writer.add_chat_template(read_format(folder).template)
