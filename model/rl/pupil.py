"""A policy that learns from a teacher what to say next, wherever its own answers have led it."""

from __future__ import annotations

import torch
from torch import Tensor

from model.architecture.transformer import Transformer
from model.finetune_sections import OnPolicyConfig
from model.rl.batches import MicroBatch
from model.rl.loss import GrpoTerms, reverse_divergence
from model.rl.policy import Policy
from model.training.lora import Adapters
from model.training.replay import Replay

__all__ = ["Pupil"]


class Pupil(Policy):
    """A policy that learns from the distributions of a teacher, which every rank holds whole."""

    def __init__(
        self,
        model: Transformer,
        teacher: Transformer,
        config: OnPolicyConfig,
        world: int = 1,
        replay: Replay | None = None,
        adapters: Adapters | None = None,
    ) -> None:
        super().__init__(model, config, world, replay, adapters)
        self.teacher = teacher.to(self.device).eval()

    def _terms(self, part: MicroBatch) -> tuple[GrpoTerms, Tensor]:
        with torch.no_grad():
            teacher_NV = part.logits(self.teacher)
        divergence_N, entropy_N = reverse_divergence(self._logits(part), teacher_NV)
        loss = (part.weights_N * divergence_N).sum()
        told = loss.detach()
        return GrpoTerms(loss, told, torch.zeros_like(told)), (part.weights_N * entropy_N).sum()
