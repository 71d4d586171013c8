"""Multiple choice: which of the given answers a model finds likeliest.

Every choice is read after the question, as the answer in the chat format with no reasoning before it, or for a base
model after ``Question: ... Answer:``. The choice whose tokens are likeliest in sum is the model's (accuracy), or the
likeliest per byte (normalised accuracy), which does not favour short ones; both as in EleutherAI's harness.

Shapes: R rows, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from model.generate import prompt_text
from model.transformer import Transformer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["choose_answers", "log_likelihoods"]


@torch.inference_mode()
def log_likelihoods(
    model: Transformer, contexts: Sequence[Sequence[int]], continuations: Sequence[Sequence[int]], batch_size: int = 32
) -> list[float]:
    """Log probability of each continuation after its context, in nats.

    Raises ValueError for an empty context: the first token needs one before it.
    """
    if not all(contexts):
        raise ValueError("an empty context: give it the token <|bos|> at least")
    found = [0.0] * len(contexts)
    order = sorted(range(len(contexts)), key=lambda row: (len(contexts[row]) + len(continuations[row]), row))
    device = model.lm_head.weight.device
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        whole = [[*contexts[row], *continuations[row]] for row in rows]
        longest = max(map(len, whole))
        tokens_RT = torch.tensor([tokens + [0] * (longest - len(tokens)) for tokens in whole], device=device)
        logprobs_RTV = model(tokens_RT).log_softmax(-1)
        for place, row in enumerate(rows):
            first = len(contexts[row])
            wanted = torch.tensor(continuations[row], dtype=torch.int64, device=device)
            scores = logprobs_RTV[place, first - 1 : first - 1 + len(wanted)].gather(1, wanted[:, None])
            found[row] = float(scores.double().sum())
    return found


def choose_answers(
    model: Transformer, tokenizer: Tokenizer, rows: Sequence[Mapping[str, Any]], *, chat: bool
) -> list[tuple[int, int]]:
    """Of each row (question, choices) the place of the likeliest choice, and of the likeliest per byte."""
    pairs = [(_context(row["question"], chat), choice, chat) for row in rows for choice in row["choices"]]
    contexts = [tokenizer.encode(context, add_special_tokens=False).ids for context, _, _ in pairs]
    continuations = [
        tokenizer.encode(choice if chat else f" {choice}", add_special_tokens=False).ids for _, choice, chat in pairs
    ]
    scores = log_likelihoods(model, contexts, continuations)
    chosen, place = [], 0
    for row in rows:
        mine = scores[place : place + len(row["choices"])]
        per_byte = [value / len(choice.encode()) for value, choice in zip(mine, row["choices"], strict=True)]
        chosen.append((mine.index(max(mine)), per_byte.index(max(per_byte))))
        place += len(row["choices"])
    return chosen


def _context(question: str, chat: bool) -> str:
    return f"{prompt_text(question)}<think></think>" if chat else f"<|bos|>Question: {question}\nAnswer:"
