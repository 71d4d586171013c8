"""Multi-token prediction in training: its loss against a loop over tokens, its weight, and a run that learns by it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from model.training.next_token import train
from model.training.prediction import loss_tokens_at, prediction_weight, targets_at
from tests.model.conftest import tiny_model
from tests.model.synthetic import CountingBatches, small_training


def test_losses_equal_a_loop_over_tokens() -> None:
    model = tiny_model(num_nextn_predict_layers=2)
    tokens_BT = torch.randint(0, 97, (2, 9), generator=torch.Generator().manual_seed(0))
    documents_BT = torch.tensor([[0] * 4 + [1] * 5, [0] * 9])
    mask_BT = torch.rand(2, 9, generator=torch.Generator().manual_seed(1)) < 0.7
    targets = [targets_at(depth, tokens_BT, documents_BT, mask_BT) for depth in range(3)]
    with torch.no_grad():
        losses = model(tokens_BT, documents_BT=documents_BT, targets=targets)
        logits = model(tokens_BT, documents_BT=documents_BT, mtp=True)
    for depth, (loss, logits_BtV) in enumerate(zip(losses, logits, strict=True)):
        slow = 0.0
        for row in range(2):
            for i in range(9 - depth - 1):
                target = i + depth + 1
                if documents_BT[row, target] == documents_BT[row, i] and mask_BT[row, target]:
                    slow -= logits_BtV[row, i].log_softmax(-1)[tokens_BT[row, target]].item()
        assert loss.item() == pytest.approx(slow, rel=1e-5)


def test_what_is_learned_at_depth_zero_is_the_next_token() -> None:
    loss_tokens_BT = loss_tokens_at(
        0, torch.zeros(1, 5), torch.tensor([[0, 0, 1, 1, 1]]), torch.tensor([[1, 1, 1, 0, 1]])
    )
    assert loss_tokens_BT.tolist() == [[True, False, False, True]]


def test_the_weight_falls_as_in_v3() -> None:
    config = small_training(steps=148, prediction_loss_until=100 / 148)
    assert [prediction_weight(config, step) for step in (0, 99, 100, 147)] == [0.3, 0.3, 0.1, 0.1]


def test_a_run_learns_the_token_after_the_next(tmp_path: Path) -> None:
    model, plain = tiny_model(num_nextn_predict_layers=1), tiny_model()
    plain.load_state_dict({name: model.state_dict()[name].clone() for name in plain.state_dict()})
    result = train(model, CountingBatches(), small_training(steps=12), tmp_path)
    first, last = result.history[0], result.history[-1]
    assert last["prediction_loss"] < 0.8 * first["prediction_loss"]
    assert "expert_load_cv/layer_3" in last, "the prediction layer's experts are watched too"
    alone = train(plain, CountingBatches(), small_training(steps=1), tmp_path / "plain").history[0]
    assert "prediction_loss" not in alone
    assert first["loss"] == pytest.approx(alone["loss"], rel=1e-5), "the main model's loss is its own"
