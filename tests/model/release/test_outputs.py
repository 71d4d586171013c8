"""Which outputs matter: the moments of gradients against autograd by hand, and what calibration makes of them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from model.architecture.config import Family
from model.architecture.transformer import Transformer
from model.release.calibrate import calibrate
from model.release.divergence import Reference
from model.release.outputs import output_moments
from model.release.quantized import make_plan
from model.release.rows import CalibrationBatch
from model.release.units import Role, units
from model.sections import Precision
from tests.model.conftest import tiny_model

WIDTHS = {"hidden_size": 64, "kv_lora_rank": 32, "qk_nope_head_dim": 32, "moe_intermediate_size": 32, "v_head_dim": 16}


def model_of(family: Family) -> Transformer:
    return tiny_model(family, vocab_size=97, **({} if family is Family.LLAMA else WIDTHS)).requires_grad_(False)


def rows(seed: int, count: int) -> CalibrationBatch:
    tokens_BT = torch.randint(97, (count, 24), generator=torch.Generator().manual_seed(seed))
    valid_BT = torch.ones_like(tokens_BT, dtype=torch.bool)
    valid_BT[0, 20:] = False
    return CalibrationBatch(tokens_BT, (torch.arange(24) > 9).long().expand(count, -1), valid_BT)


def slow_moments(model: Transformer, row: CalibrationBatch, drawn: dict[int, int]) -> dict[str, torch.Tensor]:
    """Gradients of one row, document by document, at the outputs that hooks leave in place."""
    kept: dict[str, torch.Tensor] = {}
    handles = []
    for name, module in model.named_modules():
        if (isinstance(module, nn.Linear) and name != "lm_head") or name == "model.embed_tokens":

            def keep(module: nn.Module, inputs: object, output: torch.Tensor, name: str = name) -> torch.Tensor:
                kept[name] = output if output.requires_grad else output.requires_grad_(True)
                kept[name].retain_grad()
                return kept[name]

            handles.append(module.register_forward_hook(keep))
    logits_TV = model.lm_head(model.hidden(row.tokens_BT, row.documents_BT))[0]
    torch.stack([logits_TV[place].log_softmax(-1)[token] for place, token in drawn.items()]).sum().backward()
    for handle in handles:
        handle.remove()
    return {name: output.grad.flatten(0, -2).double() for name, output in kept.items() if output.grad is not None}


@pytest.mark.parametrize("family", [Family.DEEPSEEK_V3, Family.LLAMA])
def test_moments_are_those_of_gradients_by_hand(family: Family) -> None:
    model, row = model_of(family), rows(1, 1)
    places = [place for place in range(19) if place != 9]  # the next token is of the same document and no padding
    with torch.no_grad():
        logits_nV = model.lm_head(model.hidden(row.tokens_BT, row.documents_BT))[0, places]
    tokens = logits_nV.softmax(-1).multinomial(1, generator=torch.Generator().manual_seed(3))[:, 0].tolist()
    found, twice = output_moments(model, [row], 3), output_moments(model, [row, row], 3)
    assert not torch.equal(twice["model.embed_tokens.weight"], 2 * found["model.embed_tokens.weight"])  # drawn anew
    gradients = slow_moments(model, row, dict(zip(places, tokens, strict=True)))
    assert (
        {"model.embed_tokens.weight", "model.layers.0.self_attn.o_proj.weight"} <= found.keys() <= units(model).keys()
    )
    for name, gradient in gradients.items():
        if name.endswith("kv_b_proj"):
            heads = gradient.unflatten(1, (model.config.num_attention_heads, -1))
            name, gradient = name.replace("kv_b", "v_b"), heads[..., model.config.qk_nope_head_dim :].flatten(1)
        torch.testing.assert_close(found.pop(f"{name}.weight"), (gradient.T @ gradient).float(), rtol=1e-3, atol=1e-8)
    assert not found


def test_codes_that_know_which_outputs_matter_are_nearer() -> None:
    fit, check, held_out = rows(4, 16), rows(5, 4), rows(6, 16)
    found = {}
    for knows in (False, True):
        model = model_of(Family.DEEPSEEK_V3)
        reference = Reference(model, [held_out])
        plan = make_plan(model, dict.fromkeys((Role.EXPERTS, Role.LINEAR, Role.EMBEDDINGS), Precision.Q4_0))
        outputs = output_moments(model, [fit], 0) if knows else {}
        made = calibrate(model, [fit], plan, damping=0.01, expert_tokens=8, check=[check], outputs=outputs)
        assert all(facts.error <= facts.error_rounded for facts in made.errors.values())
        found[knows] = reference.compare(model).kl
    assert found[True] < 0.95 * found[False], found
