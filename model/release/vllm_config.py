"""What vLLM must be told of our checkpoints: a configuration it reads, and which of its attention kernels to leave."""

from __future__ import annotations

from pathlib import Path

from infra.json_objects import read_object
from model.architecture.config import Family, ModelConfig

__all__ = ["CONFIG", "LATENT_WIDTH", "needs_writing_out", "write_config"]

LATENT_WIDTH = 576
"""``kv_lora_rank + qk_rope_head_dim`` of DeepSeek-V2 and V3: the one width that every kernel of vLLM's for latent
attention knows (0.32). Models of another are computed with their keys and values written out, which is as exact."""
CONFIG = "vllm-config"
"""Folder of a checkpoint with the config.json that vLLM needs, where the checkpoint's own is not for it."""


def write_config(folder: Path) -> bool:
    """Give a checkpoint of the family `deepseek` (v1) a configuration that vLLM reads; whether it is one.

    vLLM computes the family, but leaves reading its configuration to transformers, which has none. As DeepSeek-V2
    with heads that have no latent at all it is the same model to vLLM.
    """
    from model.architecture.checkpoint import write_json

    config = read_object(folder / "config.json")
    if config["model_type"] != "deepseek":
        return False
    (folder / CONFIG).mkdir(exist_ok=True)
    latent = ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "kv_lora_rank")
    write_json(folder / CONFIG / "config.json", config | {"model_type": "deepseek_v2"} | dict.fromkeys(latent, 0))
    return True


def needs_writing_out(config: ModelConfig) -> bool:
    """Whether vLLM must be told to keep from its kernels for latent attention (``VLLM_MLA_DISABLE=1``).

    It has none for the width of the model, or takes the first DeepSeekMoE (`write_config`) for one with a latent.
    """
    latent = config.has_latent_attention and config.kv_lora_rank + config.qk_rope_head_dim != LATENT_WIDTH
    return latent or config.model_type is Family.DEEPSEEK
