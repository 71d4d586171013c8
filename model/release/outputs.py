"""Which outputs of a matrix the predictions depend on: second moments of the gradients there.

With a next token drawn from the model's own predictions, the gradients g of its logarithmic probability have moments
E[g g^T] that are the Fisher information, by which the divergence from the model grows with an error of the outputs
(Martens 2014, arXiv 1412.1193, section 9). One pass forward and one back for all matrices.

Shapes: B rows, T positions, n tokens or positions, R outputs, V vocabulary.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.architecture.transformer import Transformer
from model.release.calibrate import EMBEDDING
from model.release.divergence import counted
from model.release.rows import CalibrationBatch

__all__ = ["output_moments"]


def output_moments(model: Transformer, batches: Sequence[CalibrationBatch], seed: int) -> dict[str, Tensor]:
    """Moments [R, R] by unit: of the linear layers but the output layer, and of the embedding's columns.

    Of the key half of latent attention there are none: its outputs are not computed on the way.
    """
    watched = _Watched(copy.deepcopy(model))  # gates keep what they computed, with its graph
    generator = torch.Generator().manual_seed(seed)
    for batch in batches:
        watched.backward(batch, generator)
    return watched.moments


class _Watched:
    """A model whose backward passes leave moments of gradients."""

    def __init__(self, model: Transformer) -> None:
        self.model, self.moments = model, dict[str, Tensor]()
        model.model.embed_tokens.register_forward_hook(self._embedded)
        for name, module in model.named_modules():
            if isinstance(module, nn.Linear) and name != "lm_head":
                module.register_full_backward_hook(partial(self._passed, name))

    def backward(self, batch: CalibrationBatch, generator: torch.Generator) -> None:
        """One pass forward and back."""
        with torch.enable_grad():
            states_BTD = self.model.hidden(batch.tokens_BT, batch.documents_BT)
            logits_nV = self.model.lm_head(states_BTD[:, :-1][counted(batch)])
            drawn_n = logits_nV.detach().softmax(-1).multinomial(1, generator=generator)[:, 0]
            F.cross_entropy(logits_nV, drawn_n, reduction="sum").backward()

    def _passed(self, name: str, module: nn.Module, inputs: object, outputs: Sequence[Tensor]) -> None:
        self.see(name, outputs[0])

    def see(self, name: str, gradient: Tensor) -> None:
        """Add the gradients [..., R] at a module's outputs."""
        gradient_nR = gradient.flatten(0, -2).double()
        unit = f"{name}.weight"
        if name.endswith(".kv_b_proj"):
            unit = f"{name.removesuffix('kv_b_proj')}v_b_proj.weight"
            gradient_nR = gradient_nR[:, self._values(gradient_nR.shape[1])]
        seen_RR = (gradient_nR.T @ gradient_nR).float()  # all matrices' are held at once: half the memory
        self.moments[unit] = self.moments[unit] + seen_RR if unit in self.moments else seen_RR

    def _values(self, rows: int) -> Tensor:
        """Rows of the expansion of keys and values that are values."""
        config = self.model.config
        numbers = torch.arange(rows).view(config.num_attention_heads, -1)
        return numbers[:, config.qk_nope_head_dim :].flatten()

    def _embedded(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """Gradients begin here: no weight needs any."""
        output = output.detach().requires_grad_(True)
        output.register_hook(lambda gradient: self.see(EMBEDDING.removesuffix(".weight"), gradient))
        return output
