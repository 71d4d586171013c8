"""Groups of parameters: what weight decay spares, and gates with a learning rate of their own."""

from __future__ import annotations

import torch

from model.sections import OptimizerConfig
from model.training.optimizer import make_optimizer, parameter_groups, set_learning_rate
from tests.model.conftest import tiny_model


def test_one_group_unless_asked_for() -> None:
    (group,) = parameter_groups(tiny_model().named_parameters(), OptimizerConfig())
    assert (group["weight_decay"], group["rate"]) == (0.1, 1.0)


def test_what_decay_spares() -> None:
    config = OptimizerConfig.model_validate({"decayed": "matrices", "router_rate": 2.0})
    found = parameter_groups(tiny_model().named_parameters(), config)
    groups = {(group["weight_decay"], group["rate"]): group["params"] for group in found}
    assert set(groups) == {(0.1, 1.0), (0.0, 1.0), (0.0, 2.0)}
    assert {name.rsplit(".", 2)[-2] for name, _ in groups[0.0, 2.0]} == {"gate"}
    assert all(value.dim() == 1 or "embed_tokens" in name for name, value in groups[0.0, 1.0])
    assert all(value.dim() > 1 for _, value in groups[0.1, 1.0])
    assert "lm_head.weight" in dict(groups[0.1, 1.0])


def test_gates_take_their_own_step() -> None:
    for optimizer in ("adamw", "muon"):
        moved = {}
        for rate in (1.0, 3.0):
            model = tiny_model()
            before = {name: value.detach().clone() for name, value in model.named_parameters()}
            config = OptimizerConfig.model_validate({"optimizer": optimizer, "router_rate": rate, "weight_decay": 0.0})
            found = make_optimizer(model.named_parameters(), config)
            for value in model.parameters():
                value.grad = torch.ones_like(value)
            set_learning_rate(found, 1e-3)
            found.step()
            moved[rate] = {name: (value - before[name]).abs().max() for name, value in model.named_parameters()}
        for name, step in moved[1.0].items():
            torch.testing.assert_close(
                moved[3.0][name], step * (3 if "mlp.gate.weight" in name else 1), rtol=1e-2, atol=1e-7
            )


def test_what_muon_leaves_to_adamw_may_have_its_own_rate() -> None:
    fields = {"optimizer": "muon", "router_rate": 2.0, "adamw_rate": 0.25}
    found = parameter_groups(tiny_model().named_parameters(), OptimizerConfig.model_validate(fields))
    rates = {name: group["rate"] for group in found for name, _ in group["params"]}
    assert (rates["lm_head.weight"], rates["model.embed_tokens.weight"]) == (0.25, 0.25)
    assert {rate for name, rate in rates.items() if "mlp.gate.weight" in name} == {0.5}
    assert {rate for name, rate in rates.items() if "norm" in name} == {0.25}
    assert {rate for name, rate in rates.items() if "proj" in name} == {1.0}
    fields["optimizer"] = "adamw"
    alone = parameter_groups(tiny_model().named_parameters(), OptimizerConfig.model_validate(fields))
    assert {group["rate"] for group in alone} == {1.0, 2.0}, "it says nothing to AdamW"
