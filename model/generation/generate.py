"""Text from a model: batched sampling with a key-value cache.

Rows of a batch may have prompts of any length, and leave the batch as they finish. Each row draws from random numbers
of its own, made from the seed and the row's place among the prompts: what a row says does not depend on how the rows
are cut into batches, but for near-ties that rounding decides. Samples come from the inverse of the cumulative
distribution, so one uniform number is one token.

Shapes: N unique prompts, B rows alive, T tokens of the longest prompt, V vocabulary.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from model.architecture.cache import KVCache
from model.architecture.transformer import Transformer
from model.generation.decode import StepDecoder
from model.generation.past import Past

__all__ = ["Completion", "Sampling", "choose", "generate", "is_well_formed", "stream"]

BLOCKS_FROM, BLOCK = 2048, 64
"""Size of a vocabulary from which on it is sampled in blocks, and that of a block."""
SHARE = 2.0**52
"""Parts of one that a running sum of whole numbers counts in."""
COMPACT_BELOW = 0.75
"""Share of rows alive below which the finished ones are dropped; dropping copies the cache."""


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen."""

    max_new_tokens: int = 128
    temperature: float = 0.0
    """0 takes the likeliest token."""
    top_p: float = 1.0
    """Sample from the likeliest tokens that together have this probability."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1 or self.temperature < 0 or not 0 < self.top_p <= 1:
            raise ValueError(f"max_new_tokens >= 1, temperature >= 0 and 0 < top_p <= 1 are wanted, not {self}")


@dataclass
class Completion:
    """What the model wrote after a prompt."""

    tokens: list[int] = field(default_factory=list)
    """New tokens, the stop token included."""
    logprobs: list[float] = field(default_factory=list)
    """Log probability of each token under the model itself, without temperature and top-p; empty where not wanted."""
    finished: bool = False
    """Whether the stop token came before `max_new_tokens`."""


def generate(
    model: Transformer,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    *,
    stop: int,
    batch_size: int = 64,
    numbers: Sequence[int] | None = None,
    logprobs: bool = True,
) -> list[Completion]:
    """Continue each of `prompts` until the token `stop` or the length limit; the same prompt may occur many times.

    Args:
        numbers: seed the random numbers of each prompt in place of its position, where `prompts` are a part of more.
        logprobs: whether the completions say how likely their tokens were.

    Raises:
        ValueError: an empty prompt.
    """
    completions = [Completion() for _ in prompts]
    # Prompts of like length share a batch: less padding. Stable, so that the batches are determined.
    order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        seeds = rows if numbers is None else [numbers[row] for row in rows]
        batch = [completions[row] for row in rows]
        for _ in _decode(model, [prompts[row] for row in rows], batch, seeds, sampling, stop, logprobs=logprobs):
            pass
    return completions


def stream(model: Transformer, prompt: Sequence[int], sampling: Sampling, *, stop: int) -> Iterator[int]:
    """Continue one prompt token by token, without the stop token: what `generate` says for it, as it comes."""
    completion = Completion()
    for _ in _decode(model, [prompt], [completion], [0], sampling, stop, logprobs=False):
        if not completion.finished:
            yield completion.tokens[-1]


def is_well_formed(text: str) -> bool:
    """Whether a decoded completion is one piece of reasoning inside its tags, and an answer after it."""
    found = re.fullmatch(r"<think>(.*)</think>(.*)", text, re.DOTALL)
    return found is not None and all(part.strip() and "think>" not in part for part in found.groups())


@torch.inference_mode()
def _decode(
    model: Transformer,
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Completion],
    seeds: Sequence[int],
    sampling: Sampling,
    stop: int,
    *,
    logprobs: bool,
) -> Iterator[None]:
    """Write the `completions` of the prompts, whose noise `seeds` seed; yields whenever each has one token more."""
    if not all(prompts):
        raise ValueError("a prompt is empty: it needs one token at least, such as <|bos|>")
    decoder = StepDecoder(model)
    past, logits_BV = _prefill(model, prompts, sampling.max_new_tokens)
    noise_BT: Tensor | None = None
    if sampling.temperature > 0:
        noise = [np.random.default_rng((sampling.seed, seed)).random(sampling.max_new_tokens) for seed in seeds]
        noise_BT = torch.from_numpy(np.stack(noise)).to(logits_BV.device)
    alive = list(enumerate(completions))  # with their places in the batch
    for step in range(sampling.max_new_tokens):
        tokens_B1 = choose(logits_BV, sampling, None if noise_BT is None else noise_BT[:, step : step + 1])
        tokens = tokens_B1[:, 0].tolist()
        for slot, completion in alive:
            completion.tokens.append(tokens[slot])
        if logprobs:
            logprobs_B = logits_BV.log_softmax(1).gather(1, tokens_B1)[:, 0].tolist()
            for slot, completion in alive:
                completion.logprobs.append(logprobs_B[slot])
        if stop in tokens:
            for slot, completion in alive:
                completion.finished = tokens[slot] == stop
            alive = [(slot, completion) for slot, completion in alive if not completion.finished]
        yield
        if not alive or step + 1 == sampling.max_new_tokens:
            return
        if len(alive) < COMPACT_BELOW * len(tokens):
            kept_B = torch.tensor([slot for slot, _ in alive], device=logits_BV.device)
            past.select(kept_B)
            tokens_B1, noise_BT = tokens_B1[kept_B], None if noise_BT is None else noise_BT[kept_B]
            alive = [(slot, completion) for slot, (_, completion) in enumerate(alive)]
        logits_BV = decoder(tokens_B1[:, 0], past)


def _prefill(model: Transformer, prompts: Sequence[Sequence[int]], new_tokens: int) -> tuple[Past, Tensor]:
    """What has been seen after the prompts, and the logits [B, V] of what follows; equal prompts are computed once."""
    weight = model.lm_head.weight
    device = weight.device
    unique = list(dict.fromkeys(map(tuple, prompts)))
    lengths_N = torch.tensor([len(prompt) for prompt in unique], device=device)
    longest = max(map(len, unique))
    tokens_NT = torch.tensor([[*prompt, *[0] * (longest - len(prompt))] for prompt in unique], device=device)
    positions_NT = torch.arange(longest, device=device).expand_as(tokens_NT)
    positions_NT = positions_NT.masked_fill(positions_NT >= lengths_N[:, None], -1)
    cache = KVCache(model.config, len(unique), longest, dtype=weight.dtype, device=device)
    hidden_NTD = model.hidden(tokens_NT, positions_BT=positions_NT, cache=cache)
    last_ND = hidden_NTD[torch.arange(len(unique), device=device), lengths_N - 1]
    place = {prompt: number for number, prompt in enumerate(unique)}
    copies_B = torch.tensor([place[tuple(prompt)] for prompt in prompts], device=device)
    return Past(model, cache, copies_B, longest + new_tokens), model.lm_head(last_ND).float()[copies_B]


def choose(logits_BV: Tensor, sampling: Sampling, uniform_B1: Tensor | None) -> Tensor:
    """The next tokens [B, 1]: the likeliest, or where the cumulative distribution passes `uniform_B1` (in [0, 1))."""
    if sampling.temperature == 0:
        if logits_BV.device.type == "cpu":  # NumPy looks through a row some seven times faster
            return torch.from_numpy(logits_BV.detach().numpy().argmax(1, keepdims=True))
        return logits_BV.argmax(1, keepdim=True)
    assert uniform_B1 is not None
    scaled_BV = logits_BV if sampling.temperature == 1 else logits_BV / sampling.temperature
    probs_BV = scaled_BV.softmax(1)
    if sampling.top_p == 1:
        return _invert(probs_BV, uniform_B1)
    probs_BV, tokens_BV = probs_BV.sort(stable=True, dim=1, descending=True)
    # a token stays when those before it fall short of top_p, so the likeliest always does
    before_BV = running_sum(probs_BV) - probs_BV
    probs_BV = probs_BV.masked_fill(before_BV >= sampling.top_p, 0.0)
    return tokens_BV.gather(1, _invert(probs_BV, uniform_B1))


def _invert(weights_BV: Tensor, uniform_B1: Tensor) -> Tensor:
    """Index [B, 1] of the first weight at which the running sum exceeds the given share of the whole.

    A running sum is slow, for every addition waits for the one before. Large vocabularies are summed in blocks, and
    within the block that is hit.
    """
    if weights_BV.shape[1] < BLOCKS_FROM:
        sums_BV = running_sum(weights_BV)
        return _first_beyond(sums_BV, uniform_B1 * sums_BV[:, -1:])
    blocks_Bbw = F.pad(weights_BV, (0, -weights_BV.shape[1] % BLOCK)).unflatten(1, (-1, BLOCK))
    sums_Bb = running_sum(blocks_Bbw.sum(2, dtype=torch.float64))
    target_B1 = uniform_B1 * sums_Bb[:, -1:]
    block_B1 = _first_beyond(sums_Bb, target_B1)
    left_B1 = target_B1 - F.pad(sums_Bb, (1, 0)).gather(1, block_B1)
    hit_Bw = blocks_Bbw.gather(1, block_B1[:, :, None].expand(-1, 1, BLOCK))[:, 0]
    sums_Bw = running_sum(hit_Bw)
    left_B1 = left_B1.minimum(sums_Bw[:, -1:] * (1 - 2**-53))  # rounding may have left the whole of the block
    return block_B1 * BLOCK + _first_beyond(sums_Bw, left_B1)


def running_sum(shares_Bx: Tensor, *, exact: bool | None = None) -> Tensor:
    """Cumulative sums in float64 of shares, which add up to one at most.

    With `exact`, the default on a GPU, as a count of `SHARE`s: there a running sum of floats has no fixed order, and
    an answer would not be the same every time.
    """
    if shares_Bx.is_cuda if exact is None else exact:
        return (shares_Bx.double() * SHARE).long().cumsum(1).double() / SHARE
    return shares_Bx.cumsum(1, dtype=torch.float64)


def _first_beyond(sums_BV: Tensor, target_B1: Tensor) -> Tensor:
    """Index [B, 1] of the first running sum above the target; the last where none is."""
    return torch.searchsorted(sums_BV, target_B1, right=True).clamp(max=sums_BV.shape[1] - 1)
