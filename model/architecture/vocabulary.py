"""Room for tokens that a tokenizer has been given: a checkpoint from elsewhere knows no ``<think>``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from infra.errors import UserError
from model.architecture.skeleton import skeleton
from model.architecture.transformer import Transformer
from pipeline.tokens.adopt import read_foreign

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["fit_vocabulary"]


def fit_vocabulary(model: Transformer, checkpoint: Path, tokenizer: Path) -> Transformer:
    """`model`, or the same with rows for the tokens that `tokenizer` has behind those of the checkpoint's own.

    New rows of the embedding and of the output layer are the mean of the others: such a token is at first as likely as
    any.

    Args:
        checkpoint: its folder, where its own tokenizer lies, or its GGUF file.
        tokenizer: artifact of the stage `tokenizer`.

    Raises:
        UserError: the tokenizer is larger, and not the checkpoint's with tokens added.
    """
    from tokenizers import Tokenizer

    words = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    size, known = words.get_vocab_size(), model.config.vocab_size
    if size <= known:
        return model
    own = checkpoint if checkpoint.is_file() else checkpoint / "tokenizer.json"
    if not own.is_file() or not _extends(words, read_foreign(checkpoint).tokenizer):
        raise UserError(
            f"{checkpoint}: its vocabulary of {known} is smaller than the tokenizer's of {size}, which is not its own; "
            "name the checkpoint's folder in tokenizer.adopt"
        )
    weights = model.state_dict()
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        rows_VD = weights[name]
        weights[name] = torch.cat((rows_VD, rows_VD.mean(0, keepdim=True).expand(size - known, -1)))
    grown = skeleton(model.config.model_copy(update={"vocab_size": size}))
    grown.load_state_dict(weights, assign=True)
    if grown.config.tie_word_embeddings:
        grown.lm_head.weight = grown.model.embed_tokens.weight
    return grown.requires_grad_(True).eval()


def _extends(words: Tokenizer, own: Tokenizer) -> bool:
    """Whether every token of `own` is the same token of `words`."""
    ids = words.get_vocab()
    return all(ids.get(token) == number for token, number in own.get_vocab().items())
