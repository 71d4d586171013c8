"""K-quants: llama.cpp's own kernels, read back by the `gguf` package; types and bytes as its `llama_model_quantize`.

The digests were taken from files that `llama_model_quantize` (llama.cpp as node-llama-cpp 3.22.1 ships it) wrote for
the same weights, with and without importance matrix: 349 tensors of four architectures agreed byte for byte.
"""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path

import pytest
import torch
from gguf import GGMLQuantizationType

from model.architecture.checkpoint import save_model
from model.architecture.config import Family
from model.release.allocate import BITS, chosen_within
from model.release.calibrate import calibrate
from model.release.compressed import unknown
from model.release.gguf import check_gguf, write_gguf
from model.release.kcodes import LIMITS, grid_of, with_codes
from model.release.kquants import k_quantize, k_quants, k_type
from model.release.quantized import Unit, load_quantized, make_plan, read_units, save_quantized
from model.release.rounding import rounded
from model.release.rows import CalibrationBatch, cut
from model.release.units import Role, units
from model.release.verify import check_runs
from model.sections import Precision
from tests.model.conftest import tiny_config, tiny_model
from tests.model.serving.talker import save_tokenizer, words

Type = GGMLQuantizationType
WIDE = {"hidden_size": 256, "kv_lora_rank": 256, "moe_intermediate_size": 256, "intermediate_size": 512}


def ramp(rows: int, columns: int) -> torch.Tensor:
    """Weights without a random generator: the same everywhere."""
    places = torch.arange(rows * columns, dtype=torch.float64).view(rows, columns)
    return (torch.sin(places * 0.37) * torch.cos(places * 0.011) * 0.1).float()


@pytest.mark.parametrize("kind", [Type.Q4_K, Type.Q5_K, Type.Q6_K, Type.Q5_0, Type.Q5_1, Type.Q8_0])
def test_gguf_reads_back_what_was_meant(kind: Type) -> None:
    weight = torch.randn(2, 8, 512, generator=torch.Generator().manual_seed(0))
    blocks = k_quantize(weight, kind)
    error = float((blocks.weight() - weight).norm() / weight.norm())
    assert blocks.weight().shape == weight.shape
    assert error < {Type.Q4_K: 0.08, Type.Q6_K: 0.02, Type.Q8_0: 0.006}.get(kind, 0.045)
    assert torch.equal(k_quantize(weight[1], kind).stored, blocks.stored[1])


@pytest.mark.parametrize("kind", LIMITS)
def test_codes_can_be_read_and_written(kind: Type) -> None:
    """llama.cpp's own codes give its own bytes; any others are worth step times code and offset."""
    generator = torch.Generator().manual_seed(2)
    blocks = k_quantize(torch.randn(3, 4, 512, generator=generator), kind)
    step, offset = grid_of(blocks.stored, kind)
    codes = ((blocks.weight() - offset) / step).round().to(torch.int8)
    assert torch.equal(with_codes(blocks.stored, codes, kind), blocks.stored)
    low, high = LIMITS[kind]
    codes = torch.randint(low, high + 1, codes.shape, generator=generator).to(torch.int8)
    changed = Unit(with_codes(blocks.stored, codes, kind), kind=kind)
    assert torch.equal(changed.weight(), step * codes + offset)


@pytest.mark.parametrize("precision", [Precision.Q2_K, Precision.Q3_K, Precision.Q4_K])
def test_k_quants_are_calibrated(precision: Precision) -> None:
    model = tiny_model(Family.LLAMA, hidden_size=256, intermediate_size=256, num_hidden_layers=1).requires_grad_(False)
    plan = make_plan(model, dict.fromkeys((Role.EXPERTS, Role.LINEAR), precision))
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(97, (8, 96), generator=generator)
    rows = list(cut(CalibrationBatch(tokens, torch.ones_like(tokens), torch.ones_like(tokens).bool()), 4))
    made = calibrate(model, rows[:1], plan, damping=0.01, expert_tokens=1, check=rows[1:])
    facts = made.errors.values()
    assert sum(each.error for each in facts) < 0.9 * sum(each.error_rounded for each in facts)


