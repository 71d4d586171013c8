"""The policy that GRPO trains, and the reference it must not stray far from."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from model.rl.loss import grpo_loss
from model.rl.rollout import Answer, micro_batches
from model.sections import GrpoConfig
from model.training.engine import SingleEngine, own_weights, set_weights
from model.transformer import Transformer

__all__ = ["PolicyEngine"]

REFERENCE = "reference-0.safetensors"


class PolicyEngine(SingleEngine):
    """One process with a policy, its optimizer and, where the divergence has a weight, a reference model."""

    def __init__(self, model: Transformer, config: GrpoConfig) -> None:
        self.reference: Transformer | None = None
        if config.kl_weight:
            self.reference = copy.deepcopy(model).requires_grad_(False).eval()  # before the gates are hooked
        super().__init__(model, config)
        if self.reference is not None:
            self.reference.to(self.device)
        self.config = config
        self._is_renewed = False

    def renew_reference(self) -> None:
        """Make the policy of now the reference."""
        if self.reference is not None:
            set_weights(self.reference, own_weights(self.model))
            self._is_renewed = True

    def update(self, answers: Sequence[Answer], rate: float) -> dict[str, float] | None:
        """One optimizer step on `answers`; loss, kl, clipped share, entropy and gradient norm.

        None, and the weights as they were, when the loss is not a number.
        """
        config = self.config
        parts = list(micro_batches(answers, config.micro_tokens, self.device))
        sums = torch.zeros(4, dtype=torch.float64)
        for number, part in enumerate(parts):
            self.watch.begin(len(part.tokens_BT))
            reference_N = None
            if self.reference is not None:
                with torch.no_grad():
                    reference_N, _ = part.log_probabilities(self.reference)
            logprobs_N, entropy_N = part.log_probabilities(self.model)
            terms = grpo_loss(
                logprobs_N,
                part.old_N,
                reference_N,
                part.advantages_N,
                part.weights_N,
                clip=config.clip,
                kl_weight=config.kl_weight,
            )
            entropy = (part.weights_N * entropy_N).sum()
            sums += torch.stack([terms.loss.detach(), terms.kl, terms.clipped, entropy]).double().cpu()
            if not math.isfinite(float(sums[0])):
                self.watch.take_loss()
                self.watch.finish_step(None, 0.0)
                self.discard()
                return None
            loss = terms.loss + self.watch.take_loss() / len(parts)
            self.backward(loss, last=number + 1 == len(parts))
        norm = self.step(rate)
        self.watch.finish_step(self.watch.counts(), config.bias_update_speed)
        row = dict(zip(("loss", "kl", "clipped", "entropy"), sums.tolist(), strict=True))
        if self.reference is None:
            del row["kl"]
        return row | {"grad_norm": norm}

    def save(self, folder: Path) -> None:
        """Write weights, moments and a renewed reference."""
        super().save(folder)
        if self.reference is not None and self._is_renewed:
            save_file(own_weights(self.reference), folder / REFERENCE)

    def load(self, folder: Path) -> None:
        """Restore what `save` wrote."""
        super().load(folder)
        self._is_renewed = self.reference is not None and (folder / REFERENCE).exists()
        if self.reference is not None and self._is_renewed:
            set_weights(self.reference, load_file(folder / REFERENCE))
