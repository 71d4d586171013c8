"""The stage `quantize`: the finished model in 8 and in 4 bits per weight, and what that costs in quality.

Artifact: ``int8/`` and ``int4/`` (`model.release.quantized`), by choice ``w8a8/`` (`model.release.activations`) and
``llmcompressor/`` (`model.release.compressor`), ``importance.safetensors`` (mean square of every input column, which
llama.cpp's K-quants are weighed with) and ``quantization.json``: per model its size, its divergence from full precision
on held-out text, by source too, and on held-out solved tasks, the share of tasks it solves, the divergence of plain
rounding, the error of every matrix, the calibration tokens of every expert and the experts that had too few. Where the
model is made smaller, ``checkpoint/`` has it in 32 bits: without some of its experts, of which all else is then made
(`model.release.prune`, `model.release.heal`), or of fewer tokens (`model.release.trim`), with ``tokenizer/``.

No model is further from the original than plain rounding makes it: a matrix keeps the rounded codes where calibrated
ones are no better on rows held out (`model.release.calibrate`), and so does the whole model where it is further on
held-out text or tasks all the same.

The bytes do not depend on the number of workers; another number of cores, or another kind, may move a code by one.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra import events
from infra.errors import UserError
from model.facts.release import (
    CHECKPOINT,
    PRUNED,
    QUANTIZATION,
    WHOLE,
    Calibration,
    Llmcompressor,
    PrecisionFacts,
    Quantization,
    QuantizeMetrics,
)
from model.sections import Activations, Precision, QuantizeConfig

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor

    from model.architecture.config import ModelConfig
    from model.architecture.transformer import Transformer
    from model.release.quality import Judge
    from model.release.quantized import Plan, Unit
    from model.release.rows import CalibrationBatch
    from model.release.units import Role

__all__ = ["IMPORTANCE", "quantize"]

IMPORTANCE = "importance.safetensors"
CHECKED = 4
"""Rows that are calibrated on for each that the codes are checked on."""


def quantize(config: QuantizeConfig, inputs: Mapping[str, Path], out_dir: Path) -> QuantizeMetrics:
    """Quantize the model of `model`, calibrated on the training rows of `shards`, `reasoning` and `conversations`.

    Raises:
        UserError: inputs that do not fit together, or without any held-out rows.
    """
    import torch

    from model.architecture.checkpoint import load_config, load_model, write_json
    from model.release.compressor import check_compressor
    from model.release.pruned import write_pruned
    from model.release.quality import Judge
    from model.release.trim import trim_vocabulary
    from model.training.engine import threads_for
    from pipeline.tokens.chat import read_tokenizer

    torch.set_num_threads(threads_for(1))
    checkpoint = inputs["model"] / "model"
    compressor = check_compressor(config.llmcompressor, checkpoint) if config.llmcompressor else ""
    model = load_model(checkpoint).requires_grad_(False)
    small = _without_experts(config, model.config)
    tokenizer = read_tokenizer(inputs["tokenizer"])
    if tokenizer.get_vocab_size() > model.config.vocab_size:
        raise UserError(f"{checkpoint}: its vocabulary is smaller than the tokenizer's; train it with this tokenizer")
    calibration, check = _calibration_rows(config, inputs, tokenizer)
    events.begin("judging", 1, "models")
    judge = Judge(config, model, inputs, tokenizer)
    work = _Work(config, model, checkpoint, calibration, check, judge, out_dir)
    precisions = {WHOLE: work.measured(model, checkpoint)}
    pruning = None
    if small is not None:
        model, pruning = write_pruned(config, model, small, inputs, tokenizer, calibration, judge, out_dir)
        checkpoint = out_dir / CHECKPOINT
        work = replace(work, model=model, checkpoint=checkpoint)
        precisions[PRUNED] = work.measured(model, checkpoint)
    predicts = load_config(checkpoint).num_nextn_predict_layers
    whole = load_model(checkpoint, prediction=True).requires_grad_(False) if predicts else None
    plans, costs = work.plans()
    outputs = work.output_moments()
    events.begin("calibrating", len(plans) * model.config.num_hidden_layers, "layers")
    for name, plan in plans.items():
        further = _prediction(config, whole, name) if whole is not None else {}
        seen = outputs if name == "int4" else {}  # eight bits lose too little
        precisions[name] = work.quantized(name, plan, seen, further)
    events.flush()
    more: dict[str, PrecisionFacts] = {}
    if config.activations is Activations.INT8:
        more["w8a8"] = work.w8a8()
    if compressor:
        more["llmcompressor"] = work.llmcompressor(compressor, plans["int4"])
    report = Quantization(
        calibration=Calibration(
            rows=sum(len(batch.tokens_BT) for batch in calibration),
            tokens=sum(int(batch.valid_BT.sum()) for batch in calibration),
            held_out_tokens=sum(int(batch.valid_BT.sum()) for batch in check),
        ),
        cost_at_4_bits=costs,
        held_out_tokens=judge.tokens,
        parameters=work.parameters,
        pruning=pruning,
        precisions=precisions,
        **more,
    )
    if config.min_token_count:
        report = trim_vocabulary(config, inputs, checkpoint, out_dir, report)
    write_json(out_dir / QUANTIZATION, report.written())
    return _flat(report)


@dataclass(frozen=True)
class _Work:
    """A model, and what its quantized forms are made with and judged by."""

    config: QuantizeConfig
    model: Transformer
    checkpoint: Path
    """Of the model."""
    calibration: list[CalibrationBatch]
    check: list[CalibrationBatch]
    """Rows that the codes are checked on."""
    judge: Judge
    out_dir: Path

    @property
    def parameters(self) -> int:
        """Without layers of multi-token prediction."""
        from model.architecture.config import count_parameters

        return count_parameters(self.model.config)

    def measured(self, model: Transformer, folder: Path, **more: Any) -> PrecisionFacts:
        """Quality of `model`, and the size of its weights in `folder`, without layers of multi-token prediction."""
        from model.architecture.checkpoint import prediction_bytes

        size = (folder / "model.safetensors").stat().st_size - prediction_bytes(folder)
        bits = round(8 * size / self.parameters, 3)
        return PrecisionFacts(bytes=size, bits_per_weight=bits, **self.judge(model).given(), **more)

    def plans(self) -> tuple[dict[str, Plan], dict[str, float]]:
        """The plans by name, and what matrices cost at 4 bits where that was asked."""
        from model.release.allocate import allocate
        from model.release.quantized import make_plan

        config = self.config
        plans = {name: make_plan(self.model, precisions) for name, precisions in _precisions(config).items()}
        costs: dict[str, float] = {}
        if config.bits is not None:
            seen = self._some(config.sensitivity_sequences)
            costs = allocate(self.model, plans["int4"], config.bits, seen, k_quants=config.k_quants)
        _refuse_one_size(self.model, plans)
        return plans, costs

    def output_moments(self) -> dict[str, Tensor]:
        """By which the errors of outputs count in the int4 model; nothing where they count alike."""
        from model.release.outputs import output_moments

        sequences = self.config.gradient_sequences
        return output_moments(self.model, self._some(sequences), self.config.seed) if sequences else {}

    def _some(self, sequences: int) -> Sequence[CalibrationBatch]:
        """About so many rows of either kind: text comes first, tasks last."""
        batches = max(1, sequences // self.config.batch_size)
        return self.calibration[:: max(1, len(self.calibration) // batches)][:batches]

    def quantized(
        self, name: str, plan: Plan, outputs: Mapping[str, Tensor], prediction: Mapping[str, Unit]
    ) -> PrecisionFacts:
        """Make and judge one quantized model, with the layers of multi-token `prediction`. Judged is what was written,
        read back."""
        from safetensors.torch import save_file

        from model.release.calibrate import calibrate
        from model.release.quality import is_further
        from model.release.quantized import fill, load_quantized, save_quantized
        from model.release.rounding import rounded

        config, folder, copied = self.config, self.out_dir / name, copy.deepcopy(self.model)
        made = calibrate(
            copied,
            self.calibration,
            plan,
            damping=config.damping,
            expert_tokens=config.expert_tokens,
            check=self.check,
            outputs=outputs,
        )
        stored, plain = made.stored, rounded(self.model, plan)
        ours = self.judge.divergence(copied)
        fill(copied, plain)
        nearest = self.judge.divergence(copied)
        if is_worse := is_further(ours, nearest):
            events.note(f"{name}: calibration did not help, so the weights are rounded to nearest")
            stored = plain
        save_quantized(folder, stored, self.checkpoint, prediction)
        if name == "int8":  # calibrated on inputs that are nearest to full precision
            save_file(made.importance, self.out_dir / IMPORTANCE, metadata={"format": "pt"})
        if few := len(made.under_calibrated):
            events.note(f"{name}: {few} experts had fewer than {config.expert_tokens} calibration tokens")
        return self.measured(
            load_quantized(folder),
            folder,
            rounded_to_nearest=nearest,
            calibrated=not is_worse,
            matrices=made.errors,
            expert_tokens=made.expert_tokens,
            starved_experts=made.under_calibrated,
            uncalibrated_matrices=made.rounded,
            kept_in_16_bits=[unit for unit, each in stored.items() if each.precision == "f16"],
        )

    def w8a8(self) -> PrecisionFacts:
        """Make and judge the model with 8-bit activations."""
        from model.release.activations import int8_activations, write_w8a8

        folder = self.out_dir / "w8a8"
        write_w8a8(self.model, self.checkpoint, folder)
        with int8_activations(self.model):
            measured = self.judge(self.model)
        return PrecisionFacts(bytes=(folder / "model.safetensors").stat().st_size, **measured.given())

    def llmcompressor(self, python: str, plan: Plan) -> Llmcompressor:
        """Have `llmcompressor` make a model in the environment of `python`, and judge it."""
        from model.release.compressed import load_compressed
        from model.release.compressor import write_llmcompressor
        from model.training.engine import threads_for

        folder, work = self.out_dir / "llmcompressor", self.out_dir / ".work" / "llmcompressor"
        damping, threads = self.config.damping, threads_for(1)
        events.begin("llmcompressor", 1, "models")
        write_llmcompressor(
            python, self.model, plan, self.calibration, self.checkpoint, folder, work, damping=damping, threads=threads
        )
        events.advance()
        measured = self.measured(load_compressed(folder), folder)
        return Llmcompressor(version=self.config.llmcompressor, **measured.given())


def _without_experts(config: QuantizeConfig, whole: ModelConfig) -> ModelConfig | None:
    """The architecture of the pruned model, where one is asked for.

    Raises:
        UserError: the model cannot be pruned so.
    """
    try:
        return config.prune.architecture(whole) if config.prune.share else None
    except ValueError as error:
        raise UserError(str(error)) from None


def _precisions(config: QuantizeConfig) -> dict[str, dict[Role, Precision]]:
    """Of the matrices of both models, by their roles."""
    from model.release.units import Role

    eight = dict.fromkeys((Role.EXPERTS, Role.LINEAR, Role.EMBEDDINGS), Precision.Q8_0)
    four = {Role.EXPERTS: config.experts, Role.LINEAR: config.linear, Role.EMBEDDINGS: config.embeddings}
    return {"int8": eight, "int4": four}


def _refuse_one_size(model: Transformer, plans: Mapping[str, Plan]) -> None:
    """Two models of one size and two names would be a lie.

    Raises:
        UserError: the 4-bit model's matrices have no fewer bits than the 8-bit one's.
    """
    from model.release.allocate import bits_of

    eight, four = (bits_of(model, plans[name]) for name in ("int8", "int4"))
    if four >= eight:
        raise UserError(
            f"quantize: int4 would have {four:.2f} bits per weight in its matrices, and int8 {eight:.2f}: two names "
            "for one size; set quantize.experts and quantize.linear to q4_0, quantize.bits to less, or the widths of "
            "the model to multiples of 32"
        )


def _prediction(config: QuantizeConfig, whole: Transformer, name: str) -> dict[str, Unit]:
    """The layers of multi-token prediction of a quantized model, rounded to nearest: they guess, and what they guess is
    checked, so a worse guess costs time and no quality."""
    from model.release.quantized import make_plan
    from model.release.rounding import rounded_to
    from model.release.units import units

    plan = make_plan(whole, _precisions(config)[name])
    layers = tuple(f"model.layers.{number}." for number in whole.config.prediction_layers)
    found = {unit: weight for unit, weight in units(whole).items() if unit.startswith(layers)}
    return {unit: rounded_to(weight, plan[unit]) for unit, weight in found.items()}


def _calibration_rows(
    config: QuantizeConfig, inputs: Mapping[str, Path], tokenizer: Tokenizer
) -> tuple[list[CalibrationBatch], list[CalibrationBatch]]:
    """Rows to calibrate on, and others to check the codes on, of either kind."""
    from model.release.rows import apart, cut, kinds_of_rows

    fit: list[CalibrationBatch] = []
    check: list[CalibrationBatch] = []
    for count, rows_of in kinds_of_rows(config, inputs, tokenizer, config.calibration_sequences, config.seed):
        rows, held_out = apart(rows_of(count + -(-count // CHECKED)), count)
        fit += cut(rows, config.batch_size)
        check += cut(held_out, config.batch_size)
    return fit, check


def _flat(report: Quantization) -> QuantizeMetrics:
    """The numbers that gates and summaries look at."""
    flat: dict[str, float | None] = {}
    for kind, model in (("w8a8", report.w8a8), ("llmcompressor", report.llmcompressor)):
        if model is not None:
            flat |= {f"bytes_{kind}": model.bytes, f"kl_{kind}": model.kl}
            flat |= {f"top1_{kind}": model.top1, f"perplexity_{kind}": model.perplexity}
    for name, facts in report.precisions.items():
        flat |= {f"bytes_{name}": facts.bytes, f"perplexity_{name}": facts.perplexity}
        flat[f"accuracy_{name}"] = facts.accuracy
        if name != WHOLE:
            flat |= {f"kl_{name}": facts.kl, f"top1_{name}": facts.top1}
            flat[f"kl_{name}_reasoning"] = facts.reasoning.kl if facts.reasoning else None
            flat |= {f"kl_{name}_{source}": kl for source, kl in (facts.kl_by_source or {}).items()}
            flat[f"kl_{name}_rtn"] = facts.rounded_to_nearest.kl if facts.rounded_to_nearest else None
            flat[f"bits_per_weight_{name}"] = facts.bits_per_weight
            flat[f"starved_experts_{name}"] = len(facts.starved_experts or ())
    if report.pruning:
        flat["routed_experts"] = report.pruning.experts_after
    if report.pruning or report.vocabulary:
        flat["parameters"] = report.parameters
    return QuantizeMetrics(calibration_tokens=report.calibration.tokens, **flat)