def test_importance_moves_the_error_to_where_it_matters_less() -> None:
    weight = torch.randn(2, 16, 256, generator=torch.Generator().manual_seed(1))
    importance = torch.ones(2, 256)
    importance[1, ::8] = 50.0
    plain, weighed = (k_quantize(weight, Type.Q4_K, seen).weight() - weight for seen in (None, importance))
    assert weighed[1, :, ::8].norm() < 0.9 * plain[1, :, ::8].norm()
    shared = k_quantize(weight, Type.Q4_K, importance[1:])
    assert torch.equal(shared.stored[1], k_quantize(weight, Type.Q4_K, importance).stored[1])


@pytest.mark.parametrize(
    ("kind", "importance", "digest"),
    [
        (Type.Q4_K, False, "06a2492305299f4d"),
        (Type.Q4_K, True, "e7be154c82bf5b9b"),
        (Type.Q6_K, False, "beb6959f668ffc98"),
        (Type.Q6_K, True, "a6c8516187bd1957"),
    ],
)
def test_the_bytes_are_llama_cpp_s(kind: Type, importance: bool, digest: str) -> None:
    seen = (torch.arange(512) % 7 + 1.0)[None] if importance else None
    blocks = k_quantize(ramp(16, 512), kind, seen)
    assert hashlib.sha256(blocks.stored.numpy().tobytes()).hexdigest()[:16] == digest


def test_the_mixture_is_llama_cpp_s() -> None:
    """As it printed them for nine layers of eight experts, and for ten dense ones."""
    config = tiny_config(Family.DEEPSEEK_V3, **WIDE, v_head_dim=64, num_hidden_layers=9, n_routed_experts=8)
    model = tiny_model(Family.DEEPSEEK_V3, **WIDE, v_head_dim=64, num_hidden_layers=9, n_routed_experts=8)
    found = {name: k_type(name, weight, config) for name, weight in units(model).items()}
    down = [found[f"model.layers.{layer}.mlp.experts.down_proj.weight"] for layer in range(1, 9)]
    assert down == [Type.Q4_K, Type.Q4_K, Type.Q6_K, Type.Q4_K, Type.Q4_K, Type.Q6_K, Type.Q6_K, Type.Q6_K]
    assert found["model.layers.4.self_attn.o_proj.weight"] is Type.Q5_K
    assert found["model.layers.4.self_attn.k_b_proj.weight"] is Type.F16  # 8 columns
    assert found["model.layers.4.self_attn.v_b_proj.weight"] is Type.Q4_K
    assert (found["model.embed_tokens.weight"], found["lm_head.weight"]) == (Type.Q4_K, Type.Q6_K)
    assert found["model.layers.4.mlp.gate.weight"] is found["model.norm.weight"] is None
    dense = tiny_config(Family.LLAMA, hidden_size=256, intermediate_size=512, num_hidden_layers=10)
    value = torch.empty(128, 256)
    kinds = [k_type(f"model.layers.{layer}.self_attn.v_proj.weight", value, dense) for layer in range(10)]
    assert [kind is Type.Q6_K for kind in kinds] == [True, False, False, True, False, False, True, False, True, True]


def test_rows_that_do_not_divide_take_what_fits() -> None:
    config = tiny_config(Family.DEEPSEEK_V2, n_routed_experts=8)
    for columns, kind in ((256, Type.Q5_K), (96, Type.Q5_1), (48, Type.F16)):
        assert k_type("model.layers.1.self_attn.o_proj.weight", torch.empty(4, columns), config) is kind
    made = k_quants({"model.layers.0.mlp.gate.weight": torch.ones(8, 48)}, config, {})
    assert made["model.layers.0.mlp.gate.weight"].precision == "f32"
    with pytest.raises(ValueError, match="48 columns are no multiple of 256"):
        k_quantize(torch.ones(2, 48), Type.Q4_K)
    half = k_quantize(torch.full((2, 48), 0.1), Type.F16)
    assert half.kind is Type.F16
    assert torch.equal(half.weight(), torch.full((2, 48), 0.1).half().float())


