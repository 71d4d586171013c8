"""Generation: against the model without a cache, against the definition of top-p, and free of its batch."""

from __future__ import annotations

import pytest
import torch

from model.architecture.config import Family
from model.architecture.transformer import Transformer
from model.generation.generate import (
    Completion,
    Sampling,
    choose,
    generate,
    running_sum,
    stream,
)
from model.generation.reasoning import split_reasoning
from tests.model.conftest import tiny_model

PROMPTS = [[5], [7, 8, 9], list(range(10, 30)), [7, 8, 9], [3, 1, 4, 1, 5, 9, 2, 6], [11, 12]]
NEVER = 1_000


@torch.no_grad()
def _uncached(model: Transformer, prompt: list[int], new_tokens: int) -> tuple[list[int], list[float]]:
    """Greedy decoding by the book: the whole sequence through the model for every token."""
    tokens, logprobs = list(prompt), []
    for _ in range(new_tokens):
        logprobs_V = model(torch.tensor([tokens]))[0, -1].log_softmax(0)
        tokens.append(int(logprobs_V.argmax()))
        logprobs.append(float(logprobs_V.max()))
    return tokens[len(prompt) :], logprobs


@pytest.mark.parametrize("family", list(Family))
def test_greedy_equals_the_model_without_a_cache(family: Family) -> None:
    model = tiny_model(family)
    completions = generate(model, PROMPTS, Sampling(max_new_tokens=12), stop=NEVER, batch_size=4)
    for prompt, completion in zip(PROMPTS, completions, strict=True):
        tokens, logprobs = _uncached(model, prompt, 12)
        assert completion.tokens == tokens
        assert completion.logprobs == pytest.approx(logprobs, abs=1e-4)
        assert not completion.finished


@pytest.mark.parametrize("top_p", [1.0, 0.8])
def test_a_row_does_not_depend_on_its_batch(top_p: float) -> None:
    model = tiny_model()
    sampling = Sampling(max_new_tokens=16, temperature=0.9, top_p=top_p, seed=3)
    found = [generate(model, PROMPTS, sampling, stop=2, batch_size=size) for size in (1, 4, 64)]
    for other in found[1:]:
        assert [row.tokens for row in other] == [row.tokens for row in found[0]]
        for left, right in zip(other, found[0], strict=True):
            assert left.logprobs == pytest.approx(right.logprobs, abs=1e-4)


def test_how_likely_the_tokens_were_can_be_left_out() -> None:
    model = tiny_model()
    for sampling in (Sampling(8), Sampling(8, temperature=1.0)):
        found = generate(model, PROMPTS, sampling, stop=2, logprobs=False)
        assert [row.tokens for row in found] == [row.tokens for row in generate(model, PROMPTS, sampling, stop=2)]
        assert not any(row.logprobs for row in found)


def test_equal_prompts_get_noise_of_their_own_and_a_seed_repeats_it() -> None:
    model = tiny_model()
    rows = generate(model, [[7, 8, 9]] * 8, Sampling(16, temperature=1.0), stop=NEVER)
    assert len({tuple(row.tokens) for row in rows}) == 8
    assert generate(model, [[7, 8, 9]] * 8, Sampling(16, temperature=1.0), stop=NEVER) == rows
    assert generate(model, [[7, 8, 9]] * 8, Sampling(16, temperature=1.0, seed=1), stop=NEVER) != rows


def test_rows_end_at_the_stop_token() -> None:
    model = tiny_model()
    free = generate(model, PROMPTS, Sampling(max_new_tokens=12), stop=NEVER)
    stop = free[2].tokens[5]
    for before, after in zip(free, generate(model, PROMPTS, Sampling(max_new_tokens=12), stop=stop), strict=True):
        length = before.tokens.index(stop) + 1 if stop in before.tokens else 12
        assert after == Completion(before.tokens[:length], after.logprobs, finished=stop in before.tokens)
        assert after.logprobs == pytest.approx(before.logprobs[:length], abs=1e-4)


def test_stream_says_what_generate_says() -> None:
    model = tiny_model()
    sampling = Sampling(max_new_tokens=16, temperature=0.7, seed=5)
    (completion,) = generate(model, [PROMPTS[2]], sampling, stop=NEVER)
    stop = completion.tokens[9]
    expected = completion.tokens[: completion.tokens.index(stop)]
    assert list(stream(model, PROMPTS[2], sampling, stop=stop)) == expected


