"""Quantizes a model layer by layer, each layer seeing what the quantized ones before it make of the calibration rows.

Within a layer, in the order data flows: the input projections of attention, what follows them, the output projection,
then gate and up, then down; each group is calibrated on inputs that the quantized groups before it made. An expert is
calibrated on the tokens that the gate sends it. One that got too few is calibrated on all tokens of its layer, as if
every token had chosen it: rough statistics, but of full rank; plain rounding is for matrices without any usable ones.

Embedding and output layer are rounded to nearest: a table look-up has no Hessian, and 8 bits lose nothing there.

All Hessians of a layer are held at once, and the hidden states of all rows.

Shapes: B rows, T positions, t valid tokens, D hidden, E experts, F expert width, N heads, P query width without
position, C columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from gguf import GGMLQuantizationType
from torch import Tensor, nn

from infra import events
from model.architecture.attention import LatentAttention
from model.architecture.moe import FeedForward, MixtureOfExperts
from model.architecture.rotary import rotary_tables
from model.architecture.transformer import Layer, Transformer
from model.facts.release import MatrixFacts, UnderCalibrated
from model.release.gptq import factor, round_columns
from model.release.grid import Grid
from model.release.kquants import k_quantize
from model.release.quantized import K_QUANTS, Plan, Unit, plain_unit, rounded_unit
from model.release.units import units
from model.sections import Precision

__all__ = ["Calibrated", "CalibrationBatch", "calibrate", "rounded", "rounded_to"]


@dataclass(frozen=True)
class CalibrationBatch:
    """Rows that go through the model together."""

    tokens_BT: Tensor
    documents_BT: Tensor
    """Number of the document of each token: a token sees its own document only."""
    valid_BT: Tensor
    """False for padding, which counts for nothing."""


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


def rounded(model: Transformer, plan: Plan) -> dict[str, Unit]:
    """All units at the precisions of `plan`, without calibration."""
    return {name: rounded_to(weight, plan[name]) for name, weight in units(model).items()}


@torch.no_grad()
def calibrate(
    model: Transformer,
    batches: Sequence[CalibrationBatch],
    plan: Plan,
    *,
    damping: float,
    expert_tokens: int,
) -> Calibrated:
    """Quantize `model` in place, as `plan` says.

    Returns:
        The stored weights, which `model` then has exactly, and how it went.
    """
    worker = _Calibration(model, batches, plan, damping, expert_tokens)
    worker.store("model.embed_tokens.weight")
    states = [model.model.embed_tokens(batch.tokens_BT) for batch in batches]
    for number, layer in enumerate(model.model.layers):
        assert isinstance(layer, Layer)
        states = worker.layer(number, layer, states)
        events.advance()
    last_tD = torch.cat([model.model.norm(x_BTD)[batch.valid_BT] for x_BTD, batch in zip(states, batches, strict=True)])
    worker.see("lm_head.weight", last_tD.double().square().sum(0, keepdim=True))
    for name in worker.views:
        if name not in worker.result.stored:
            worker.store(name)
    worker.result.stored = {name: worker.result.stored[name] for name in worker.views}
    return worker.result


def rounded_to(weight: Tensor, precision: Precision | None) -> Unit:
    """A weight at a precision, without calibration."""
    if precision is None or precision is Precision.F16:
        return plain_unit(weight, precision)
    if precision in K_QUANTS:
        return k_quantize(weight, GGMLQuantizationType[precision.name])
    return rounded_unit(weight, Grid(precision))


class _Calibration:
    """The state of one `calibrate`."""

    def __init__(
        self,
        model: Transformer,
        batches: Sequence[CalibrationBatch],
        plan: Plan,
        damping: float,
        expert_tokens: int,
    ) -> None:
        self.config = model.config
        self.batches, self.plan = batches, plan
        self.damping, self.expert_tokens = damping, expert_tokens
        self.views = units(model)
        self.result = Calibrated()
        length = max(batch.tokens_BT.shape[1] for batch in batches)
        cos, sin = rotary_tables(torch.arange(length)[None], model.config)
        self.rotary = (cos, sin)
        causal_TT = torch.ones(length, length, dtype=torch.bool).tril()
        self.masks = [
            (batch.documents_BT[:, :, None] == batch.documents_BT[:, None, :]) & causal_TT for batch in batches
        ]

    def layer(self, number: int, layer: Layer, states: list[Tensor]) -> list[Tensor]:
        """Quantize one layer; the hidden states after it."""
        prefix = f"model.layers.{number}."
        attention, normed = layer.self_attn, [layer.input_layernorm(x_BTD) for x_BTD in states]

        def attend(place: int) -> Tensor:
            y_BTD: Tensor = attention(normed[place], self.rotary, self.masks[place], None)
            return y_BTD

        for units_of in _attention_groups(attention):
            hessians = self._watch(attention, units_of, attend)
            for module, parts in units_of.items():
                self._linear([f"{prefix}self_attn.{part}.weight" for part in parts], hessians[module])
        states = [x_BTD + attend(place) for place, x_BTD in enumerate(states)]
        normed = [layer.post_attention_layernorm(x_BTD) for x_BTD in states]
        inputs = [x_BTD[batch.valid_BT] for x_BTD, batch in zip(normed, self.batches, strict=True)]
        if isinstance(layer.mlp, MixtureOfExperts):
            self._experts(prefix, layer.mlp, inputs)
            if layer.mlp.shared_experts is not None:
                self._feed_forward(f"{prefix}mlp.shared_experts.", layer.mlp.shared_experts, inputs)
        else:
            assert isinstance(layer.mlp, FeedForward)
            self._feed_forward(f"{prefix}mlp.", layer.mlp, inputs)
        return [x_BTD + layer.mlp(y_BTD) for x_BTD, y_BTD in zip(states, normed, strict=True)]

    def store(self, name: str) -> None:
        """Store a unit without calibration."""
        self._put(name, rounded_to(self.views[name], self.plan[name]))

    def see(self, name: str, squares_BC: Tensor) -> None:
        """Note how much each input column of a unit matters; columns that were never used count a little too."""
        mean_B1 = squares_BC.mean(-1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
        self.result.importance[name] = (squares_BC / mean_B1 + 1e-6).float()

    def _put(self, name: str, unit: Unit) -> None:
        self.views[name].copy_(unit.weight())
        self.result.stored[name] = unit

    def _watch(self, attention: nn.Module, modules: Iterable[str], run: Callable[[int], Tensor]) -> dict[str, Tensor]:
        """Hessians [1, C, C] of the inputs of submodules; under ``queries`` [N, P, P] of queries, unrotated part."""
        sums: dict[str, Tensor] = {}
        place = 0

        def add(key: str, rows_Btx: Tensor) -> None:
            gram = _gram(rows_Btx)
            sums[key] = sums[key] + gram if key in sums else gram

        def valid(x_BTx: Tensor) -> Tensor:
            return x_BTx[self.batches[place].valid_BT]

        def add_queries(module: nn.Module, args: Any, q_BTx: Tensor) -> None:
            assert isinstance(attention, LatentAttention)
            q_tNQ = valid(q_BTx).unflatten(-1, (attention.heads, -1))
            add("queries", q_tNQ[..., : attention.nope].transpose(0, 1))

        handles = []
        for key in modules:
            if key == "queries":
                source = attention.get_submodule("q_b_proj" if attention.is_query_compressed else "q_proj")
                handles.append(source.register_forward_hook(add_queries))
            else:
                handles.append(
                    attention.get_submodule(key).register_forward_pre_hook(
                        lambda module, args, key=key: add(key, valid(args[0])[None])
                    )
                )
        for place in range(len(self.batches)):  # the hooks look at place
            run(place)
        for handle in handles:
            handle.remove()
        return sums

    def _feed_forward(self, prefix: str, module: FeedForward, inputs: list[Tensor]) -> None:
        hessian = sum((_gram(x_tD[None]) for x_tD in inputs), torch.zeros(()))
        self._linear([f"{prefix}{name}.weight" for name in ("gate_proj", "up_proj")], hessian)
        middle = (F.silu(module.gate_proj(x_tD)) * module.up_proj(x_tD) for x_tD in inputs)
        self._linear([f"{prefix}down_proj.weight"], sum((_gram(x_tF[None]) for x_tF in middle), torch.zeros(())))

    def _experts(self, prefix: str, module: MixtureOfExperts, inputs: list[Tensor]) -> None:
        experts = module.experts
        x_tD = torch.cat(inputs)
        chosen_tK = module.gate(x_tD)[1]
        counts = chosen_tK.flatten().bincount(minlength=len(experts.down_proj)).tolist()
        layer = prefix.split(".")[2]
        self.result.expert_tokens[layer] = counts
        rows = []
        for expert, count in enumerate(counts):
            if count < self.expert_tokens:
                self.result.under_calibrated.append(UnderCalibrated(layer=int(layer), expert=expert, tokens=count))
                rows.append(torch.arange(len(x_tD)))
            else:
                rows.append((chosen_tK == expert).any(1).nonzero()[:, 0])
        hessian_EDD = torch.cat([_gram(x_tD[None, row]) for row in rows])
        self._linear([f"{prefix}mlp.experts.{name}.weight" for name in ("gate_proj", "up_proj")], hessian_EDD)
        hessians = []
        for expert, row in enumerate(rows):
            gate, up = F.linear(x_tD[row], experts.gate_up_proj[expert]).chunk(2, dim=-1)
            hessians.append(_gram((F.silu(gate) * up)[None]))
        self._linear([f"{prefix}mlp.experts.down_proj.weight"], torch.cat(hessians))

    def _linear(self, names: Sequence[str], hessian_BCC: Tensor) -> None:
        """Quantize units that have the same inputs: of B matrices each, or all of whose rows share one Hessian."""
        factors: tuple[Tensor, list[float | None]] | None = None
        for name in names:
            self.see(name, hessian_BCC.diagonal(dim1=-2, dim2=-1))
            weight, precision = self.views[name], self.plan[name]
            if precision is None or precision is Precision.F16:
                self._put(name, plain_unit(weight, precision))
                continue
            if precision in K_QUANTS:  # as it is: weighed with `see`'s squares they cost more in the whole model
                self._keep(name, rounded_to(weight, precision), precision, hessian_BCC)
                continue
            factors = factors or factor(hessian_BCC, self.damping)
            self._round(name, weight, Grid(precision), hessian_BCC, *factors)

    def _round(
        self,
        name: str,
        weight: Tensor,
        grid: Grid,
        hessian_BCC: Tensor,
        upper_BCC: Tensor,
        dampings: Sequence[float | None],
    ) -> None:
        matrices_BRC = weight.reshape(len(hessian_BCC), -1, weight.shape[-1])
        codes, scales = round_columns(matrices_BRC, upper_BCC, grid)
        unit = Unit.packed(codes.view(weight.shape), scales.view(*weight.shape[:-1], -1), grid)
        raised: dict[str, float] = {}
        for place, damping in enumerate(dampings):
            matrix = f"{name}[{place}]" if len(dampings) > 1 else name
            if damping is None:
                self.result.rounded.append(matrix)
            elif damping != self.damping:
                raised[matrix] = damping
        self._keep(name, unit, Precision(grid), hessian_BCC, raised or None)

    def _keep(
        self,
        name: str,
        unit: Unit,
        precision: Precision,
        hessian_BCC: Tensor,
        damping: dict[str, float] | None = None,
    ) -> None:
        """Store a unit, its errors, and the damping of matrices where it had to be raised."""
        weight = self.views[name]
        matrices_BRC = weight.reshape(len(hessian_BCC), -1, weight.shape[-1])
        plain = rounded_to(weight, precision).weight()
        self.result.errors[name] = MatrixFacts(
            precision=unit.precision,
            error=_relative(unit.weight().view_as(matrices_BRC), matrices_BRC, hessian_BCC),
            error_rounded=_relative(plain.view_as(matrices_BRC), matrices_BRC, hessian_BCC),
            damping=damping,
        )
        self._put(name, unit)


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


def _gram(x_Btx: Tensor) -> Tensor:
    """X^T X [B, x, x] in float64."""
    x = x_Btx.double()
    return x.transpose(1, 2) @ x


def _relative(quantized_BRC: Tensor, weight_BRC: Tensor, hessian_BCC: Tensor) -> float:
    """Squared error of the outputs relative to the outputs, over all matrices."""
    weight, delta = weight_BRC.double(), quantized_BRC.double() - weight_BRC.double()
    whole = float(((weight @ hessian_BCC) * weight).sum())
    return float(((delta @ hessian_BCC) * delta).sum()) / whole if whole > 0 else 0.0