def test_three_bits_run_in_llama_cpp_and_are_left_out_elsewhere(tmp_path: Path) -> None:
    """Q3_K and Q6_K among our own 4 and 8 bits: stored, read back, written as GGUF and computed with."""
    tokenizer = save_tokenizer(tmp_path / "tokenizer")
    model = tiny_model(Family.DEEPSEEK_V3, **WIDE, v_head_dim=64, vocab_size=words().get_vocab_size())
    model.requires_grad_(False)
    save_model(model, tmp_path / "checkpoint", tokenizer)
    kinds = {Role.EXPERTS: Precision.Q3_K, Role.LINEAR: Precision.Q6_K, Role.EMBEDDINGS: Precision.Q8_0}
    plan = make_plan(model, kinds)
    assert plan["model.layers.1.self_attn.k_b_proj.weight"] in (Precision.F16, Precision.Q8_0)  # narrow rows
    plan["model.layers.1.self_attn.o_proj.weight"] = Precision.Q4_0
    plan["model.layers.1.mlp.experts.up_proj.weight"] = Precision.Q2_K
    plan["model.layers.2.mlp.experts.up_proj.weight"] = Precision.Q4_K
    stored = rounded(model, plan)
    save_quantized(tmp_path / "int4", stored, tmp_path / "checkpoint")
    config, found = read_units(tmp_path / "int4")
    assert {unit.precision for unit in found.values()} >= {"q2_k", "q3_k", "q4_k", "q6_k", "q4_0", "q8_0"}
    assert all(torch.equal(unit.weight(), stored[name].weight()) for name, unit in found.items())
    write_gguf(tmp_path / "model-q4_0.gguf", config, found, tokenizer, name="three")
    check_gguf(tmp_path / "model-q4_0.gguf", config, found)
    quantized = load_quantized(tmp_path / "int4").requires_grad_(False)
    assert check_runs(tmp_path / "model-q4_0.gguf", quantized, words()) < 0.3  # 4 bits alone have 0.06 there
    assert (
        unknown(tmp_path / "int4")
        == "compressed-tensors knows no q2_k and q3_k and q4_k and q6_k, which only llama.cpp reads"
    )


def test_a_budget_is_spent_where_it_saves_most() -> None:
    """Within 2 % of the best of all combinations: the last step that does not fit is the difference."""
    weights = {"a": 4, "b": 4, "c": 8}
    costs = {
        Precision.Q3_K: {"a": 9.0, "c": 0.1},
        Precision.Q4_0: {"a": 4.0, "b": 6.0, "c": 0.05},
        Precision.Q6_K: {"a": 3.9, "c": 0.04},
        Precision.Q8_0: {"a": 0.1, "b": 0.2, "c": 0.04},
    }
    budget = 5.5 * 16
    chosen = chosen_within(weights, costs, budget)
    best = min(
        (
            sum(costs[kind][name] for name, kind in zip(weights, kinds, strict=True))
            for kinds in itertools.product(costs, repeat=3)
            if all(name in costs[kind] for name, kind in zip(weights, kinds, strict=True))
            and sum(BITS[kind] * weights[name] for name, kind in zip(weights, kinds, strict=True)) <= budget
        ),
    )
    assert best <= sum(costs[kind][name] for name, kind in chosen.items()) <= 1.02 * best
    assert sum(BITS[kind] * weights[name] for name, kind in chosen.items()) <= budget
    assert chosen["b"] is Precision.Q8_0
