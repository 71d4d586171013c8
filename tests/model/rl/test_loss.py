"""GRPO's objective against the paper's equations, written out a token at a time."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.finetune_sections import Advantage, GrpoConfig, LossNormalisation
from model.rl.batches import SHARED_UP_TO, Answer, micro_batches
from model.rl.loss import group_advantages, grpo_loss, log_probabilities, token_weight
from model.rl.policy import Policy
from model.rl.reference import FrozenCopy
from model.rl.rewards import overlong, reward
from tests.model.conftest import tiny_model


def slow_loss(
    policy: list[list[float]],
    old: list[list[float]],
    reference: list[list[float]],
    advantages: list[float],
    clip: float,
    beta: float,
    clip_high: float | None = None,
    normalisation: str = "answer",
    longest: int = 8,
) -> float:
    """Eq 3 and 4 of DeepSeekMath for answers as lists of log probabilities; Eq 8 of DAPO, whose sum is over the tokens
    of all answers, and the sum of Dr. GRPO, over a constant."""
    total = 0.0
    upper = clip if clip_high is None else clip_high
    for answer in range(len(policy)):
        inner = 0.0
        for p, o, r in zip(policy[answer], old[answer], reference[answer], strict=True):
            ratio = math.exp(p - o)
            clipped = min(max(ratio, 1 - clip), 1 + upper)
            divergence = math.exp(r - p) - (r - p) - 1
            inner += min(ratio * advantages[answer], clipped * advantages[answer]) - beta * divergence
        total += inner / {"answer": len(policy[answer]), "token": 1, "constant": longest}[normalisation]
    return -total / (sum(map(len, policy)) if normalisation == "token" else len(policy))


@pytest.mark.parametrize("normalisation", LossNormalisation)
@pytest.mark.parametrize("clip_high", [None, 0.6])
def test_loss_and_gradient_are_the_papers(normalisation: LossNormalisation, clip_high: float | None) -> None:
    source = torch.Generator().manual_seed(0)
    lengths = [3, 1, 5, 2]
    draw = lambda: [(torch.rand(n, generator=source, dtype=torch.float64) - 2).tolist() for n in lengths]  # noqa: E731
    policy, old, reference = draw(), draw(), draw()
    advantages = [1.2, -0.7, 0.0, -1.5]

    def flat(values: list[list[float]]) -> torch.Tensor:
        return torch.tensor([value for row in values for value in row], dtype=torch.float64)

    def slowly() -> float:
        return slow_loss(policy, old, reference, advantages, 0.2, 0.04, clip_high, normalisation)

    weigh = token_weight(lengths, normalisation, 8)
    weights_N = torch.tensor([weigh(n) for n in lengths for _ in range(n)], dtype=torch.float64)
    spread_N = torch.tensor(
        [a for a, n in zip(advantages, lengths, strict=True) for _ in range(n)], dtype=torch.float64
    )
    logprobs_N = flat(policy).requires_grad_()
    terms = grpo_loss(
        logprobs_N, flat(old), flat(reference), spread_N, weights_N, clip=0.2, kl_weight=0.04, clip_high=clip_high
    )
    terms.loss.backward()
    assert terms.loss.item() == pytest.approx(slowly(), abs=1e-12)
    assert 0 < terms.clipped < 1
    assert logprobs_N.grad is not None
    gradient = logprobs_N.grad.tolist()
    step, place = 1e-6, 0
    for row in range(len(lengths)):
        for column in range(lengths[row]):
            kept = policy[row][column]
            policy[row][column] = kept + step
            above = slowly()
            policy[row][column] = kept - step
            below = slowly()
            policy[row][column] = kept
            assert gradient[place] == pytest.approx((above - below) / (2 * step), abs=1e-8)
            place += 1


def test_without_a_reference_there_is_no_divergence() -> None:
    logprobs_N = torch.tensor([-1.0, -2.0], requires_grad=True)
    terms = grpo_loss(
        logprobs_N, logprobs_N.detach(), None, torch.ones(2), torch.full((2,), 0.5), clip=0.2, kl_weight=0.04
    )
    assert (terms.loss.item(), terms.kl.item()) == (-1.0, 0.0)


@given(st.lists(st.lists(st.sampled_from([0.0, 1.0, 2.0]), min_size=4, max_size=4), min_size=1, max_size=5))
def test_advantages_are_standard_scores_of_the_group(rewards: list[list[float]]) -> None:
    found = group_advantages(torch.tensor(rewards, dtype=torch.float64)).tolist()
    for group, scores in zip(rewards, found, strict=True):
        mean = sum(group) / 4
        spread = math.sqrt(sum((value - mean) ** 2 for value in group) / 4)
        wanted = [(value - mean) / spread if spread else 0.0 for value in group]
        assert scores == pytest.approx(wanted)


def test_a_wider_clip_upwards_lets_unlikely_tokens_go_on() -> None:
    old_N = torch.tensor([-3.0, -3.0])
    logprobs_N = (old_N + torch.tensor([1.25, 0.75]).log()).requires_grad_()  # ratios
    edges_N, weights_N = torch.tensor([1.0, -1.0]), torch.ones(2)
    for clip_high, wanted in ((None, 2.0), (0.28, 1.0)):
        terms = grpo_loss(logprobs_N, old_N, None, edges_N, weights_N, clip=0.2, kl_weight=0, clip_high=clip_high)
        assert terms.clipped.item() == wanted, "downwards the bound stays where it was"


def test_advantages_may_stay_in_units_of_reward() -> None:
    rewards_QG = torch.tensor([[0.0, 0.0, 0.0, 1.0], [1.2, 1.2, 1.2, 1.2]], dtype=torch.float64)
    found = group_advantages(rewards_QG, Advantage.MEAN)
    assert found.tolist() == [[-0.25, -0.25, -0.25, 0.75], [0.0] * 4]


def test_an_answer_loses_for_its_last_tokens() -> None:
    """Eq 13 of DAPO: nothing up to L - C, then in proportion, and all of it without an end."""
    config = GrpoConfig(max_new_tokens=10, overlong_tokens=4)
    assert [overlong(length, True, config) for length in (1, 6, 7, 9, 10)] == [0, 0, 0.25, 0.75, 1]
    assert overlong(10, False, config) == 1


def test_log_probabilities_and_entropy() -> None:
    logits_NV = torch.randn(5, 7, generator=torch.Generator().manual_seed(1))
    tokens_N = torch.tensor([0, 6, 3, 3, 1])
    found, entropy = log_probabilities(logits_NV, tokens_N)
    wanted_NV = logits_NV.log_softmax(1)
    torch.testing.assert_close(found, wanted_NV[torch.arange(5), tokens_N])
    torch.testing.assert_close(entropy, -(wanted_NV.exp() * wanted_NV).sum(1))


@pytest.mark.parametrize(("max_tokens", "world"), [(16, 1), (300, 1), (10_000, 1), (300, 2), (10_000, 9)])
def test_micro_batches_give_every_answer_token_its_probability_and_weight(max_tokens: int, world: int) -> None:
    model = tiny_model()
    source = torch.Generator().manual_seed(3)
    answers = []
    for number, (size, lengths) in enumerate(((3, (4, 6)), (5, (1,)), (2, (9, 140, 1, 5)), (4, (40, 50, 60)))):
        prompt = torch.randint(0, 97, (size,), generator=source).tolist()
        for length in lengths:
            tokens = torch.randint(0, 97, (length,), generator=source).tolist()
            answers.append(Answer(prompt, tokens, [0.0] * length, 1000.0 * number + length))
    seen: dict[float, list[float]] = {}
    weigh = token_weight([len(answer.tokens) for answer in answers], LossNormalisation.ANSWER, 140)
    weight = 0.0
    with torch.no_grad():
        parts = [
            micro_batches(answers, max_tokens, torch.device("cpu"), weigh, rank=rank, world=world)
            for rank in range(world)
        ]
        assert len({len(share) for share in parts}) == 1, "as many for each rank"
        for part in (part for share in parts for part in share if part.weights_N.any()):
            assert part.tokens_BT.shape[1] <= SHARED_UP_TO or part.documents_BT is None
            logprobs_N, _ = part.log_probabilities(model)
            weight += part.weights_N.sum().item()
            for edge, value in zip(part.advantages_N.tolist(), logprobs_N.tolist(), strict=True):
                seen.setdefault(edge, []).append(value)
        for answer in answers:
            whole = torch.tensor([answer.prompt + answer.tokens])
            logits_TV = model.lm_head(model.hidden(whole))[0].log_softmax(-1)
            first = len(answer.prompt) - 1
            alone = [logits_TV[first + place, token].item() for place, token in enumerate(answer.tokens)]
            assert seen[answer.advantage] == pytest.approx(alone, abs=1e-5)
    assert weight == pytest.approx(1.0)


def test_rewards_add_up() -> None:
    class Solved:
        score, is_well_formed = 1.0, False

    config = GrpoConfig(accuracy_reward=2.0, format_reward=0.5)
    assert reward(Solved(), config).total == 2.0  # type: ignore[arg-type]
    Solved.is_well_formed = True
    assert reward(Solved(), config).total == 2.5  # type: ignore[arg-type]


def test_the_gradient_of_an_update_is_that_of_the_plain_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the whole model, in micro-batches, against one answer and one token at a time."""
    config = GrpoConfig(kl_weight=0.04, clip=0.2, micro_tokens=24)
    model, reference = tiny_model(), tiny_model(seed=1)
    source = torch.Generator().manual_seed(5)
    answers = []
    for size, length, edge in ((3, 4, 1.3), (0, 6, 0.2), (5, 1, -0.4), (2, 9, -0.9), (0, 2, 1.1), (4, 3, 0.0)):
        prompt = torch.randint(0, 97, (size,), generator=source).tolist() if size else answers[-1].prompt
        tokens = torch.randint(0, 97, (length,), generator=source).tolist()
        old = (torch.rand(length, generator=source) * 0.6 - 4.9).tolist()  # some ratios are beyond the clip
        answers.append(Answer(prompt, tokens, old, edge))
    plain = copy.deepcopy(model)
    policy = Policy(model, config)
    policy.reference = FrozenCopy(reference, policy.device)
    found: dict[str, torch.Tensor] = {}

    def keep(rate: float) -> torch.Tensor:
        found.update({name: p.grad.clone() for name, p in policy.actor.named_parameters() if p.grad is not None})
        return torch.tensor(0.0)

    monkeypatch.setattr(policy.engine, "step", keep)
    row = policy.update(answers, 1e-6)
    assert row is not None
    total = torch.zeros(())
    clipped = 0
    for answer in answers:
        whole = torch.tensor([answer.prompt + answer.tokens])
        mine = plain(whole)[0].log_softmax(-1)
        with torch.no_grad():
            theirs = reference(whole)[0].log_softmax(-1)
        inner = torch.zeros(())
        for place, token in enumerate(answer.tokens):
            at = len(answer.prompt) - 1 + place
            ratio = (mine[at, token] - answer.logprobs[place]).exp()
            bounded = ratio.clamp(0.8, 1.2)
            clipped += bool(bounded * answer.advantage < ratio * answer.advantage)
            log_ratio = theirs[at, token] - mine[at, token]
            divergence = log_ratio.exp() - log_ratio - 1
            inner = inner + torch.minimum(ratio * answer.advantage, bounded * answer.advantage) - 0.04 * divergence
        total = total - inner / len(answer.tokens) / len(answers)
    total.backward()
    assert clipped > 0
    assert row["loss"] == pytest.approx(total.item(), abs=1e-5)
    for name, parameter in plain.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(found[name], parameter.grad, atol=1e-5, rtol=1e-3, msg=name)


def test_language_is_rewarded_where_one_is_wanted() -> None:
    class Solved:
        score, is_well_formed, reasoning = 1.0, True, "two 加 two"

    config = GrpoConfig(language="en", language_reward=0.3, format_reward=0.5)
    found = reward(Solved(), config)  # type: ignore[arg-type]
    assert found.language == pytest.approx(2 / 3)
    assert found.total == pytest.approx(1.5 + 0.2)
    with pytest.raises(ValueError, match="there are ar, bg"):
        GrpoConfig(language="klingon")
