"""Expert-selective fine-tuning: the chosen experts move, and not one bit of anything else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from infra.errors import UserError
from model.architecture.checkpoint import load_model, save_model
from model.architecture.config import Family
from model.finetune_sections import EsftScore, SftConfig
from model.training.esft import _most_used, expert_use
from model.training.sft import sft
from tests.model.artifacts import shared_artifacts
from tests.model.conftest import tiny_model


def test_the_fewest_experts_that_reach_the_threshold() -> None:
    use = torch.tensor([0.1, 0.4, 0.1, 0.4])
    assert _most_used(use, 0.3) == [1]
    assert _most_used(use, 0.5) == [1, 3]
    assert _most_used(use, 0.85) == [0, 1, 3]
    assert _most_used(use, 1.0) == [0, 1, 2, 3]


@pytest.mark.parametrize("score", list(EsftScore))
def test_the_use_of_experts_is_counted(score: EsftScore) -> None:
    model = tiny_model()
    tokens = torch.randint(0, 97, (2, 12), generator=torch.Generator().manual_seed(0))
    counted = torch.ones_like(tokens, dtype=torch.bool)
    counted[1, 5:] = False
    found = expert_use(model, tokens, None, counted, score)
    wanted = {layer: torch.zeros(model.config.n_routed_experts) for layer in model.config.moe_layers}
    for layer in model.config.moe_layers:
        seen: list[Any] = []
        gate = model.get_submodule(f"model.layers.{layer}.mlp.gate")
        handle = gate.register_forward_hook(lambda module, inputs, outputs, seen=seen: seen.append(outputs))
        with torch.no_grad():
            model.hidden(tokens)
        handle.remove()
        gates, experts = seen[0]
        for token in counted.flatten().nonzero().flatten().tolist():
            for value, expert in zip(gates[token].tolist(), experts[token].tolist(), strict=True):
                wanted[layer][expert] += value if score is EsftScore.GATE else 1
        torch.testing.assert_close(found[layer], wanted[layer] / wanted[layer].sum())


@pytest.fixture(scope="module")
def inputs() -> dict[str, Path]:
    made = shared_artifacts()
    return {name: made[name] for name in ("tokenizer", "reasoning")} | {"start": made["pretrain"]}


def _config(**changes: Any) -> SftConfig:
    fields: dict[str, Any] = {
        "steps": 6, "batch_size": 2, "sequence_length": 96, "learning_rate": 1e-2, "accuracy_tasks": 0,
        "trained": "experts", "esft_threshold": 0.4, "esft_rows": 4, "validation_sequences": 4,
    }  # fmt: skip
    return SftConfig.model_validate(fields | changes)


def test_only_the_chosen_experts_move(inputs: dict[str, Path], tmp_path: Path) -> None:
    metrics = sft(_config(), inputs, tmp_path)
    chosen = json.loads((tmp_path / "experts.json").read_text())
    before, after = (load_model(folder / "model").state_dict() for folder in (inputs["start"], tmp_path))
    moved = 0
    for name, value in before.items():
        if ".mlp.experts." not in name:
            assert torch.equal(value, after[name]), name
            continue
        trained = chosen[name.split(".")[2]]["trained"]
        for expert in range(len(value)):
            is_same = torch.equal(value[expert], after[name][expert])
            assert is_same == (expert not in trained), (name, expert)
            moved += not is_same
    assert moved == 2 * metrics.trained_experts > 0
    assert metrics.trained_experts_share < 1
    assert metrics.loss_after < metrics.loss_before
    assert all(abs(sum(layer["use"]) - 1) < 1e-4 for layer in chosen.values())


def test_a_dense_model_has_no_experts_to_choose(inputs: dict[str, Path], tmp_path: Path) -> None:
    size = load_model(inputs["start"] / "model").config.vocab_size
    save_model(tiny_model(Family.LLAMA, vocab_size=size), tmp_path / "dense" / "model", inputs["tokenizer"])
    with pytest.raises(UserError, match="this one is dense"):
        sft(_config(), inputs | {"start": tmp_path / "dense"}, tmp_path / "out")
