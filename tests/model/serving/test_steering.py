"""What a request does to the logits, against a plain computation; and prompts that are read once."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from model.generation.generate import _prefill
from model.serving.prefix import PrefixCache
from model.serving.steering import Steering, entry
from pipeline.tokens.continuation import ContinuationDecoder
from tests.model.serving.talker import QUESTION, taught, words

BODY: dict[str, Any] = {"prompt": [1, 2, 2], "top_k": 0, "min_p": 0.0, "repeat_penalty": 1.0}
LOGITS = torch.tensor([0.5, -1.0, 3.0, 2.0, 1.0])


def steered(**change: Any) -> list[float]:
    steering = Steering(BODY | change, None)  # type: ignore[arg-type]
    steering.took(4)
    return [round(value, 4) for value in steering(LOGITS).tolist()]


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({}, [0.5, -1.0, 3.0, 2.0, 1.0]),
        ({"logit_bias": {"0": 2.0, "3": -100.0}}, [2.5, -1.0, 3.0, -98.0, 1.0]),
        ({"presence_penalty": 1.0}, [0.5, -2.0, 2.0, 2.0, 0.0]),
        ({"frequency_penalty": 1.0}, [0.5, -2.0, 1.0, 2.0, 0.0]),
        ({"repeat_penalty": 2.0}, [0.5, -2.0, 1.5, 2.0, 0.5]),
        ({"top_k": 2}, [-math.inf, -math.inf, 3.0, 2.0, -math.inf]),
        ({"min_p": 0.5}, [-math.inf, -math.inf, 3.0, -math.inf, -math.inf]),
        ({"min_p": 0.3}, [-math.inf, -math.inf, 3.0, 2.0, -math.inf]),
    ],
    ids=lambda value: str(value)[:30],
)
def test_each_key_does_what_it_says(change: dict[str, Any], wanted: list[float]) -> None:
    assert steered(**change) == wanted
    assert LOGITS.tolist() == [0.5, -1.0, 3.0, 2.0, 1.0]  # what is told of likelihoods is read from these


def test_how_likely_a_token_was() -> None:
    found = entry(ContinuationDecoder(words()), LOGITS, 3, 2)
    assert found["logprob"] == pytest.approx(float(LOGITS.log_softmax(0)[3]))
    assert [each["id"] for each in found["top_logprobs"]] == [2, 3]


def test_a_prompt_that_begins_like_an_earlier_one_is_not_read_again() -> None:
    """The numbers are those of the whole prompt."""
    model = taught()
    cache = PrefixCache(model, kept=2)
    first = words().encode(f"<|bos|><|user|>{QUESTION}<|assistant|>", add_special_tokens=False).ids
    longer = [*first, *words().encode("<think>4+8", add_special_tokens=False).ids]
    for prompt, known in ((first, 0), (first, len(first) - 1), (longer, len(first)), (longer[:6], 5), ([7, 8], 0)):
        past, logits_V, same, _ = cache.read(prompt)
        assert same == known
        plain_past, plain_BV = _prefill(model, [prompt], 1)
        torch.testing.assert_close(logits_V, plain_BV[0], rtol=1e-4, atol=1e-4)
        assert int(past.lengths_B) == len(prompt) == plain_past.seen
    assert cache.read(longer).known < len(first)  # only the last two are kept
