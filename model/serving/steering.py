"""What a request does to the logits of our own engine before a token is chosen, in llama.cpp's order.

Bias, penalties and the grammar change the logits; `top_k` and `min_p` take tokens out of the choice. How likely a token
was is told of the model's own logits, before any of it.

Shapes: V vocabulary.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from model.serving.spec import CompletionRequest, TokenEntry, TopEntry

if TYPE_CHECKING:
    from llguidance import LLTokenizer

    from pipeline.tokens.continuation import ContinuationDecoder

__all__ = ["Steering", "entry"]


class Steering:
    """Of one request."""

    def __init__(self, body: CompletionRequest, grammars: LLTokenizer | None) -> None:
        """`grammars` reads the request's grammar, where it has one."""
        self._body = body
        self._bias = {int(token): value for token, value in (body.get("logit_bias") or {}).items()}
        self._seen = Counter(body["prompt"])
        self._matcher = None
        if body.get("grammar"):
            from llguidance import LLMatcher

            assert grammars is not None
            self._matcher = LLMatcher(grammars, body["grammar"])

    def __call__(self, logits_V: Tensor) -> Tensor:
        """The logits to choose from; -inf for what may not be chosen.

        Raises:
            ValueError: the grammar has come to a point that its library cannot go on from.
        """
        logits_V = logits_V.clone()
        for token, value in self._bias.items():
            logits_V[token] += value
        self._penalise(logits_V)
        self._hold(logits_V)
        self._narrow(logits_V)
        return logits_V

    def _penalise(self, logits_V: Tensor) -> None:
        """Penalties for tokens of the prompt and of the answer so far, as llama.cpp and CTRL (1909.05858) have them."""
        presence, frequency = self._body.get("presence_penalty", 0.0), self._body.get("frequency_penalty", 0.0)
        repetition = self._body["repeat_penalty"]
        if not presence and not frequency and repetition == 1:
            return
        tokens = torch.tensor(list(self._seen))
        counts = torch.tensor(list(self._seen.values()), dtype=logits_V.dtype)
        seen = logits_V[tokens]
        seen = torch.where(seen > 0, seen / repetition, seen * repetition)
        logits_V[tokens] = seen - presence - frequency * counts

    def _hold(self, logits_V: Tensor) -> None:
        if self._matcher is None:
            return
        mask = self._matcher.compute_logit_bias()
        if self._matcher.is_error():
            raise ValueError(f"the grammar cannot be held any further: {self._matcher.get_error()[:200]}")
        allowed = torch.frombuffer(bytearray(mask), dtype=torch.uint8)[: len(logits_V)] > 0
        logits_V[: len(allowed)].masked_fill_(~allowed, -math.inf)
        logits_V[len(allowed) :] = -math.inf

    def _narrow(self, logits_V: Tensor) -> None:
        """`top_k` and `min_p`; the likeliest token always stays."""
        top_k, min_p = self._body["top_k"], self._body["min_p"]
        if 0 < top_k < len(logits_V):
            logits_V.masked_fill_(logits_V < logits_V.topk(top_k).values[-1], -math.inf)
        if min_p > 0:
            logits_V.masked_fill_(logits_V < logits_V.max() + math.log(min_p), -math.inf)

    def took(self, token: int) -> None:
        """Note the token that was chosen."""
        self._seen[token] += 1
        if self._matcher is not None:
            self._matcher.consume_token(token)

    @property
    def is_over(self) -> bool:
        """Whether the grammar lets nothing follow."""
        return self._matcher is not None and self._matcher.is_stopped()


def entry(words: ContinuationDecoder, logits_V: Tensor, token: int, top: int) -> TokenEntry:
    """What is told of a token where `logits_V` was to choose from, with so many of the likeliest."""
    logprobs_V = logits_V.log_softmax(0)
    values, tokens = logprobs_V.topk(min(top, len(logprobs_V)))
    likeliest = [_one(words, *pair) for pair in zip(tokens.tolist(), values.tolist(), strict=True)]
    return {**_one(words, token, float(logprobs_V[token])), "top_logprobs": likeliest}


def _one(words: ContinuationDecoder, token: int, logprob: float | None) -> TopEntry:
    found = words.bytes_of(token)
    return {"id": token, "token": found.decode(errors="replace"), "bytes": list(found), "logprob": logprob}
