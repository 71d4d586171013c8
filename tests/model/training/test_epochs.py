"""The order in which data come round."""

from __future__ import annotations

from model.training.epochs import places_of_step


def test_every_place_comes_once_per_epoch_in_another_order() -> None:
    steps = [place for step in range(10) for place in places_of_step(step, 4, 20, 0)]
    assert sorted(steps[:20]) == sorted(steps[20:]) == list(range(20))
    assert steps[:20] != steps[20:]


def test_a_step_may_end_one_epoch_and_begin_the_next() -> None:
    steps = [place for step in range(2) for place in places_of_step(step, 5, 5, 1)]
    assert [place for step in range(5) for place in places_of_step(step, 2, 5, 1)] == steps
