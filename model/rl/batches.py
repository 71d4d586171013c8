"""Answers laid out for an update: a prompt once, and after it the answers to it that fit into the row.

Each answer sees the prompt and itself, at the positions that it was written at, so its probabilities are those that it
has alone; the prompt, which is as long as the answers are short, goes through the model once for all of them. Rows stay
short: what the mask hides is computed all the same. An answer that is long has its row to itself, and needs no mask.
A balance loss of each sequence, where one is asked for, is one of each row.

Shapes: B rows of a micro-batch, T tokens of the longest, N tokens of answers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from model.architecture.packed import BEGINNING
from model.architecture.transformer import Transformer
from model.rl.loss import log_probabilities
from model.training.prepare import autocast

__all__ = ["Answer", "MicroBatch", "micro_batch", "micro_batches"]

SHARED_UP_TO = 128
"""Tokens of a row that answers may share."""


@dataclass(frozen=True)
class Answer:
    """One sampled answer: its tokens, and what it earned."""

    prompt: list[int]
    tokens: list[int]
    logprobs: list[float]
    """Of its tokens under the policy that wrote it."""
    advantage: float

    def __len__(self) -> int:
        return len(self.prompt) + len(self.tokens)


@dataclass(frozen=True)
class MicroBatch:
    """Answers that go through the model together."""

    tokens_BT: Tensor
    """Prompts and answers without their last tokens, which predict nothing; padded on the right."""
    documents_BT: Tensor | None
    """Which answer of the row each token belongs to, or `BEGINNING`; None where all have rows of their own."""
    positions_BT: Tensor | None
    places_N: Tensor
    """Of each answer token the position, in the flattened [B * T], that predicts it."""
    targets_N: Tensor
    old_N: Tensor
    advantages_N: Tensor
    weights_N: Tensor

    def logits(self, model: Transformer) -> Tensor:
        """What predicts the answer tokens [N, V], in fp32; the output layer runs for those alone."""
        device = self.tokens_BT.device
        with autocast(device):
            hidden_BTD = model.hidden(self.tokens_BT, self.documents_BT, self.positions_BT)
            logits_NV: Tensor = model.lm_head(hidden_BTD.flatten(0, 1).index_select(0, self.places_N))
        return logits_NV.float()

    def log_probabilities(self, model: Transformer) -> tuple[Tensor, Tensor]:
        """Log probabilities and entropies [N] of the answer tokens."""
        return log_probabilities(self.logits(model), self.targets_N)


def micro_batches(
    answers: Sequence[Answer],
    max_tokens: int,
    device: torch.device,
    weigh: Callable[[int], float],
    *,
    rank: int = 0,
    world: int = 1,
) -> list[MicroBatch]:
    """A rank's share of the answers of one update, in micro-batches of at most `max_tokens` padded tokens, like lengths
    together.

    `weigh` says what a token counts, by the length of its answer, in the whole update (`token_weight`): the losses of
    all ranks' micro-batches add up to its loss. Every rank has as many, for experts are exchanged in each; what is
    wanting counts for 0.
    """
    rows = [row for _, group in groupby(answers, key=lambda answer: answer.prompt) for row in _rows(list(group))]
    rows.sort(key=lambda row: -_length(row))
    shares = [_cut(rows[other::world], max_tokens) for other in range(world)]
    parts = [micro_batch(part, weigh, device) for part in shares[rank]]
    for _ in range(len(parts), max(map(len, shares))):
        idle = micro_batch(rows[-1:], weigh, device)
        parts.append(dataclasses.replace(idle, weights_N=torch.zeros_like(idle.weights_N)))
    return parts


def _cut(rows: Sequence[list[Answer]], max_tokens: int) -> list[list[list[Answer]]]:
    """`rows`, the longest first, cut where padded they would be too many tokens, and where those end that need no mask,
    which would be large."""
    parts: list[list[list[Answer]]] = []
    for _, group in groupby(rows, key=lambda row: _length(row) > SHARED_UP_TO):
        alike = list(group)
        while alike:
            most = max(1, max_tokens // _length(alike[0]))
            parts.append(alike[:most])
            alike = alike[most:]
    return parts


def _length(row: Sequence[Answer]) -> int:
    return len(row[0].prompt) + sum(len(answer.tokens) - 1 for answer in row)


def _rows(group: Sequence[Answer]) -> Iterator[list[Answer]]:
    """Answers to one prompt, as many to a row as it may hold."""
    row: list[Answer] = []
    for answer in group:
        if row and _length([*row, answer]) > SHARED_UP_TO:
            yield row
            row = []
        row.append(answer)
    yield row


def micro_batch(rows: Sequence[Sequence[Answer]], weigh: Callable[[int], float], device: torch.device) -> MicroBatch:
    """`rows`, each of answers to one prompt, as one micro-batch; see `micro_batches`."""
    longest = max(map(_length, rows))
    tokens = np.zeros((len(rows), longest), dtype=np.int64)
    documents, positions = tokens.copy(), tokens.copy()
    places: list[int] = []
    for number, row in enumerate(rows):
        prompt = row[0].prompt
        first, at = number * longest, len(prompt)
        tokens[number, :at], positions[number, :at], documents[number, :at] = prompt, np.arange(at), BEGINNING
        for document, answer in enumerate(row):
            more = len(answer.tokens) - 1
            places += [first + len(prompt) - 1, *range(first + at, first + at + more)]
            tokens[number, at : at + more] = answer.tokens[:-1]
            positions[number, at : at + more] = np.arange(len(prompt), len(prompt) + more)
            documents[number, at : at + more] = document
            at += more
        documents[number, at:] = len(row)
    chosen = [answer for row in rows for answer in row]
    lengths = [len(answer.tokens) for answer in chosen]
    is_shared = len(chosen) > len(rows)

    def spread(values: Sequence[float]) -> Tensor:
        return torch.from_numpy(np.repeat(np.asarray(values, dtype=np.float32), lengths)).to(device)

    return MicroBatch(
        tokens_BT=torch.from_numpy(tokens).to(device),
        documents_BT=torch.from_numpy(documents).to(device) if is_shared else None,
        positions_BT=torch.from_numpy(positions).to(device) if is_shared else None,
        places_N=torch.tensor(places, device=device),
        targets_N=torch.tensor([token for answer in chosen for token in answer.tokens], device=device),
        old_N=torch.tensor([value for answer in chosen for value in answer.logprobs], device=device),
        advantages_N=spread([answer.advantage for answer in chosen]),
        weights_N=spread([weigh(length) for length in lengths]),
    )