def test_samples_follow_the_distribution() -> None:
    probs = torch.tensor([0.5, 0.1, 0.3, 0.1])
    logits_BV = probs.log().expand(20_000, -1)
    uniform_B1 = torch.rand(20_000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def shares(sampling: Sampling) -> list[float]:
        counts = choose(logits_BV, sampling, uniform_B1).flatten().bincount(minlength=4)
        return (counts / 20_000).tolist()

    assert shares(Sampling(temperature=1.0)) == pytest.approx(probs.tolist(), abs=0.02)
    squared = probs.square() / probs.square().sum()
    assert shares(Sampling(temperature=0.5)) == pytest.approx(squared.tolist(), abs=0.02)
    # 0.5 alone falls short of 0.7, 0.5 + 0.3 does not
    assert shares(Sampling(temperature=1.0, top_p=0.7)) == pytest.approx([0.625, 0, 0.375, 0], abs=0.02)
    assert shares(Sampling(temperature=1.0, top_p=0.01)) == [1, 0, 0, 0]


def test_no_token_of_probability_zero_is_drawn() -> None:
    logits_BV = torch.tensor([[float("-inf"), 0.0, float("-inf"), 0.0, float("-inf")]]).expand(3, -1)
    uniform_B1 = torch.tensor([[0.0], [0.5], [1 - 2**-53]], dtype=torch.float64)
    assert choose(logits_BV, Sampling(temperature=1.0), uniform_B1).flatten().tolist() == [1, 3, 3]


@pytest.mark.parametrize("size", [2048, 5000])
def test_a_large_vocabulary_is_sampled_like_a_small_one(size: int) -> None:
    """In blocks: the very token at which the running sum of all passes the drawn share."""
    generator = torch.Generator().manual_seed(size)
    logits_BV = torch.randn(400, size, generator=generator) * 4
    logits_BV[:, torch.rand(size, generator=generator) < 0.5] = float("-inf")
    uniform_B1 = torch.rand(400, 1, generator=generator, dtype=torch.float64)
    uniform_B1[0], uniform_B1[1] = 0.0, 1 - 2**-53
    found_B = choose(logits_BV, Sampling(temperature=1.0), uniform_B1)[:, 0]
    probs_BV = logits_BV.double().softmax(1)
    sums_BV = probs_BV.cumsum(1)
    place = torch.arange(400)
    assert (probs_BV[place, found_B] > 0).all()
    assert (sums_BV[place, found_B] >= uniform_B1[:, 0] - 1e-6).all()
    assert (sums_BV[place, found_B] - probs_BV[place, found_B] <= uniform_B1[:, 0] + 1e-6).all()


def test_wrong_use_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        generate(tiny_model(), [[1], []], Sampling(), stop=0)
    with pytest.raises(ValueError, match="top_p"):
        Sampling(top_p=0)
    assert generate(tiny_model(), [], Sampling(), stop=0) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>1 + 1 is 2</think>2", ("1 + 1 is 2", "2")),
        ("1 + 1 is 2</think> 2 ", ("1 + 1 is 2", "2")),
        ("<think>1 + 1 is", ("1 + 1 is", "")),
        (" 2", ("", "2")),
        ("", ("", "")),
    ],
)
def test_split_reasoning(text: str, expected: tuple[str, str]) -> None:
    assert split_reasoning(text) == expected


@pytest.mark.parametrize("width", [1, 97, 3000])
def test_running_sums_in_whole_numbers(width: int) -> None:
    """What a GPU counts in, so that the order of additions cannot matter."""
    shares_BV = torch.randn(4, width).mul(3).softmax(1)
    sums_BV = running_sum(shares_BV, exact=True)
    torch.testing.assert_close(sums_BV, running_sum(shares_BV, exact=False), rtol=0, atol=1e-12)
    assert (sums_BV.diff(dim=1) >= 0).all()
    backwards_BV = running_sum(shares_BV.flip(1), exact=True)
    assert torch.equal(backwards_BV[:, -1], sums_BV[:, -1])
