"""Run by the Python of a vLLM: load checkpoints, write greedy tokens and all log probabilities. Imports no Deepmill.

Standard input: ``{"models": {name: {"folder": path, "dtype": name, "plain": whether}}, "prompts": [[token, ...], ...],
"new_tokens": number, "out": file}``.

vLLM's CPU build has no kernel for W8A16, and for quantized experts only kernels that want AMX. Reading the checkpoint
(the scheme of each layer, names, shapes, what is joined) is vLLM's own in every case; with `plain`, products with
weights of 4 and 8 bits are made here, by plain arithmetic in float32 from the codes and scales that it has loaded.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from pathlib import Path

os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # one process computes one model after the other

import torch
import torch.nn.functional as F
import vllm.model_executor.kernels.linear as kernels
from vllm import LLM, SamplingParams
from vllm.distributed.parallel_state import cleanup_dist_env_and_memory
from vllm.model_executor.kernels.linear.mixed_precision.MPLinearKernel import MPLinearKernel
from vllm.model_executor.layers.fused_moe.fused_moe_method_base import FusedMoEMethodBase
from vllm.model_executor.layers.quantization.compressed_tensors.compressed_tensors_moe import (
    compressed_tensors_moe_w8a8_int8 as int8,
)
from vllm.model_executor.layers.quantization.compressed_tensors.compressed_tensors_moe import (
    compressed_tensors_moe_wna16 as wna16,
)
from vllm.platforms import current_platform


def unpacked(words, scales, bits):
    """Weights [..., R, C] from int32 [..., R, C x bits / 32] and scales [..., R, groups]."""
    shifts = torch.arange(32 // bits) * bits
    codes = ((words.to(torch.int64)[..., None] >> shifts) & ((1 << bits) - 1)).flatten(-2) - (1 << (bits - 1))
    return codes * scales.float().repeat_interleave(codes.shape[-1] // scales.shape[-1], -1)


def as_int8(x):
    """Rounded by token, as W8A8 kernels do."""
    scale = x.abs().amax(-1, keepdim=True).clamp_min(1e-12) / 127
    return (x / scale).round() * scale


class PlainLinear(MPLinearKernel):
    """W4A16 and W8A16."""

    @classmethod
    def get_min_capability(cls):
        return -1

    @classmethod
    def can_implement(cls, c):
        return c.group_size > 0 and not c.zero_points, None

    def process_weights_after_loading(self, layer):
        words, scales = getattr(layer, self.w_q_name), getattr(layer, self.w_s_name)
        assert (words.output_dim, words.packed_dim) == (0, 1)
        layer.plain = unpacked(words.data, scales.data, self.config.weight_type.size_bits)

    def apply_weights(self, layer, x, bias=None):
        return F.linear(x.float(), layer.plain, bias).to(x.dtype)


class PlainExperts(FusedMoEMethodBase):
    """Experts, whose two weights [E, R, C] the subclasses work out."""

    rounded = staticmethod(lambda x: x)

    def get_fused_moe_quant_config(self, layer):
        return None

    def apply(self, layer, x, topk_weights, topk_ids, shared_experts, shared_experts_input):
        out, inputs = torch.zeros_like(x, dtype=torch.float32), self.rounded(x.float())
        for expert, (up, down) in enumerate(zip(*layer.plain, strict=True)):
            token, choice = (topk_ids == expert).nonzero(as_tuple=True)
            gate, value = F.linear(inputs[token], up).chunk(2, -1)
            each = F.linear(self.rounded(F.silu(gate) * value), down)
            out.index_add_(0, token, each * topk_weights[token, choice, None].float())
        return out.to(x.dtype)


class PlainWNA16(PlainExperts, wna16.CompressedTensorsWNA16MoEMethod):
    def __init__(self, weight_quant, input_quant, moe, layer_name=None):
        FusedMoEMethodBase.__init__(self, moe)
        self.num_bits, self.group_size = weight_quant.num_bits, weight_quant.group_size
        self.packed_factor, self.strategy, self.symmetric = 32 // self.num_bits, weight_quant.strategy, True

    def process_weights_after_loading(self, layer):
        layer.plain = [
            unpacked(words.data, scales.data, self.num_bits)
            for words, scales in (
                (layer.w13_weight_packed, layer.w13_weight_scale),
                (layer.w2_weight_packed, layer.w2_weight_scale),
            )
        ]


class PlainW8A8(PlainExperts, int8.CompressedTensorsW8A8Int8MoEMethod):
    rounded = staticmethod(as_int8)

    def __init__(self, weight_quant, input_quant, moe, layer_name=None):
        FusedMoEMethodBase.__init__(self, moe)
        self.weight_quant, self.static_input_scales = weight_quant, False

    def process_weights_after_loading(self, layer):
        layer.plain = [
            layer.w13_weight.float() * layer.w13_weight_scale,
            layer.w2_weight.float() * layer.w2_weight_scale,
        ]


def answers(folder, dtype, plain, prompts, new_tokens):
    known = kernels._POSSIBLE_KERNELS[current_platform._enum]
    known[:] = [PlainLinear] * plain + [kernel for kernel in known if kernel is not PlainLinear]
    config = json.loads((Path(folder) / "config.json").read_text())
    # its kernels for latent attention know DeepSeek's own width only
    os.environ["VLLM_MLA_DISABLE"] = str(int(config.get("kv_lora_rank") != 512))
    own = Path(folder) / "vllm-config"
    model = LLM(
        folder,
        hf_config_path=str(own) if own.is_dir() else None,
        dtype=dtype,
        enforce_eager=True,
        # its own kernel turns queries of several heads wrongly (0.32.0)
        compilation_config={"custom_ops": ["-rotary_embedding"]},
        max_model_len=128,
        max_num_seqs=2,
        max_logprobs=-1,
        enable_prefix_caching=False,
        distributed_executor_backend="uni",
        kv_cache_memory_bytes=64 << 20,
    )
    sampling = SamplingParams(
        temperature=0.0, max_tokens=new_tokens, ignore_eos=True, logprobs=-1, prompt_logprobs=-1, detokenize=False
    )
    results = model.generate([{"prompt_token_ids": prompt} for prompt in prompts], sampling, use_tqdm=False)
    found = []
    for result in results:
        rows = [*result.prompt_logprobs[1:], *result.outputs[0].logprobs]
        table = [[row[token].logprob for token in sorted(row)] for row in rows]
        found.append({"tokens": list(result.outputs[0].token_ids), "log_probabilities": table})
    model.llm_engine.engine_core.shutdown()
    return found


def main():
    job = json.load(sys.stdin)
    if not current_platform.is_cpu():
        sys.exit("this vLLM is not built for CPUs")
    wna16.CompressedTensorsWNA16MoEMethod, int8.CompressedTensorsW8A8Int8MoEMethod = PlainWNA16, PlainW8A8
    found = {}
    for name, model in job["models"].items():
        try:
            found[name] = answers(**model, prompts=job["prompts"], new_tokens=job["new_tokens"])
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error}"
        gc.collect()
        cleanup_dist_env_and_memory()
    Path(job["out"]).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
