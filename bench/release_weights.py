"""The contenders of `bench.release`: one model's weights, quantized by us and by others.

All are judged by one forward pass in fp32, so that only the weights differ, and embeddings have 8 bits everywhere.
"""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from tokenizers import Tokenizer
from torch import Tensor

from infra.errors import UserError
from model.architecture.checkpoint import load_model
from model.release.allocate import allocate
from model.release.calibrate import calibrate
from model.release.compressed import load_compressed
from model.release.compressor import check_compressor, write_llmcompressor
from model.release.kquants import k_quantize, k_quants
from model.release.outputs import output_moments
from model.release.quantized import Plan, Unit, make_plan, plain_unit
from model.release.rounding import rounded
from model.release.rows import CalibrationBatch, apart, cut, sequence_length, task_rows, text_rows
from model.release.units import Role, role_of, units
from model.sections import Precision

__all__ = ["Contenders", "MissingError", "Weights"]

EXPERT_TOKENS, DAMPING = 128, 0.01
COMPRESSOR = "0.14.0.1"
"""Version of llmcompressor that is asked for."""
Weights = Mapping[str, Any]
"""Units by name, whatever stores them."""
Made = tuple[Weights, float]
"""Weights, and the bits of one of them, on average, in the quantized matrices but the embeddings."""


class MissingError(Exception):
    """A contender that is not installed."""


