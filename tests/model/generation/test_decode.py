"""The laid-out step against the model: every family and every choice of theirs, rows of unequal length."""

from __future__ import annotations

import pytest
import torch

from model.architecture.cache import KVCache
from model.architecture.config import Family
from model.generation import decode
from model.generation.decode import StepDecoder
from model.generation.past import Past
from tests.model.conftest import tiny_model

VARIANTS: dict[str, tuple[Family, dict[str, object]]] = {
    "llama": (Family.LLAMA, {}),
    "llama, a key per head": (Family.LLAMA, {"num_key_value_heads": None}),
    "deepseek": (Family.DEEPSEEK, {}),
    "deepseek, heads normed": (Family.DEEPSEEK, {"qk_norm": True}),
    "deepseek_v2, in groups": (Family.DEEPSEEK_V2, {"n_group": 4, "topk_group": 2}),
    "deepseek_v3": (Family.DEEPSEEK_V3, {}),
    "deepseek_v3, latents of odd width": (Family.DEEPSEEK_V3, {"kv_lora_rank": 15}),
    "deepseek_v3, queries compressed": (Family.DEEPSEEK_V3, {"q_lora_rank": 12}),
    "deepseek_v3, stretched": (
        Family.DEEPSEEK_V3,
        {"rope_scaling": {"factor": 4.0, "original_max_position_embeddings": 16}},
    ),
    "deepseek_v2, no shared experts": (Family.DEEPSEEK_V2, {"n_shared_experts": 0}),
}


@pytest.mark.parametrize("least", [0.0, 1e9], ids=["grouped", "all experts, products of weights"])
@pytest.mark.parametrize("name", VARIANTS)
def test_a_step_equals_the_model(name: str, least: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "DENSE_BELOW", least)
    monkeypatch.setattr(decode, "FOLDED_AT_MOST", least)
    family, changes = VARIANTS[name]
    model = tiny_model(family, **changes)
    lengths, steps = [9, 4, 13], 4
    tokens_BT = torch.randint(97, (3, 17), generator=torch.Generator().manual_seed(1))
    positions_BT = torch.arange(13).expand(3, -1)
    positions_BT = positions_BT.masked_fill(positions_BT >= torch.tensor(lengths)[:, None], -1)
    cache = KVCache(model.config, batch=3, capacity=13)
    decoder = StepDecoder(model)
    with torch.no_grad():
        model(tokens_BT[:, :13], positions_BT=positions_BT, cache=cache)
        order = [2, 0, 1, 0]
        past = Past(model, cache, torch.tensor(order), capacity=17)
        for step in range(steps):
            new_B = torch.stack([tokens_BT[row, lengths[row] + step] for row in order])
            logits_BV = decoder(new_B, past)
            for place, row in enumerate(order):
                whole = model(tokens_BT[row : row + 1, : lengths[row] + step + 1])[0, -1]
                torch.testing.assert_close(logits_BV[place], whole, atol=2e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="holds 17 tokens"):
        decoder(new_B, past)


@pytest.mark.parametrize("name", ["llama", "llama, a key per head", "deepseek", "deepseek_v3"])
def test_a_step_on_a_cache_in_8_bits_equals_the_model_on_one(name: str) -> None:
    family, changes = VARIANTS[name]
    model = tiny_model(family, **changes)
    tokens_BT = torch.randint(97, (2, 12), generator=torch.Generator().manual_seed(1))
    positions_BT = torch.stack((torch.arange(7), torch.arange(7) - 2)).clamp(min=-1)  # the second row begins later
    first, plain = (KVCache(model.config, batch=2, capacity=12, in_8_bits=eight) for eight in (True, False))
    size, before = (sum(each.nbytes for parts in cache.layers for each in parts) for cache in (first, plain))
    assert size < 0.35 * before  # a scale for 8 or 24 numbers; 8.5 of 32 bits where they are multiples of 32
    with torch.no_grad():
        for cache in (first, plain):
            model(tokens_BT[:, :7], positions_BT=positions_BT, cache=cache)
        past = Past(model, first, torch.arange(2), capacity=12)
        decoder, different = StepDecoder(model), 0.0
        for step in range(7, 12):
            wanted_BV, exact_BV = (model(tokens_BT[:, step : step + 1], cache=cache)[:, 0] for cache in (first, plain))
            found_BV = decoder(tokens_BT[:, step], past)
            torch.testing.assert_close(found_BV, wanted_BV, atol=0.03, rtol=0.01)
            different = max(different, float((wanted_BV - exact_BV).abs().max()))
        assert {part.dtype for part in past.layers[0]} == {torch.int8, torch.float16}
    assert 1e-4 < different < 0.5


def test_a_step_in_sixteen_bits_is_near_that_in_thirty_two() -> None:
    model = tiny_model().bfloat16()
    cache = KVCache(model.config, batch=2, capacity=8, dtype=torch.bfloat16)
    with torch.no_grad():
        model(torch.tensor([[5, 6, 7], [8, 9, 10]]), cache=cache)
        past = Past(model, cache, torch.arange(2), capacity=8)
        found_BV = StepDecoder(model)(torch.tensor([11, 12]), past)
        whole_BV = model.float()(torch.tensor([[5, 6, 7, 11], [8, 9, 10, 12]]))[:, -1]
    assert found_BV.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(found_BV, whole_BV).min() > 0.99
