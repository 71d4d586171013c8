"""What is seen of a policy that goes wrong, and what is left alone."""

from __future__ import annotations

from typing import Any

import pytest

from model.finetune_sections import GrpoConfig
from model.rl.watch import reason_to_stop


def steps(*phases: tuple[int, dict[str, float]]) -> list[dict[str, float]]:
    rows: list[dict[str, float]] = []
    for count, values in phases:
        usual = {"reward": 1.0, "accuracy": 0.5, "format": 0.5, "finished": 1.0, "kl": 0.01}
        rows += [usual | values | {"step": float(len(rows) + n + 1)} for n in range(count)]
    return rows


@pytest.mark.parametrize(
    ("phases", "message"),
    [
        (((30, {}),), None),
        (((3, {}), (4, {"reward": 0.0})), None),
        (((10, {}), (10, {"reward": 0.4, "accuracy": 0.4})), "the policy has collapsed"),
        (((10, {"kl": 3.0}),), "has left its reference"),
        (((10, {}), (10, {"finished": 0.01})), "answers no longer end"),
        (((10, {"finished": 0.01}),), None),
        (((10, {"accuracy": 0.8}), (10, {"accuracy": 0.1, "reward": 1.1})), "earned by a trick"),
        (((10, {"accuracy": 0.8}), (10, {"accuracy": 0.7, "reward": 1.1})), None),
    ],
)
def test_histories(phases: Any, message: str | None) -> None:
    found = reason_to_stop(steps(*phases), [], GrpoConfig())
    assert (found is None) if message is None else (found is not None and message in found)


def test_thresholds_of_zero_see_nothing() -> None:
    blind = GrpoConfig(collapse_below=0, max_kl=0, min_finished=0, hacking_margin=0)
    worst = steps((10, {"accuracy": 0.9}), (10, {"reward": 0.0, "accuracy": 0.0, "finished": 0.0, "kl": 99.0}))
    assert reason_to_stop(worst, [{"step": 0, "accuracy": 0.9}, {"step": 20, "accuracy": 0.1}], blind) is None


def test_learning_by_heart() -> None:
    history = steps((10, {"accuracy": 0.5}), (20, {"accuracy": 0.7}))
    validated = [{"step": 0.0, "accuracy": 0.66}, {"step": 30.0, "accuracy": 0.23}]
    found = reason_to_stop(history, validated, GrpoConfig())
    assert found is not None
    assert "held-out accuracy falls, from 66% after step 0 to 23%" in found
    assert reason_to_stop(history, [*validated[:1], {"step": 30.0, "accuracy": 0.6}], GrpoConfig()) is None
