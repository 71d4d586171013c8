"""Which outputs matter: the moments of gradients against autograd by hand, and what calibration makes of them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from model.architecture.config import Family
from model.architecture.moe import MixtureOfExperts
from model.architecture.transformer import Transformer
from model.release.calibrate import calibrate
from model.release.divergence import Reference, uncertainty
from model.release.outputs import output_moments
from model.release.quantized import make_plan
from model.release.rows import CalibrationBatch
from model.release.statistics import Moments
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


def test_uncertainty_is_the_trace_of_what_gradients_at_the_logits_have_for_moments() -> None:
    model, batch = model_of(Family.DEEPSEEK_V3), rows(1, 2)
    with torch.no_grad():
        logits_BTV = model.lm_head(model.hidden(batch.tokens_BT, batch.documents_BT))
    slow = []
    for logits_V in logits_BTV[batch.valid_BT].double():
        chance_V = logits_V.softmax(-1)
        gradients_VV = torch.eye(len(chance_V)) - chance_V  # of every token that may be drawn
        slow.append((chance_V[:, None] * gradients_VV.square()).sum())
    torch.testing.assert_close(uncertainty(model, batch).double(), torch.stack(slow), rtol=1e-4, atol=1e-6)


def test_a_token_that_counts_twice_is_a_token_seen_twice() -> None:
    ours, theirs = (torch.randn(1, 2, width, generator=torch.Generator().manual_seed(width)) for width in (3, 5))
    twice = [0, 0, 1]
    found = Moments.of(ours, theirs, torch.tensor([2.0, 1.0]))
    wanted = Moments.of(ours[:, twice], theirs[:, twice], None)
    for name in ("own_BCC", "cross_BYC", "original_BYY"):
        torch.testing.assert_close(getattr(found, name), getattr(wanted, name))


@pytest.mark.parametrize("knows", [False, True])
def test_tokens_count_by_their_uncertainty_where_outputs_do(knows: bool) -> None:
    """In the output layer, which sees all tokens, and in the experts, which see some."""
    model, batch = model_of(Family.DEEPSEEK_V3), rows(7, 4)
    plan = make_plan(model, dict.fromkeys((Role.EXPERTS, Role.LINEAR, Role.EMBEDDINGS), Precision.Q8_0))
    count_t = uncertainty(model, batch).double() if knows else torch.ones(int(batch.valid_BT.sum())).double()
    outputs = output_moments(model, [batch], 0) if knows else {}
    found = calibrate(model, [batch], plan, damping=0.01, expert_tokens=1, outputs=outputs).importance
    mixture = next(module for module in model.modules() if isinstance(module, MixtureOfExperts))
    inputs: list[torch.Tensor] = []
    mixture.register_forward_pre_hook(lambda module, args: inputs.append(args[0][batch.valid_BT]))
    with torch.no_grad():
        states_tD = model.hidden(batch.tokens_BT, batch.documents_BT)[batch.valid_BT]
        chosen_tK = mixture.gate(inputs[0])[1]
    is_first_t = (chosen_tK == 0).any(1)
    name = next(name for name in found if name.endswith("mlp.experts.gate_proj.weight"))
    for squares_C, seen_C in (
        (found["lm_head.weight"][0], count_t @ states_tD.double().square()),
        (found[name][0], count_t[is_first_t] @ inputs[0][is_first_t].double().square()),
    ):
        torch.testing.assert_close(squares_C, (seen_C / seen_C.mean() + 1e-6).float(), rtol=1e-3, atol=1e-5)
