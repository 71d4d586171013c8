"""Room for tokens that a tokenizer has been given: a checkpoint from elsewhere knows no ``<think>``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from infra.errors import UserError
from model.architecture.skeleton import model_of
from model.architecture.transformer import Transformer
from pipeline.tokens.adopt import VOCABULARIES, read_foreign

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["fit_vocabulary"]


def fit_vocabulary(model: Transformer, checkpoint: Path, tokenizer: Path) -> Transformer:
    """`model`, or the same with rows for the tokens that `tokenizer` has behind those of the checkpoint's own.

    Published embeddings are often filled up to a round number of rows, which nothing was learned into: a new token may
    fall on one of those. A new row of the embedding and of the output layer is the mean of the rows of the pieces that
    the checkpoint's own tokenizer makes of the token's text. The mean of all rows would be the same for every token,
    and a direction that says nothing: at the rates of fine-tuning a model of 135 million parameters learned in 90 steps
    to write all of an answer but the ``<think>`` before it (docs/experiments.md, "A model that exists, to its end").

    Args:
        checkpoint: its folder, where its own tokenizer lies, or its GGUF file.
        tokenizer: artifact of the stage `tokenizer`.

    Raises:
        UserError: the tokenizer is larger, and not the checkpoint's with tokens added.
    """
    from tokenizers import Tokenizer

    words = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    size, known = words.get_vocab_size(), model.config.vocab_size
    has_own = checkpoint.is_file() or any((checkpoint / name).is_file() for name in VOCABULARIES)
    own = read_foreign(checkpoint).tokenizer if has_own else None
    if own is None or not _extends(words, own):
        if size <= known:
            return model
        raise UserError(
            f"{checkpoint}: its vocabulary of {known} is smaller than the tokenizer's of {size}, which is not its own; "
            "name the checkpoint's folder in tokenizer.adopt"
        )
    rows = max(size, known)
    pieces = {number: _pieces(words.id_to_token(number), own, known) for number in _new(words, own, known)}
    if not pieces:
        return model
    weights = model.state_dict()
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        rows_VD = weights[name]
        grown_VD = torch.cat((rows_VD, rows_VD.new_empty(rows - known, rows_VD.shape[1])))
        for number, numbers in pieces.items():
            grown_VD[number] = rows_VD[numbers].mean(0)
        weights[name] = grown_VD
    return model_of(model.config.model_copy(update={"vocab_size": rows}), weights).requires_grad_(True)


def _new(words: Tokenizer, own: Tokenizer, known: int) -> list[int]:
    """Numbers of the tokens that the checkpoint has not learned: those that its own tokenizer lacks, in rows to come or
    in rows that fill its embedding up, and those beyond its embedding."""
    learned = {number for number in own.get_vocab().values() if number < known}
    return sorted(set(range(words.get_vocab_size())) - learned)


def _pieces(token: str | None, own: Tokenizer, known: int) -> list[int]:
    """Rows whose mean a new token begins with; all of them where its text has no pieces."""
    found = own.encode(token, add_special_tokens=False).ids if token else []
    return [number for number in found if number < known] or list(range(known))


def _extends(words: Tokenizer, own: Tokenizer) -> bool:
    """Whether every token of `own` is the same token of `words`."""
    ids = words.get_vocab()
    return all(ids.get(token) == number for token, number in own.get_vocab().items())
