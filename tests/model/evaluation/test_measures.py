"""Intervals, pass@k and maj@k against what they are defined to be."""

from __future__ import annotations

from functools import partial
from itertools import combinations
from statistics import fmean, stdev

import pytest

from model.evaluation.measures import majority, mean_interval, pass_at_k, wilson
from pipeline.reasoning.scoring import same_answer


def test_wilson() -> None:
    low, high = wilson(50, 100)
    assert (low, high) == (pytest.approx(0.4038, abs=1e-4), pytest.approx(0.5962, abs=1e-4))
    assert wilson(0, 10)[0] == pytest.approx(0.0, abs=1e-12)
    assert wilson(0, 10)[1] == pytest.approx(0.2775, abs=1e-4)
    assert wilson(10, 10)[1] == pytest.approx(1.0)


@pytest.mark.parametrize(("right", "samples", "k"), [(0, 5, 2), (1, 5, 2), (3, 6, 3), (5, 5, 1), (2, 7, 7), (4, 6, 3)])
def test_pass_at_k_counts_all_draws(right: int, samples: int, k: int) -> None:
    draws = [any(place < right for place in drawn) for drawn in combinations(range(samples), k)]
    assert pass_at_k(right, samples, k) == pytest.approx(fmean(draws))


def test_pass_at_more_than_there_are() -> None:
    with pytest.raises(ValueError, match=r"pass@4 of 3 samples"):
        pass_at_k(1, 3, 4)


def test_majority() -> None:
    assert majority(["7", "8", "8"]) == 1
    assert majority(["7", "8"]) == 0
    assert majority(["", "", "8"]) == 2
    assert majority(["", ""]) == 0


def test_votes_for_one_value_count_together_however_it_is_written() -> None:
    row = {"task": "mine", "question": "How many km?", "answer": "7 km", "metadata": {"file": "mine.jsonl"}}
    answers = ["8 km", "8", "7", "7 km", "The answer is 7000 m.", "8"]
    assert majority(answers) == 1  # "8" is written alike twice
    assert majority(answers[:5], partial(same_answer, row=row)) == 2
    gym = {"task": "chain_sum", "question": "?", "answer": "7", "metadata": {"source_dataset": "chain_sum"}}
    assert majority(["8", "7", "7.0"], partial(same_answer, row=gym)) == 1
    assert not same_answer("x", "y", gym)


def test_an_interval_holds_the_mean() -> None:
    low, high = mean_interval([0.0, 1.0, 1.0, 0.5])
    assert low < fmean([0.0, 1.0, 1.0, 0.5]) < high
    low, high = mean_interval([1.0] * 8)  # eight of eight are not certain
    assert (low, high) == (pytest.approx(0.628, abs=1e-3), 1.0)
    low, high = mean_interval([0.0, 1.0] * 50)  # of shares it is Agresti and Coull's, here nearly Wilson's
    assert (low, high) == (pytest.approx(wilson(50, 100)[0], abs=1e-3), pytest.approx(wilson(50, 100)[1], abs=1e-3))
    plain = 1.96 * stdev([0.4, 0.6] * 200) / 400**0.5
    low, high = mean_interval([0.4, 0.6] * 200)
    assert (high - low) / 2 == pytest.approx(plain, rel=0.2)
