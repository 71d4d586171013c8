"""The policy that GRPO trains, on any number of ranks, and the reference it must not stray far from.

Training goes through the engine, whose experts may be spread over ranks. Answers are written by the `actor`, a whole
model that every rank holds: on one rank, and where adapters are trained, it is the model in training itself, elsewhere
a copy that `refresh` brings up to date. So ranks write answers of different lengths without waiting for each other at
every token; the price is memory for one whole copy per rank, and for the reference one more (`model.rl.reference`).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from model.architecture.devices import own_device
from model.architecture.transformer import Transformer
from model.facts.training import LayoutFacts
from model.finetune_sections import GrpoConfig, LossNormalisation
from model.rl.batches import Answer, MicroBatch, micro_batches
from model.rl.loss import GrpoTerms, grpo_loss, log_probabilities, token_weight
from model.rl.reference import FormerFactors, FrozenCopy, Reference
from model.sections import OptimizerConfig, TrainingConfig
from model.training.engine import SingleEngine, end_step, make_engine
from model.training.guard import poisoned
from model.training.lora import Adapters, without_moving_bias
from model.training.replay import Replay
from model.training.universal import CheckpointReader, Fragment

__all__ = ["Policy"]


def policy_engine_config(config: OptimizerConfig, world: int) -> TrainingConfig:
    """What the training engine wants to know, of a stage whose micro-batches are not counted in rows."""
    shared = {name: getattr(config, name) for name in OptimizerConfig.model_fields}
    return TrainingConfig.model_validate(shared | {"batch_size": world, "micro_batch": world})


class Policy:
    """A model in training with its optimizer, the actor and, where the divergence has a weight, a reference."""

    def __init__(
        self,
        model: Transformer,
        config: GrpoConfig,
        world: int = 1,
        replay: Replay | None = None,
        adapters: Adapters | None = None,
    ) -> None:
        self.config = config if adapters is None else without_moving_bias(config)
        self._replay = replay or Replay()
        self.reference: Reference | None = None
        if config.kl_weight and adapters is None:
            self.reference = FrozenCopy(model, own_device())
        actor = None if world == 1 or adapters else copy.deepcopy(model).requires_grad_(False).eval()
        self.engine = make_engine(model, policy_engine_config(self.config, world))
        if config.kl_weight and adapters is not None:
            self.reference = FormerFactors(adapters)
        if actor is None and not isinstance(self.engine, SingleEngine):  # engine: deepspeed on one rank
            actor = copy.deepcopy(self.reference.model if self.reference else self.engine.full_model())
        self._single = self.engine if isinstance(self.engine, SingleEngine) else None
        self.actor: Transformer = self._single.model if self._single else actor.to(self.engine.device)  # type: ignore[union-attr]

    @property
    def rank(self) -> int:
        """Of this process."""
        return self.engine.rank

    @property
    def world(self) -> int:
        """Ranks."""
        return self.engine.world

    @property
    def layout(self) -> LayoutFacts:
        """How the ranks share the work."""
        return self.engine.layout

    def gather(self, mine: Any) -> list[Any]:
        """What each rank has, in the order of ranks. Every rank calls it."""
        if self.world == 1:
            return [mine]
        import torch.distributed as dist

        everyone: list[Any] = [None] * self.world
        dist.all_gather_object(everyone, mine)
        return everyone

    @torch.no_grad()
    def refresh(self) -> None:
        """Make the actor the model of now. Every rank calls it."""
        if self._single is not None:
            return
        whole = self.engine.full_model()
        newest = whole.state_dict() if whole is not None else {}
        for name, value in self.actor.state_dict().items():
            if whole is not None:
                value.copy_(newest[name])
            if self.world > 1:
                import torch.distributed as dist

                dist.broadcast(value, 0)

    def renew_reference(self) -> None:
        """Make the policy of now the reference."""
        if self.reference is not None:
            self.reference.renew(self.actor)

    def update(self, answers: Sequence[Answer], rate: float, number: int = 0) -> dict[str, float] | None:
        """One optimizer step on `answers`, the same on every rank; loss, kl, clipped share, entropy, gradient norm, and
        the losses of what is replayed in update `number`.

        None, and the weights as they were, when the loss or its gradient is not a number.
        """
        config, engine = self.config, self.engine
        lengths = [len(answer.tokens) for answer in answers]
        weigh = token_weight(lengths, config.loss_normalisation, config.max_new_tokens)
        parts = micro_batches(answers, config.micro_tokens, engine.device, weigh, rank=self.rank, world=self.world)
        sums = torch.zeros(4, dtype=torch.float64, device=engine.device)
        is_good = sums[0].isfinite()
        replayed = self._replay.learn(engine, number, lambda part: engine.losses(part)[0])
        for place, part in enumerate(parts):
            engine.watch.begin(len(part.tokens_BT))
            terms, entropy = self._terms(part)
            sums += engine.all_reduce_sum(torch.stack([terms.loss.detach(), terms.kl, terms.clipped, entropy]).double())
            is_good = is_good & sums[0].isfinite()
            loss = terms.loss + engine.watch.take_loss() / (len(parts) * engine.world)
            is_last = place + 1 == len(parts)
            engine.backward(poisoned(loss, is_good) if is_last else loss, last=is_last)
        norm, is_good, _ = end_step(engine, rate, config.bias_update_speed, is_good)
        if config.loss_normalisation is LossNormalisation.CONSTANT:  # its weights do not add up to 1
            sums[1:] *= config.max_new_tokens * len(lengths) / sum(lengths)
        further = torch.stack([norm.double(), *replayed.values(), is_good.double()])
        *found, was_good = torch.cat((sums, further)).tolist()
        row = dict(zip(("loss", "kl", "clipped", "entropy", "grad_norm", *replayed), found, strict=True))
        if self.reference is None:
            del row["kl"]
        return row if was_good else None

    def _terms(self, part: MicroBatch) -> tuple[GrpoTerms, Tensor]:
        """The loss of a micro-batch and what is watched of it, and the entropy of its answers."""
        reference_N = self.reference.log_probabilities(part) if self.reference is not None else None
        logprobs_N, entropy_N = log_probabilities(self._logits(part), part.targets_N)
        terms = grpo_loss(
            logprobs_N,
            part.old_N,
            reference_N,
            part.advantages_N,
            part.weights_N,
            clip=self.config.clip,
            clip_high=self.config.clip_high,
            kl_weight=self.config.kl_weight,
        )
        return terms, (part.weights_N * entropy_N).sum()

    def _logits(self, part: MicroBatch) -> Tensor:
        """What predicts the answer tokens [N, V], with gradient."""
        if self._single is not None:
            return part.logits(self._single.model)
        logits_BTV = self.engine.forward(part.tokens_BT, part.documents_BT, part.positions_BT)
        return logits_BTV.flatten(0, 1).index_select(0, part.places_N).float()

    @property
    def shapes(self) -> dict[str, list[int]]:
        """Of the plain model's parameters and buffers."""
        return self.engine.shapes

    @property
    def optimizer_step(self) -> int:
        """Updates that the optimizer has made."""
        return self.engine.optimizer_step

    @property
    def device(self) -> torch.device:
        """Of this rank."""
        return self.engine.device

    def all_reduce_sum(self, values: Tensor) -> Tensor:
        """Sum over the ranks, on their devices."""
        return self.engine.all_reduce_sum(values)

    def all_reduce_host(self, values: Sequence[float]) -> list[float]:
        """Sum over the ranks of numbers that the processes know."""
        return self.engine.all_reduce_host(values)

    def fragments(self) -> Iterator[Fragment]:
        """The pieces of weights, moments and a renewed reference that this rank writes into a checkpoint."""
        yield from self.engine.fragments()
        if self.reference is not None and self.rank == 0:
            yield from self.reference.fragments()

    def load(self, reader: CheckpointReader) -> None:
        """Take what `fragments` gave from a checkpoint, whatever layout wrote it."""
        self.engine.load(reader)
        if self.reference is not None:
            self.reference.load(reader)
        self.refresh()

    def full_model(self) -> Transformer | None:
        """The whole model on rank 0, None elsewhere. Every rank calls it, at the end."""
        return self.engine.full_model()
