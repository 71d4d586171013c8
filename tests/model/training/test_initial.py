"""Initial weights by name: the same ones whatever else a model holds, of the spread that was asked for."""

from __future__ import annotations

import pytest
import torch

from model.architecture.config import Family
from model.architecture.transformer import Transformer
from model.sections import InitialWeights, Spread
from model.training.initial import branch_strengths, draw_weights
from tests.model.conftest import tiny_config


def _drawn(choice: InitialWeights, seed: int = 0, **changes: object) -> dict[str, torch.Tensor]:
    torch.manual_seed(99)
    model = Transformer(tiny_config(Family.DEEPSEEK, **changes))
    draw_weights(model, choice, seed)
    return {name: value.detach() for name, value in model.named_parameters()}


def test_the_default_draws_nothing() -> None:
    torch.manual_seed(99)
    plain = dict(Transformer(tiny_config(Family.DEEPSEEK)).named_parameters())
    assert all(torch.equal(value, plain[name]) for name, value in _drawn(InitialWeights()).items())


def test_models_that_share_a_weight_begin_with_the_same_one() -> None:
    choice = InitialWeights(by_name=True)
    few, many = _drawn(choice), _drawn(choice, n_routed_experts=16, num_hidden_layers=5)
    shared = [name for name, value in few.items() if value.shape == many[name].shape]
    assert len(shared) > 20
    assert all(torch.equal(few[name], many[name]) for name in shared)
    other = _drawn(choice, seed=1)
    assert not torch.equal(few["lm_head.weight"], other["lm_head.weight"])
    q, k = (few[f"model.layers.1.self_attn.{name}_proj.weight"] for name in "qk")
    assert not torch.equal(q, k)


def test_spread_depth_and_embeddings() -> None:
    flat = _drawn(InitialWeights(by_name=True), hidden_size=128, moe_intermediate_size=64)
    assert flat["model.layers.1.mlp.experts.down_proj"].std().item() == pytest.approx(0.2, rel=0.05)
    choice = InitialWeights(spread=Spread.FAN_IN, depth_scaled=True, unit_embeddings=True)
    found = _drawn(choice, hidden_size=128, moe_intermediate_size=64)
    expected = {
        "model.embed_tokens.weight": 1.0,
        "lm_head.weight": 128**-0.5,
        "model.layers.1.mlp.gate.weight": 128**-0.5,
        "model.layers.1.mlp.experts.gate_up_proj": 128**-0.5,
        "model.layers.1.mlp.experts.down_proj": 64**-0.5 / 6**0.5,
        "model.layers.2.self_attn.o_proj.weight": 128**-0.5 / 6**0.5,
    }
    for name, deviation in expected.items():
        assert found[name].std().item() == pytest.approx(deviation, rel=0.06), name
    assert torch.equal(found["model.norm.weight"], torch.ones(128))


def test_unit_embeddings_want_an_output_layer_of_their_own() -> None:
    with pytest.raises(ValueError, match="tie_word_embeddings"):
        _drawn(InitialWeights(unit_embeddings=True), tie_word_embeddings=True)


def test_branches_of_experts_without_normalised_gates_are_weaker() -> None:
    width = {"hidden_size": 64, "intermediate_size": 128, "moe_intermediate_size": 32, "initializer_range": 0.02}
    experts = {"n_routed_experts": 16, "num_experts_per_tok": 4, "n_shared_experts": 0}
    fields: dict[str, object] = {**width, **experts, "num_hidden_layers": 1}
    flat = InitialWeights()
    (dense,) = branch_strengths(tiny_config(Family.DEEPSEEK, **fields, first_k_dense_replace=1), flat)
    fields["first_k_dense_replace"] = 0
    (bare,) = branch_strengths(tiny_config(Family.DEEPSEEK, **fields), flat)
    (normal,) = branch_strengths(tiny_config(Family.DEEPSEEK, **fields, norm_topk_prob=True), flat)
    assert bare / dense < 0.2
    assert normal / dense == pytest.approx(1 / 4, rel=0.1)
