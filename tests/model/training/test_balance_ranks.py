"""Balance losses over ranks: two ranks with half of the batch each train as one process with all of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from infra.execution import ENVIRONMENT_KEY
from infra.launch import launch


def _history(folder: Path, monkeypatch: pytest.MonkeyPatch, ranks: int, training: dict[str, object]) -> list[dict]:
    folder.mkdir()
    monkeypatch.setenv(ENVIRONMENT_KEY, json.dumps({"ranks": ranks, "expert_parallel": ranks}))
    argument = {"out": str(folder), "family": "deepseek", "training": training}
    launch("tests.model.synthetic:run_rank", argument, ranks)
    return json.loads((folder / "history.json").read_text())


def test_device_and_expert_losses_agree_over_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = {"steps": 4, "micro_batch": 4, "balance_loss": 0.3, "device_balance_loss": 0.3, "balance_devices": 4}
    one = _history(tmp_path / "one", monkeypatch, 1, training)
    two = _history(tmp_path / "two", monkeypatch, 2, training)
    for mine, other in zip(one, two, strict=True):
        assert mine == pytest.approx(other, rel=1e-5)
    without = _history(tmp_path / "without", monkeypatch, 1, training | {"device_balance_loss": 0.0})
    assert without[-1]["grad_norm"] != pytest.approx(one[-1]["grad_norm"], rel=1e-3), "the loss is at work"
