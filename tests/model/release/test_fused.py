"""Matrices that engines join have one precision in `compressed/`, with the numbers that they had."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from model.architecture.checkpoint import save_model, to_hf_names
from model.architecture.config import Family
from model.architecture.grid import Grid
from model.release.compressed import groups, load_compressed, write_compressed
from model.release.fused import fused_layer, shared_bits, widened
from model.release.quantized import load_quantized, make_plan, rounded_unit, save_quantized
from model.release.rounding import rounded
from model.release.units import Role
from model.sections import Precision
from tests.model.conftest import tiny_model
from tests.model.serving.talker import save_tokenizer, words

WIDE = {"hidden_size": 64, "kv_lora_rank": 32, "v_head_dim": 16, "intermediate_size": 64}
FOUR = dict.fromkeys((Role.EXPERTS, Role.LINEAR, Role.EMBEDDINGS), Precision.Q4_0)


def test_what_is_joined() -> None:
    joined = [["q_proj", "k_proj", "v_proj"], ["q_a_proj", "kv_a_proj_with_mqa"], ["o_proj"], ["q_b_proj"]]
    names = [[f"model.layers.3.self_attn.{name}.weight" for name in names] for names in joined]
    names += [[f"model.layers.3.mlp.experts.{name}.weight" for name in ("gate_proj", "up_proj", "down_proj")]]
    for block in ("mlp", "mlp.shared_experts"):
        names += [[f"model.layers.3.{block}.{name}.weight" for name in ("gate_proj", "up_proj")]]
        names += [[f"model.layers.3.{block}.down_proj.weight"]]
    found = [{fused_layer(name) for name in each} for each in names]
    assert all(len(each) == 1 for each in found)
    assert len(set.union(*found)) == len(names)
    assert fused_layer(names[0][0]) != fused_layer(names[0][0].replace(".3.", ".4."))


def test_the_most_bits_of_a_layer_or_none() -> None:
    bits = {"a.self_attn.q_proj": 4, "a.self_attn.k_proj": 8, "a.self_attn.v_proj": 4, "a.self_attn.o_proj": 4}
    assert list(shared_bits(bits).values()) == [8, 8, 8, 4]
    assert list(shared_bits(bits | {"a.self_attn.v_proj": 0}).values()) == [0, 0, 0, 4]


def test_the_attention_of_the_first_family_is_alike_and_the_rest() -> None:
    bits = {"a.0.self_attn.q_proj": 4, "a.1.self_attn.o_proj": 8, "a.1.mlp.up_proj": 4}
    assert list(shared_bits(bits, one_attention=True).values()) == [8, 8, 4]
    found = groups({"a.0.self_attn.q_proj": 8, "a.1.mlp.up_proj": 4, "a.1.mlp.down_proj": 0}, nameless=8)
    assert ["Linear" in group["targets"] for group in found.values()] == [False, True]


@pytest.mark.parametrize("shape", [(6, 64), (3, 6, 64)])
def test_a_wider_grid_holds_the_same_numbers(shape: tuple[int, ...]) -> None:
    narrow = rounded_unit(torch.randn(shape, generator=torch.Generator().manual_seed(0)), Grid.Q4_0)
    wide = widened(narrow, Grid.Q8_0)
    assert wide.grid is Grid.Q8_0
    assert torch.equal(wide.weight(), narrow.weight())
    assert widened(narrow, Grid.Q4_0) is narrow


CASES = {
    "latent attention": (Family.DEEPSEEK_V3, {"q_lora_rank": 32, "moe_intermediate_size": 32}, ["q_a_proj", "experts"]),
    "experts that do not divide": (Family.DEEPSEEK_V3, {"moe_intermediate_size": 48}, ["shared_experts.up_proj"]),
    "dense": (Family.LLAMA, {}, ["k_proj", "mlp.up_proj"]),
}


@pytest.mark.parametrize("case", CASES)
def test_every_joined_layer_has_one_scheme(case: str, tmp_path: Path) -> None:
    """As an engine that joins them reads it: all parts ignored, or all in one group; and no number changed."""
    family, changes, raised = CASES[case]
    model = tiny_model(family, **(WIDE | changes | {"vocab_size": words().get_vocab_size()}))
    save_model(model, tmp_path / "checkpoint", save_tokenizer(tmp_path / "tokenizer"))
    plan = make_plan(model, FOUR)
    chosen = [next(name for name in plan if part in name and plan[name] is Precision.Q4_0) for part in raised]
    plan |= dict.fromkeys(chosen, Precision.Q8_0)
    save_quantized(tmp_path / "int4", rounded(model, plan), tmp_path / "checkpoint")
    write_compressed(tmp_path / "int4", tmp_path / "packed")
    settings = json.loads((tmp_path / "packed" / "config.json").read_text())["quantization_config"]

    def scheme(module: str) -> int:
        """Its bits; 0 where it is left alone."""
        if any(module == each or re.match(each.removeprefix("re:"), module) for each in settings["ignore"]):
            return 0
        (bits,) = [
            group["weights"]["num_bits"]
            for group in settings["config_groups"].values()
            if any(re.match(target.removeprefix("re:"), module) for target in group["targets"])
        ]
        return int(bits)

    wanted, layers = to_hf_names(load_quantized(tmp_path / "int4").state_dict()), {}
    packed = to_hf_names(load_compressed(tmp_path / "packed").state_dict())
    for name, weight in wanted.items():
        if weight.dim() > 1 and "embed_tokens" not in name:
            module = name.removesuffix(".weight")
            layers.setdefault(fused_layer(re.sub(r"experts\.\d+", "experts", module)), set()).add(scheme(module))
            assert torch.equal(packed[name], weight if scheme(module) or ".mlp.gate." in name else weight.half()), name
    assert all(len(bits) == 1 for bits in layers.values()), layers
    assert {next(iter(layers[fused_layer(name)])) for name in chosen} == {8}
    assert {4, 8} <= set.union(*layers.values())