class Contenders:
    """Weights by the name of a contender, each made once and timed."""

    def __init__(self, made: Mapping[str, Path], *, quick: bool) -> None:
        self.made, self.quick = made, quick
        self.checkpoint = made["model"] / "model"
        self.model = load_model(self.checkpoint).requires_grad_(False)
        self.calibration, self.check = self._rows(8 if quick else 96)
        self._found: dict[str, Made] = {}
        self._plans: dict[float, Plan] = {}
        self.seconds: dict[str, float] = {}
        kinds = GGMLQuantizationType
        self._makers: dict[str, Callable[[], Made]] = {
            "int8": lambda: self._sized(self._calibrated(self.plan(Precision.Q8_0))),
            "int4": lambda: self._sized(self._calibrated(self.budget_plan(self.bits("q4_k_m")))),
            "int4 4.5": lambda: self._sized(self._calibrated(self.budget_plan(4.5, k_quants=True))),
            "int4 3.6": lambda: self._sized(self._calibrated(self.budget_plan(3.6, k_quants=True))),
            "int4_uniform": lambda: self._sized(self._calibrated(self.plan(Precision.Q4_0))),
            "int4_uniform gradients": lambda: self._sized(
                self._calibrated(self.plan(Precision.Q4_0), output_moments(self.model, self._few(), 0))
            ),
            "rtn8": lambda: self._sized(rounded(self.model, self.plan(Precision.Q8_0))),
            "rtn4": lambda: self._sized(rounded(self.model, self.plan(Precision.Q4_0))),
            "rtn4 g16": lambda: self._by(_rounded_by_group(16), lambda columns: 4 + 16 / 16),
            "rtn4 as 4.5": lambda: self._sized(rounded(self.model, self.budget_plan(4.5, k_quants=True))),
            "rtn4 as 3.6": lambda: self._sized(rounded(self.model, self.budget_plan(3.6, k_quants=True))),
            "rtn4 as ours": lambda: self._sized(rounded(self.model, self.budget_plan(self.bits("q4_k_m")))),
            "q8_0": lambda: self._sized(self._all(kinds.Q8_0)),
            "q4_k": lambda: self._sized(self._all(kinds.Q4_K)),
            "q4_k_m": lambda: self._sized(k_quants(units(self.model), self.model.config, {}, embeddings=kinds.Q8_0)),
            "q4_k_m imatrix": lambda: self._sized(
                k_quants(units(self.model), self.model.config, self.importance(), embeddings=kinds.Q8_0)
            ),
            "torchao8": lambda: self._by(_torchao(8, None), lambda columns: 8 + 16 / columns),
            "torchao4 g32": lambda: self._by(_torchao(4, 32), lambda columns: 4 + 32 / _fitting(32, columns)),
            "torchao4 g64": lambda: self._by(_torchao(4, 64), lambda columns: 4 + 32 / _fitting(64, columns)),
            "llmcompressor": self._llmcompressor,
        }

    def _rows(self, count: int) -> tuple[list[CalibrationBatch], list[CalibrationBatch]]:
        """Rows to calibrate on, and a quarter as many to check the codes on."""
        words = Tokenizer.from_file(str(self.made["tokenizer"] / "tokenizer.json"))
        shards, tasks = self.made["shards"], self.made["reasoning"] / "train.jsonl"
        length, solved = sequence_length(shards), max(2, count // 8)
        kinds = (
            apart(text_rows(shards, "train", count + count // 4, 0), count),
            apart(task_rows(tasks, words, length, solved + -(-solved // 4), 0), solved),
        )
        fit, check = ([batch for kind in kinds for batch in cut(kind[place], 4)] for place in (0, 1))
        return fit, check

    def _few(self) -> list[CalibrationBatch]:
        """Sixteen of the calibration rows, a quarter of them tasks, which come last."""
        return [*self.calibration[:-1:8][:3], self.calibration[-1]]

    def weights(self, name: str) -> Weights:
        """The units of a contender; `MissingError` when it is not installed."""
        if name not in self._found:
            begun = time.perf_counter()
            self._found[name] = self._makers[name]()
            self.seconds[name] = time.perf_counter() - begun
        return self._found[name][0]

    def bits(self, name: str) -> float:
        """Bits per weight of a contender, scales and zero points with it."""
        self.weights(name)
        return self._found[name][1]

    def plan(self, precision: Precision) -> Plan:
        """One precision for all matrices but the embeddings."""
        kinds = {Role.EXPERTS: precision, Role.LINEAR: precision, Role.EMBEDDINGS: Precision.Q8_0}
        return make_plan(self.model, kinds)

    def budget_plan(self, bits: float, *, k_quants: bool = False) -> Plan:
        """Four bits, and eight (or llama.cpp's two, three and six) where measured harm says so, within `bits`."""
        if bits not in self._plans:
            plan = self.plan(Precision.Q4_0)
            matrices = {name: kind for name, kind in plan.items() if name in self.matrices()}
            apart = plan | dict.fromkeys(plan.keys() - matrices.keys())  # the embeddings have 8 bits everywhere
            allocate(self.model, apart, bits, self.calibration[::4][:4], k_quants=k_quants)
            self._plans[bits] = plan | {name: apart[name] for name in matrices}
        return self._plans[bits]

    def importance(self) -> dict[str, Tensor]:
        """As llama-imatrix takes it: mean squares of the full-precision model's activations."""
        work, unchanged = copy.deepcopy(self.model), dict.fromkeys(units(self.model))
        return calibrate(work, self.calibration, unchanged, damping=DAMPING, expert_tokens=1).importance

    def _calibrated(self, plan: Plan, outputs: Mapping[str, Tensor] | None = None) -> Weights:
        made = calibrate(
            copy.deepcopy(self.model),
            self.calibration,
            plan,
            damping=DAMPING,
            expert_tokens=EXPERT_TOKENS,
            check=self.check,
            outputs=outputs,
        )
        return made.stored

    def matrices(self) -> dict[str, Tensor]:
        """What counts for the bits: all quantized units but the embeddings."""
        return {
            name: weight
            for name, weight in units(self.model).items()
            if role_of(name, weight) in (Role.EXPERTS, Role.LINEAR)
        }

    def _sized(self, weights: Weights) -> Made:
        stored = sum(weights[name].stored.nbytes for name in self.matrices())
        return weights, 8 * stored / sum(weight.numel() for weight in self.matrices().values())

    def _all(self, kind: GGMLQuantizationType) -> Weights:
        """Every matrix by one of llama.cpp's kernels."""
        made: dict[str, Any] = {}
        for name, weight in units(self.model).items():
            role = role_of(name, weight)
            if role is Role.KEPT:
                made[name] = plain_unit(weight, None)
            else:
                chosen = GGMLQuantizationType.Q8_0 if role is Role.EMBEDDINGS else kind
                narrow = weight.shape[-1] % GGML_QUANT_SIZES[chosen][0] > 0
                made[name] = k_quantize(weight, GGMLQuantizationType.Q5_0 if narrow else chosen)
        return made

    def _by(self, change: Callable[[Tensor], Tensor], bits: Callable[[int], float]) -> Made:
        """Every matrix [R, C] by `change`, embeddings as ours; `bits` of a weight in rows of C."""
        made = dict(rounded(self.model, make_plan(self.model, {Role.EMBEDDINGS: Precision.Q8_0})))
        stored = count = 0.0
        for name, weight in self.matrices().items():
            flat = weight.reshape(-1, weight.shape[-1]).contiguous()
            made[name] = Unit(change(flat).view(weight.shape).float().contiguous())
            stored, count = stored + bits(weight.shape[-1]) * weight.numel(), count + weight.numel()
        return made, stored / count

    def _llmcompressor(self) -> Made:
        """Its linear layers at 4 bits; embeddings and the expansion of the latent, which it leaves alone, as ours."""
        try:
            python = check_compressor(COMPRESSOR, self.checkpoint)
        except UserError as error:
            raise MissingError(str(error)) from None
        plan = self.plan(Precision.Q4_0)
        with tempfile.TemporaryDirectory() as folder:
            out, work = Path(folder) / "out", Path(folder) / "work"
            write_llmcompressor(
                python, self.model, plan, self.calibration, self.checkpoint, out, work,
                damping=DAMPING, threads=torch.get_num_threads(),
            )  # fmt: skip
            theirs = units(load_compressed(out))
        made, bits = dict(self.weights("int4_uniform")), self.bits("int4_uniform")
        for name in self.matrices():
            if not name.endswith(("k_b_proj.weight", "v_b_proj.weight")):
                made[name] = Unit(theirs[name].contiguous().clone())
        return made, bits


def _rounded_by_group(size: int) -> Callable[[Tensor], Tensor]:
    """To nearest as `model.architecture.grid` does it (the extreme weight on -8), in groups of another size."""

    def change(weight: Tensor) -> Tensor:
        groups = weight.unflatten(-1, (-1, size))
        extreme = groups.gather(-1, groups.abs().argmax(-1, keepdim=True))
        scale = (extreme / -8).half().float()
        codes = torch.where(scale == 0, torch.zeros_like(groups), groups / scale).round().clamp(-8, 7)
        return (codes * scale).flatten(-2)

    return change


def _torchao(bits: int, group: int | None) -> Callable[[Tensor], Tensor]:
    """torchao's primitives, for its modules leave 3-D experts in full precision and its 4-bit layer has no CPU kernel.

    8 bits: symmetric, by row. 4 bits: asymmetric, scale and zero point of 16 bits each per group.
    """
    try:
        from torchao.quantization.quant_primitives import (
            MappingType,
            choose_qparams_affine,
            dequantize_affine,
            quantize_affine,
        )
    except ImportError as error:
        raise MissingError(str(error)) from None
    if bits == 8:
        kind, code, low, high = MappingType.SYMMETRIC, torch.int8, -128, 127
    else:
        kind, code, low, high = MappingType.ASYMMETRIC, torch.uint8, 0, 15

    def change(weight: Tensor) -> Tensor:
        block = (1, weight.shape[1] if group is None else _fitting(group, weight.shape[1]))
        scale, zero = choose_qparams_affine(
            weight, kind, block, code, low, high, scale_dtype=torch.float32, zero_point_dtype=torch.int32
        )
        codes = quantize_affine(weight, block, scale, zero, code, low, high)
        found: Tensor = dequantize_affine(codes, block, scale.half().float(), zero, code, low, high)
        return found

    return change


def _fitting(group: int, columns: int) -> int:
    return group if columns % group == 0 else 32
