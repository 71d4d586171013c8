"""Compressed-tensors checkpoints: their own library unpacks what we packed, and transformers computes with it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from compressed_tensors.compressors.pack_quantized import unpack_from_int32
from compressed_tensors.quantization import QuantizationConfig
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from model.architecture.checkpoint import save_model, to_hf_names
from model.architecture.config import Family
from model.release.compressed import write_compressed
from model.release.quantized import load_quantized, make_plan, save_quantized
from model.release.rounding import rounded
from model.release.units import Role
from model.sections import Precision
from tests.model.conftest import tiny_model
from tests.model.serving.talker import save_tokenizer, words


def save(folder: Path, family: Family, *, fewer: str = "") -> Path:
    widths = {"kv_lora_rank": 32, "moe_intermediate_size": 32, "v_head_dim": 16, "intermediate_size": 64}
    if family is Family.LLAMA:
        widths = {"intermediate_size": 64}
    model = tiny_model(family, **widths, vocab_size=words().get_vocab_size())
    save_model(model, folder / "checkpoint", save_tokenizer(folder / "tokenizer"))
    plan = {Role.EXPERTS: Precision.Q4_0, Role.LINEAR: Precision.Q8_0, Role.EMBEDDINGS: Precision.Q8_0}
    chosen = make_plan(model, plan)
    if fewer:
        chosen[fewer] = Precision.Q4_0
    save_quantized(folder / "int4", rounded(model, chosen), folder / "checkpoint")
    write_compressed(folder / "int4", folder / "packed")
    return folder


@pytest.mark.parametrize("family", [Family.DEEPSEEK_V3, Family.LLAMA])
def test_their_library_unpacks_the_very_weights(family: Family, tmp_path: Path) -> None:
    folder = save(tmp_path, family)
    settings = json.loads((folder / "packed" / "config.json").read_text())["quantization_config"]
    scheme = QuantizationConfig.model_validate(settings)
    tensors = load_file(folder / "packed" / "model.safetensors")
    wanted = to_hf_names(load_quantized(folder / "int4").state_dict())
    seen = 0
    for name, weight in wanted.items():
        module = name.removesuffix(".weight")
        if f"{module}.weight_packed" not in tensors:
            torch.testing.assert_close(tensors[name].float(), weight, atol=1e-3, rtol=1e-3)
            continue
        (group,) = [
            each
            for each in scheme.config_groups.values()
            if any(re.match(target.removeprefix("re:"), module) for target in each.targets)
        ]
        assert group.weights is not None
        shape = torch.Size(tensors[f"{module}.weight_shape"].tolist())
        codes = unpack_from_int32(tensors[f"{module}.weight_packed"], group.weights.num_bits, shape)
        scale = tensors[f"{module}.weight_scale"].float().repeat_interleave(group.weights.group_size, 1)
        assert torch.equal(codes.float() * scale, weight)
        seen += 1
    assert seen > 10
    assert set(tensors) >= {name for name in wanted if name.endswith(("norm.weight", "embed_tokens.weight"))}


@pytest.mark.parametrize("fewer", ["", "model.layers.1.self_attn.o_proj.weight"])
def test_transformers_computes_with_it(fewer: str, tmp_path: Path) -> None:
    """Also where one layer's matrix has other bits than those of the rest, as a budget of bits makes it."""
    folder = save(tmp_path, Family.LLAMA, fewer=fewer)
    theirs = AutoModelForCausalLM.from_pretrained(folder / "packed", dtype=torch.float32).eval()
    ours = load_quantized(folder / "int4").requires_grad_(False)
    for weight in (ours.model.embed_tokens.weight, ours.lm_head.weight):  # stored in 16 bits there
        weight.copy_(weight.half())
    tokens_BT = torch.randint(7, ours.config.vocab_size, (2, 24), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted, found = ours.lm_head(ours.hidden(tokens_BT)), theirs(tokens_BT).logits
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)
