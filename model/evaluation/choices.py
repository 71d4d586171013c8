"""Multiple choice: which of the given answers a model finds likeliest.

Every choice is read after the question, as the answer in the chat format with no reasoning before it, or for a base
model after ``Question: ... Answer:``. The choice whose tokens are likeliest in sum is the model's (accuracy), or the
likeliest per byte (normalised accuracy), which does not favour short ones: `acc` and `acc_bytes` of EleutherAI's
harness, which a test holds against it.

Shapes: R rows, T tokens, N continuation tokens of a batch, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch

from model.architecture.transformer import Transformer
from pipeline.tokens.chat import ChatFormat, chat_format
from pipeline.tokens.plain_text import After

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from pipeline.reasoning.problems import ChoiceProblem

__all__ = ["Likelihood", "choose_answers", "log_likelihoods"]


class Likelihood(NamedTuple):
    """Of a continuation after its context."""

    logprob: float
    """In nats."""
    is_greedy: bool
    """Whether each of its tokens is the likeliest one."""


@torch.inference_mode()
def log_likelihoods(
    model: Transformer, contexts: Sequence[Sequence[int]], continuations: Sequence[Sequence[int]], batch_size: int = 32
) -> list[Likelihood]:
    """How likely each continuation is after its context.

    Raises ValueError for an empty context: the first token needs one before it.
    """
    if not all(contexts):
        raise ValueError("an empty context: give it the token <|bos|> at least")
    found = [Likelihood(0.0, True)] * len(contexts)
    order = sorted(range(len(contexts)), key=lambda row: (len(contexts[row]) + len(continuations[row]), row))
    device = model.lm_head.weight.device
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        whole = [[*contexts[row], *continuations[row]] for row in rows]
        longest = max(map(len, whole))
        tokens_RT = torch.tensor([tokens + [0] * (longest - len(tokens)) for tokens in whole], device=device)
        lengths = [len(continuations[row]) for row in rows]
        places = [
            place * longest + len(contexts[row]) - 1 + offset
            for place, row in enumerate(rows)
            for offset in range(len(continuations[row]))
        ]  # of the positions that predict them, in the flattened [R * T]
        if not places:
            continue
        hidden_ND = model.hidden(tokens_RT).flatten(0, 1)[torch.tensor(places, device=device)]
        logprobs_NV = model.lm_head(hidden_ND).float().log_softmax(-1)
        wanted_N = torch.tensor([token for row in rows for token in continuations[row]], device=device)
        scores = logprobs_NV.gather(1, wanted_N[:, None])[:, 0].double().split(lengths)
        greedy = (logprobs_NV.argmax(1) == wanted_N).split(lengths)
        for row, score, is_first in zip(rows, scores, greedy, strict=True):
            found[row] = Likelihood(float(score.sum()), bool(is_first.all()))
    return found


def choose_answers(
    model: Transformer, tokenizer: Tokenizer, rows: Sequence[ChoiceProblem], *, chat: bool
) -> list[tuple[int, int]]:
    """Of each row (question, choices) the place of the likeliest choice, and of the likeliest per byte."""
    words = chat_format(tokenizer)
    contexts = [_context(words, row["question"], chat) for row in rows for _ in row["choices"]]
    begin, after = ("", After.CONTROL) if chat else (" ", After.TEXT)
    continuations = [words.encode(begin + choice, after) for row in rows for choice in row["choices"]]
    scores = [found.logprob for found in log_likelihoods(model, contexts, continuations)]
    chosen, place = [], 0
    for row in rows:
        mine = scores[place : place + len(row["choices"])]
        per_byte = [value / len(choice.encode()) for value, choice in zip(mine, row["choices"], strict=True)]
        chosen.append((mine.index(max(mine)), per_byte.index(max(per_byte))))
        place += len(row["choices"])
    return chosen


def _context(words: ChatFormat, question: str, chat: bool) -> list[int]:
    if chat:
        return [*words.question(question), *words.no_reasoning()]
    return [words.bos, *words.encode(f"Question: {question}\nAnswer:")]
