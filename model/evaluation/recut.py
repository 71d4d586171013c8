"""Held-out rows in the tokens of a trimmed tokenizer, whose model must read the same text as the whole one did.

What has no removed token in it keeps its tokens under their new numbers, as `pipeline.tokens.trim` has it. Other text
is decoded and cut anew, document by document; of a character that begins or ends outside of a row nothing is read.

Shapes: B rows, T tokens; afterwards there may be more rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from model.training.batches import TrainingBatch
from pipeline.tokens.encoder import Encoder

__all__ = ["Recut"]

BROKEN = "\N{REPLACEMENT CHARACTER}"
"""What a cut character is decoded to."""


class Recut:
    """Cuts rows anew that the tokenizer of the folder `before` has cut: as that of `after` does, a part of it."""

    def __init__(self, before: Path, after: Path) -> None:
        self._before, self._after = Encoder(before).tokenizer, Encoder(after, plain=True)
        names = {number: name for name, number in self._after.tokenizer.get_vocab(with_added_tokens=True).items()}
        number_of = self._before.get_vocab(with_added_tokens=True)
        self._number_of = {number_of[name]: number for number, name in names.items()}
        self._added = self._before.get_added_tokens_decoder().keys()

    def __call__(self, batch: TrainingBatch) -> TrainingBatch:
        """The same text in rows that are no longer: what does not fit into its row goes on in another."""
        length = batch.tokens_BT.shape[1]
        documents_BT = torch.zeros_like(batch.tokens_BT) if batch.documents_BT is None else batch.documents_BT
        rows: list[tuple[Tensor, Tensor, Tensor]] = []
        learned_B = [True] * len(documents_BT) if batch.loss_mask_BT is None else batch.loss_mask_BT[:, 0].tolist()
        for tokens, documents, learned in zip(batch.tokens_BT.tolist(), documents_BT.tolist(), learned_B, strict=True):
            new = [
                (token, document)
                for document, piece in groupby(zip(tokens, documents, strict=True), key=itemgetter(1))
                for token in self.tokens([token for token, _ in piece])
            ]
            for start in range(0, len(new), length):
                row_T2 = torch.tensor(new[start : start + length])
                rows.append((row_T2[:, 0], row_T2[:, 1], torch.full((len(row_T2),), learned)))
        columns = (pad_sequence(list(column), batch_first=True, padding_value=0) for column in zip(*rows, strict=True))
        return TrainingBatch(*columns)

    def tokens(self, piece: Sequence[int]) -> list[int]:
        """Of a piece of a document."""
        found: list[int] = []
        for is_added, group in groupby(piece, key=self._added.__contains__):
            run = list(group)
            if is_added or all(token in self._number_of for token in run):
                found += [self._number_of[token] for token in run]
                continue
            text = self._before.decode(run, skip_special_tokens=False).strip(BROKEN)
            found += self._after.inside(text) if found else self._after([text])[0].tolist()
        return found
