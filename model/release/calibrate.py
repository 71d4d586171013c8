"""Quantizes a model layer by layer, so that each makes of what the quantized ones give it what the original made.

The calibration rows go through the model and through the original side by side. Within a layer, in the order data
flows: the input projections of attention, what follows them, the output projection, then gate and up, then down; each
group is calibrated on inputs that the quantized groups before it made, toward the outputs that the original has of its
own. An expert is calibrated on the tokens that the gate sends it. One that got too few is calibrated on all tokens of
its layer, as if every token had chosen it: rough statistics, but of full rank; plain rounding is for those without
usable ones.

Some rows are held out: they go through the same layers, and of every matrix the codes are kept, calibrated or rounded
to nearest, whose outputs on them are nearer to the original's. So few rows, or odd ones, cost no more than rounding.

The embedding is rounded to nearest, at the scales of least squared error: a table look-up has no Hessian of inputs.

Where it is known which outputs matter (`model.release.outputs`), errors of all outputs are weighed by it: codes make up
for errors of the rows above as well, and those of the embedding for errors in the columns before. A token then counts
by how far an error there can move the prediction (`model.release.divergence.uncertainty`): the trace of what the
moments of the gradients at the logits would be.

All Hessians of a layer are held at once, and the hidden states of all rows.

Shapes: B rows, T positions, t valid tokens, D hidden, E experts, F expert width, N heads, P query width without
position, C columns.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from infra import events
from model.architecture.attention import LatentAttention
from model.architecture.moe import FeedForward, MixtureOfExperts, RoutedExperts
from model.architecture.rotary import rotary_tables
from model.architecture.transformer import Layer, Transformer
from model.facts.release import MatrixFacts, UnderCalibrated
from model.release.divergence import uncertainty
from model.release.factors import Factors, factor
from model.release.gptq import toward
from model.release.quantized import Plan, Unit, plain_unit
from model.release.rounding import calibrated_to, rounded_to
from model.release.rows import CalibrationBatch
from model.release.statistics import Statistics, stacked, statistics
from model.release.units import units
from model.sections import Precision

EMBEDDING = "model.embed_tokens.weight"

__all__ = ["EMBEDDING", "Calibrated", "calibrate"]


@dataclass
class Calibrated:
    """What calibration made and saw."""

    stored: dict[str, Unit] = field(default_factory=dict)
    errors: dict[str, MatrixFacts] = field(default_factory=dict)
    """By unit."""
    expert_tokens: dict[str, list[int]] = field(default_factory=dict)
    """By layer: calibration tokens that chose each expert."""
    under_calibrated: list[UnderCalibrated] = field(default_factory=list)
    importance: dict[str, Tensor] = field(default_factory=dict)
    """By calibrated unit, and of the output layer: mean square of each input column [B, C], relative to all columns."""
    rounded: list[str] = field(default_factory=list)
    """Matrices whose statistics were of no use, rounded to nearest."""


@torch.no_grad()
def calibrate(
    model: Transformer,
    batches: Sequence[CalibrationBatch],
    plan: Plan,
    *,
    damping: float,
    expert_tokens: int,
    check: Sequence[CalibrationBatch] = (),
    outputs: Mapping[str, Tensor] | None = None,
) -> Calibrated:
    """Quantize `model` in place, as `plan` says.

    Args:
        check: rows held out, on which calibrated codes must be nearer to the original than rounded ones; the rows that
            are calibrated on where there are none.
        outputs: by unit, moments [R, R] of the gradients at its outputs; of the embedding at its columns. Tokens count
            by their uncertainty then, and alike where there are none.

    Returns:
        The stored weights, which `model` then has exactly, and how it went.
    """
    worker = _Calibration(model, batches, check, plan, damping, expert_tokens, outputs or {})
    tied = model.config.tie_word_embeddings
    theirs = [model.model.embed_tokens(batch.tokens_BT) for batch in worker.batches]
    if tied:
        states = [model.hidden(batch.tokens_BT, batch.documents_BT) for batch in worker.batches]
        worker.output(EMBEDDING, states, states)
    else:
        worker.embedding()
    ours = [model.model.embed_tokens(batch.tokens_BT) for batch in worker.batches]
    for number, layer in enumerate(model.model.layers):
        assert isinstance(layer, Layer)
        ours, theirs = worker.layer(number, layer, ours, theirs)
        events.advance()
    if not tied:
        worker.output("lm_head.weight", *([model.model.norm(x_BTD) for x_BTD in states] for states in (ours, theirs)))
    for name in worker.views:
        if name not in worker.result.stored:
            worker.store(name)
    worker.result.stored = {name: worker.result.stored[name] for name in worker.views}
    return worker.result


class _Calibration:
    """The state of one `calibrate`."""

    def __init__(
        self,
        model: Transformer,
        batches: Sequence[CalibrationBatch],
        check: Sequence[CalibrationBatch],
        plan: Plan,
        damping: float,
        expert_tokens: int,
        outputs: Mapping[str, Tensor],
    ) -> None:
        self.config = model.config
        self.batches, self.plan = [*batches, *check], plan
        self.is_held_out = [False] * len(batches) + [True] * len(check)
        self.damping, self.expert_tokens = damping, expert_tokens
        self.outputs = dict(outputs)
        self.counts = [uncertainty(model, batch) if outputs else None for batch in self.batches]
        """By batch, what each of its tokens counts, where they do not count alike."""
        self.views = units(model)
        self.result = Calibrated()
        length = max(batch.tokens_BT.shape[1] for batch in self.batches)
        cos, sin = rotary_tables(torch.arange(length)[None], model.config)
        self.rotary = (cos, sin)
        causal_TT = torch.ones(length, length, dtype=torch.bool).tril()
        self.masks = [
            (batch.documents_BT[:, :, None] == batch.documents_BT[:, None, :]) & causal_TT for batch in self.batches
        ]

    def layer(
        self, number: int, layer: Layer, ours: list[Tensor], theirs: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Quantize one layer; the hidden states after it, ours and the original's."""
        prefix, original = f"model.layers.{number}.", copy.deepcopy(layer)
        normed = [layer.input_layernorm(x_BTD) for x_BTD in ours]
        wanted = [layer.input_layernorm(x_BTD) for x_BTD in theirs]
        groups = list(_attention_groups(layer.self_attn))
        keys = [key for group in groups for key in group]
        added, their_inputs = self._attend(original.self_attn, keys, wanted)
        their_inputs["o_proj"] = self._with_loss(their_inputs["o_proj"], self._valid(ours), self._valid(theirs))
        theirs = [x_BTD + y_BTD for x_BTD, y_BTD in zip(theirs, added, strict=True)]
        for units_of in groups:
            _, inputs = self._attend(layer.self_attn, units_of, normed)
            seen = {module: self._statistics(inputs[module], their_inputs[module]) for module in units_of}
            if "queries" in units_of and self.outputs:  # its outputs are multiplied with the latent keys
                latent_CC = seen["kv_b_proj"].fit.own_BCC[0]
                self.outputs[f"{prefix}self_attn.k_b_proj.weight"] = latent_CC
            for module, parts in units_of.items():
                self._linear([f"{prefix}self_attn.{part}.weight" for part in parts], seen[module])
        added, _ = self._attend(layer.self_attn, (), normed)
        ours = [x_BTD + y_BTD for x_BTD, y_BTD in zip(ours, added, strict=True)]
        normed = [layer.post_attention_layernorm(x_BTD) for x_BTD in ours]
        wanted = [layer.post_attention_layernorm(x_BTD) for x_BTD in theirs]
        self._feed(prefix, layer.mlp, original.mlp, *map(self._valid, (ours, theirs, normed, wanted)))
        return (
            [x_BTD + layer.mlp(y_BTD) for x_BTD, y_BTD in zip(ours, normed, strict=True)],
            [x_BTD + original.mlp(y_BTD) for x_BTD, y_BTD in zip(theirs, wanted, strict=True)],
        )

    def _feed(
        self,
        prefix: str,
        mlp: nn.Module,
        original: nn.Module,
        ours: list[Tensor],
        theirs: list[Tensor],
        inputs: list[Tensor],
        wanted: list[Tensor],
    ) -> None:
        """Quantize what follows attention, given the hidden states [t, D] and, normed, its inputs, by batch.

        The last to see every token, a dense layer or the shared experts, makes up for what was lost before it.
        """
        prefix = f"{prefix}mlp."
        if isinstance(mlp, MixtureOfExperts):
            assert isinstance(original, MixtureOfExperts)
            self._experts(prefix, mlp, original, inputs, wanted)
            if mlp.shared_experts is None:
                return
            ours = [h_tD + mlp.routed(x_tD) for h_tD, x_tD in zip(ours, inputs, strict=True)]
            theirs = [h_tD + original.routed(x_tD) for h_tD, x_tD in zip(theirs, wanted, strict=True)]
            assert original.shared_experts is not None
            prefix, mlp, original = f"{prefix}shared_experts.", mlp.shared_experts, original.shared_experts
        assert isinstance(mlp, FeedForward)
        assert isinstance(original, FeedForward)
        self._feed_forward(prefix, mlp, original, ours, theirs, inputs, wanted)

    def store(self, name: str) -> None:
        """Store a unit without calibration."""
        self._put(name, rounded_to(self.views[name], self.plan[name]))

    def embedding(self) -> None:
        """Store the table of embeddings: the weights of a row count by its columns, alike where nothing is known of
        them, whatever the tokens."""
        weight_VD, precision = self.views[EMBEDDING], self.plan[EMBEDDING]
        if precision is Precision.Q4_0:
            alike_DD = torch.zeros(weight_VD.shape[1], weight_VD.shape[1], dtype=torch.float64)
            columns = factor(self.outputs.get(EMBEDDING, alike_DD)[None], self.damping)
            unit = calibrated_to(weight_VD[None], columns, precision)
            self._put(EMBEDDING, replace(unit, stored=unit.stored[0]))
        else:
            self.store(EMBEDDING)

    def output(self, name: str, ours: list[Tensor], theirs: list[Tensor]) -> None:
        """Quantize the output layer, `name`, given the last hidden states [B, T, D] of every batch."""
        x, y = ([x_tD[None] for x_tD in self._valid(states)] for states in (ours, theirs))
        self._linear([name], self._statistics(x, y))

    def _valid(self, states: list[Tensor]) -> list[Tensor]:
        """The tokens [t, D] of states [B, T, D] that are no padding."""
        return [x_BTD[batch.valid_BT] for x_BTD, batch in zip(states, self.batches, strict=True)]

    def _statistics(self, ours: list[Tensor], theirs: list[Tensor]) -> Statistics:
        """Of inputs [B, t, C] of every batch."""
        return statistics(zip(ours, theirs, self.counts, self.is_held_out, strict=True))

    def see(self, name: str, squares_BC: Tensor) -> None:
        """Note how much each input column of a unit matters; columns that were never used count a little too."""
        mean_B1 = squares_BC.mean(-1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
        self.result.importance[name] = (squares_BC / mean_B1 + 1e-6).float()

    def _put(self, name: str, unit: Unit) -> None:
        self.views[name].copy_(unit.weight())
        self.result.stored[name] = unit

    def _attend(
        self, attention: nn.Module, modules: Iterable[str], states: list[Tensor]
    ) -> tuple[list[Tensor], dict[str, list[Tensor]]]:
        """Outputs [B, T, D] of attention by batch, and the inputs [1, t, C] of submodules.

        Under ``queries`` are the queries [N, t, P], their unrotated part.
        """
        inputs: dict[str, list[Tensor]] = {key: [] for key in modules}
        valid_BT = self.batches[0].valid_BT

        def add_queries(module: nn.Module, args: Any, q_BTx: Tensor) -> None:
            assert isinstance(attention, LatentAttention)
            q_tNQ = q_BTx[valid_BT].unflatten(-1, (attention.heads, -1))
            inputs["queries"].append(q_tNQ[..., : attention.nope].transpose(0, 1))

        handles = []
        for key in inputs:
            if key == "queries":
                source = attention.get_submodule("q_b_proj" if attention.is_query_compressed else "q_proj")
                handles.append(source.register_forward_hook(add_queries))
            else:
                handles.append(
                    attention.get_submodule(key).register_forward_pre_hook(
                        lambda module, args, key=key: inputs[key].append(args[0][valid_BT][None])
                    )
                )
        outputs = []
        for x_BTD, mask, batch in zip(states, self.masks, self.batches, strict=True):
            valid_BT = batch.valid_BT  # the hooks look at it
            outputs.append(attention(x_BTD, self.rotary, mask, None))
        for handle in handles:
            handle.remove()
        return outputs, inputs

    def _feed_forward(
        self,
        prefix: str,
        module: FeedForward,
        original: FeedForward,
        ours: list[Tensor],
        theirs: list[Tensor],
        inputs: list[Tensor],
        wanted: list[Tensor],
    ) -> None:
        seen = self._statistics([x_tD[None] for x_tD in inputs], [y_tD[None] for y_tD in wanted])
        self._linear([f"{prefix}{name}.weight" for name in ("gate_proj", "up_proj")], seen)
        middle = [module.inner(x_tD)[None] for x_tD in inputs]
        wanted_middle = [original.inner(x_tD)[None] for x_tD in wanted]
        seen = self._statistics(middle, self._with_loss(wanted_middle, ours, theirs))
        self._linear([f"{prefix}down_proj.weight"], seen)

    def _with_loss(self, inputs: list[Tensor], ours: list[Tensor], theirs: list[Tensor]) -> list[Tensor]:
        """The original's inputs [1, t, C], followed by what our hidden states [t, D] lack of its, by batch."""
        return [
            torch.cat([y_1tC, (their_tD - our_tD)[None]], -1)
            for y_1tC, our_tD, their_tD in zip(inputs, ours, theirs, strict=True)
        ]

    def _experts(
        self,
        prefix: str,
        module: MixtureOfExperts,
        original: MixtureOfExperts,
        ours: list[Tensor],
        theirs: list[Tensor],
    ) -> None:
        """Every expert on the tokens that chose it, of either kind of row."""
        x_tD, y_tD = torch.cat(ours), torch.cat(theirs)
        counts = [count_t for count_t in self.counts if count_t is not None]
        count_t = torch.cat(counts) if counts else None
        is_held_out_t = torch.tensor(self.is_held_out).repeat_interleave(torch.tensor([len(x) for x in ours]))
        chosen_tK = module.gate(x_tD)[1]
        rows = {False: self._rows_of(chosen_tK, ~is_held_out_t, self.expert_tokens)}
        if any(self.is_held_out):
            rows[True] = self._rows_of(chosen_tK, is_held_out_t, 1)
        self._count(prefix, chosen_tK[~is_held_out_t])

        def seen(change: Callable[[RoutedExperts, int, Tensor], Tensor]) -> Statistics:
            found = [
                statistics(
                    (
                        change(module.experts, expert, x_tD[row_of[expert]])[None],
                        change(original.experts, expert, y_tD[row_of[expert]])[None],
                        None if count_t is None else count_t[row_of[expert]],
                        is_held_out,
                    )
                    for is_held_out, row_of in rows.items()
                )
                for expert in range(self.config.n_routed_experts)
            ]
            return stacked(found)

        experts = f"{prefix}experts."
        self._linear(
            [f"{experts}{name}.weight" for name in ("gate_proj", "up_proj")], seen(lambda of, expert, x_nD: x_nD)
        )
        self._linear([f"{experts}down_proj.weight"], seen(RoutedExperts.inner))

    def _count(self, prefix: str, chosen_tK: Tensor) -> None:
        """Note how many calibration tokens chose each expert, and which had too few."""
        layer = prefix.split(".")[2]
        counts = chosen_tK.flatten().bincount(minlength=self.config.n_routed_experts).tolist()
        self.result.expert_tokens[layer] = counts
        self.result.under_calibrated += [
            UnderCalibrated(layer=int(layer), expert=expert, tokens=count)
            for expert, count in enumerate(counts)
            if count < self.expert_tokens
        ]

    def _rows_of(self, chosen_tK: Tensor, of_t: Tensor, least: int) -> list[Tensor]:
        """The rows among `of` that chose each expert; all of them for an expert that fewer than `least` chose."""
        experts = self.config.n_routed_experts
        found = [((chosen_tK == expert).any(1) & of_t).nonzero()[:, 0] for expert in range(experts)]
        return [row if len(row) >= least else of_t.nonzero()[:, 0] for row in found]

    def _linear(self, names: Sequence[str], seen: Statistics) -> None:
        """Quantize units that have the same inputs: of B matrices each, or all of whose rows share one Hessian."""
        factors: Factors | None = None
        for name in names:
            self.see(name, seen.fit.own_BCC.diagonal(dim1=-2, dim2=-1))
            weight, precision = self.views[name], self.plan[name]
            if precision is None or precision is Precision.F16:
                self._put(name, plain_unit(weight, precision))
            else:
                factors = factors or factor(seen.fit.own_BCC, self.damping)
                self._round(name, precision, seen, factors)

    def _round(self, name: str, precision: Precision, seen: Statistics, factors: Factors) -> None:
        weight = self.views[name]
        matrices_BRC = weight.reshape(len(factors.damping), -1, weight.shape[-1])
        moved_BRC = toward(matrices_BRC, seen.fit.own_BCC, seen.fit.drift(matrices_BRC))
        moments_RR = self._output_moments(name)
        outputs = None if moments_RR is None else factor(moments_RR[None], self.damping)
        unit = calibrated_to(moved_BRC, factors, precision, outputs)
        unit = replace(unit, stored=unit.stored.view(*weight.shape[:-1], -1))
        raised: dict[str, float] = {}
        for place, damping in enumerate(factors.damping):
            matrix = f"{name}[{place}]" if len(factors.damping) > 1 else name
            if damping is None:
                self.result.rounded.append(matrix)
            elif damping != self.damping:
                raised[matrix] = damping
        self._keep(name, unit, rounded_to(weight, precision), seen, raised or None)

    def _output_moments(self, name: str) -> Tensor | None:
        """Those of a unit but the embedding, whose columns they are of."""
        moments_RR = None if name == EMBEDDING else self.outputs.get(name)
        return None if moments_RR is None else moments_RR.double()

    def _keep(
        self,
        name: str,
        unit: Unit,
        plain: Unit,
        seen: Statistics,
        damping: dict[str, float] | None = None,
    ) -> None:
        """Store of every matrix the codes of `unit`, or the `plain` ones where those are as near on rows held out.

        Args:
            damping: of matrices where it had to be raised.
        """
        weight, matrices = self.views[name], len(seen.fit.own_BCC)
        weight_BRC = weight.reshape(matrices, -1, weight.shape[-1])
        moments_RR = self._output_moments(name)
        ours_B, plain_B = (
            seen.check.error(each.weight().view_as(weight_BRC), weight_BRC, moments_RR) for each in (unit, plain)
        )
        is_plain_B = plain_B <= ours_B
        whole = float(seen.check.outputs(weight_BRC, moments_RR).sum()) or 1.0
        self.result.errors[name] = MatrixFacts(
            precision=unit.precision,
            error=float(torch.where(is_plain_B, plain_B, ours_B).sum()) / whole,
            error_rounded=float(plain_B.sum()) / whole,
            rounded=int(is_plain_B.sum()),
            damping=damping,
        )
        of_B = is_plain_B.view(matrices, *(1,) * unit.stored.dim())
        shape = (matrices, -1, *unit.stored.shape[1:])
        stored = torch.where(of_B, plain.stored.view(shape), unit.stored.view(shape)).view_as(unit.stored)
        self._put(name, replace(unit, stored=stored))


def _attention_groups(attention: nn.Module) -> Iterator[dict[str, list[str]]]:
    """Groups calibrated together, in the order data flows: the units that read the inputs of each submodule."""
    if isinstance(attention, LatentAttention):
        if attention.is_query_compressed:
            yield {"q_a_proj": ["q_a_proj", "kv_a_proj_with_mqa"]}
            yield {"q_b_proj": ["q_b_proj"]}
        else:
            yield {"q_proj": ["q_proj", "kv_a_proj_with_mqa"]}
        # The key half meets the query first when absorbed, so the queries are its inputs.
        yield {"queries": ["k_b_proj"], "kv_b_proj": ["v_b_proj"]}
    else:
        yield {"q_proj": ["q_proj", "k_proj", "v_proj"]}
    yield {"o_proj": ["o_proj"]}
