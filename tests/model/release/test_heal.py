"""Healing: its loss against a loop over tokens, its steps whatever the cut, a killed run the same bytes."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch

from model.architecture.transformer import Transformer
from model.release.heal import Healing, heal
from model.release.prune import without
from model.release.rows import CalibrationBatch
from model.sections import PruneConfig
from model.training.journal import Row
from model.training.trainer import StepResult
from tests.model.conftest import tiny_model

CONFIG = PruneConfig(share=0.25, heal_steps=4, heal_batch=3, heal_learning_rate=1e-3)


def _rows() -> list[CalibrationBatch]:
    """Five rows of two documents and padding."""
    generator = torch.Generator().manual_seed(3)
    tokens_BT = torch.randint(97, (5, 12), generator=generator)
    documents_BT = torch.arange(12).ge(4).long().expand(5, -1)
    whole = CalibrationBatch(tokens_BT, documents_BT, torch.arange(12).lt(9).expand(5, -1))
    columns = (whole.tokens_BT, whole.documents_BT, whole.valid_BT)
    return [CalibrationBatch(*(column[part] for column in columns)) for part in (slice(0, 2), slice(2, 5))]


def _models() -> tuple[Transformer, Transformer]:
    model = tiny_model().requires_grad_(False)
    return model, without(model, CONFIG.architecture(model.config), {1: torch.arange(6), 2: torch.arange(2, 8)})


def _healed(work: Path, at_once: int = 8) -> tuple[dict[str, torch.Tensor], list[Row]]:
    model, pruned = _models()
    healed, steps = heal(pruned, model, _rows(), CONFIG, seed=0, at_once=at_once, work=work)
    return healed.state_dict(), steps


def test_the_loss_is_that_of_a_loop_over_tokens(tmp_path: Path) -> None:
    _, steps = _healed(tmp_path)
    model, pruned = _models()
    rows = [(row, batch) for batch in _rows() for row in range(len(batch.tokens_BT))]
    divergences = []
    with torch.no_grad():
        for row, batch in rows:
            inputs = (batch.tokens_BT[row : row + 1], batch.documents_BT[row : row + 1])
            theirs_TV, ours_TV = (
                each.lm_head(each.hidden(*inputs))[0].double().softmax(-1) for each in (model, pruned)
            )
            total, count = 0.0, 0
            for place in range(11):
                if place + 1 < 9 and place != 3:  # the next token is real and of the same document
                    total += (theirs_TV[place] * (theirs_TV[place] / ours_TV[place]).log()).sum().item()
                    count += 1
            assert count == 7
            divergences.append(total / count)
    means = {sum(divergences[row] for row in three) / 3 for three in torch.combinations(torch.arange(5), 3).tolist()}
    assert min(abs(steps[0]["divergence"] - mean) for mean in means) < 1e-6  # of three of the rows
    assert steps[-1]["divergence"] < steps[0]["divergence"]


def test_rows_at_once_change_nothing_but_rounding(tmp_path: Path) -> None:
    (one, _), (many, _) = _healed(tmp_path / "one", 1), _healed(tmp_path / "many", 8)
    for name in one:
        torch.testing.assert_close(one[name], many[name], atol=1e-5, rtol=1e-4)


def test_a_run_that_was_stopped_ends_with_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted, history = _healed(tmp_path / "whole")
    step = Healing.step

    def stopped(self: Healing, number: int) -> StepResult:
        if number == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, number)

    with monkeypatch.context() as patch:
        patch.setattr(Healing, "step", stopped)
        with pytest.raises(SystemExit) as ended:
            _healed(tmp_path / "cut")
    assert ended.value.code == 143
    found, steps = _healed(tmp_path / "cut")
    assert steps == history
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
