"""The stage `quantize`: the finished model in 8 and in 4 bits per weight, and what that costs in quality.

Artifact: ``int8/`` and ``int4/`` (`model.release.quantized`) and ``quantization.json``: per model its size, its
divergence from full precision on held-out text and on held-out solved tasks, the same for plain rounding, the error of
every matrix, the calibration tokens of every expert and the experts that had too few.

The bytes do not depend on the number of workers; another number of cores, or another kind, may move a code by one.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra import events
from infra.errors import UserError
from model.sections import Precision, QuantizeConfig

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from model.release.calibrate import CalibrationBatch
    from model.release.divergence import Reference
    from model.release.quantized import Plan
    from model.transformer import Transformer

__all__ = ["quantize"]


def quantize(config: QuantizeConfig, inputs: Mapping[str, Path], out_dir: Path) -> dict[str, Any]:
    """Quantize the model of `grpo`, calibrated on the training rows of `shards` and `reasoning`.

    Raises:
        UserError: inputs that do not fit together, or without any held-out rows.
    """
    import torch
    from tokenizers import Tokenizer

    from model.checkpoint import load_model, write_json
    from model.config import count_parameters
    from model.release.divergence import Reference
    from model.training.engine import threads_for

    torch.set_num_threads(threads_for(1))
    checkpoint = inputs["model"] / "model"
    model = load_model(checkpoint).requires_grad_(False)
    tokenizer = Tokenizer.from_file(str(inputs["tokenizer"] / "tokenizer.json"))
    if tokenizer.get_vocab_size() > model.config.vocab_size:
        raise UserError(f"{checkpoint}: its vocabulary is smaller than the tokenizer's; train it with this tokenizer")
    calibration = _calibration_rows(config, inputs, tokenizer)
    references = {
        name: Reference(model, list(_cut(rows, config.batch_size)))
        for name, rows in _held_out_rows(config, inputs, tokenizer).items()
    }
    parameters = count_parameters(model.config)
    original = (checkpoint / "model.safetensors").stat().st_size
    whole = {"bytes": original, "bits_per_weight": round(8 * original / parameters, 3)}
    precisions: dict[str, Any] = {"f32": whole | _measure(references, model)}
    plans = _plans(config, model)
    events.begin("calibrating", len(plans) * model.config.num_hidden_layers, "layers")
    for name, plan in plans.items():
        precisions[name] = _one(config, model, plan, calibration, references, checkpoint, out_dir / name)
        precisions[name]["bits_per_weight"] = round(8 * precisions[name]["bytes"] / parameters, 3)
    events.flush()
    report = {
        "calibration": {
            "rows": sum(len(batch.tokens_BT) for batch in calibration),
            "tokens": sum(int(batch.valid_BT.sum()) for batch in calibration),
        },
        "held_out_tokens": {name: reference.tokens for name, reference in references.items()},
        "parameters": parameters,
        "precisions": precisions,
    }
    write_json(out_dir / "quantization.json", _short(report))
    return _flat(report)


def _plans(config: QuantizeConfig, model: Transformer) -> dict[str, Plan]:
    from model.release.quantized import make_plan
    from model.release.units import Role

    eight = dict.fromkeys((Role.EXPERTS, Role.LINEAR, Role.EMBEDDINGS), Precision.Q8_0)
    four = {Role.EXPERTS: config.experts, Role.LINEAR: config.linear, Role.EMBEDDINGS: config.embeddings}
    return {"int8": make_plan(model, eight), "int4": make_plan(model, four)}


def _one(
    config: QuantizeConfig,
    model: Transformer,
    plan: Plan,
    calibration: list[CalibrationBatch],
    references: Mapping[str, Reference],
    checkpoint: Path,
    folder: Path,
) -> dict[str, Any]:
    """Make and judge one quantized model. Judged is what was written, read back."""
    from model.release.calibrate import calibrate, rounded
    from model.release.quantized import fill, load_quantized, save_quantized

    work = copy.deepcopy(model)
    made = calibrate(work, calibration, plan, damping=config.damping, expert_tokens=config.expert_tokens)
    save_quantized(folder, made.stored, checkpoint)
    measured = _measure(references, load_quantized(folder))
    fill(work, rounded(model, plan))
    if made.starved:
        events.note(
            f"{folder.name}: {len(made.starved)} experts had fewer than {config.expert_tokens} calibration tokens"
        )
    return {
        "bytes": (folder / "model.safetensors").stat().st_size,
        **measured,
        "rounded_to_nearest": _measure(references, work),
        "matrices": {name: entry | {"precision": made.stored[name].precision} for name, entry in made.errors.items()},
        "expert_tokens": made.expert_tokens,
        "starved_experts": made.starved,
        "uncalibrated_matrices": made.rounded,
        "kept_in_16_bits": [name for name, unit in made.stored.items() if unit.precision == "f16"],
    }


def _measure(references: Mapping[str, Reference], model: Transformer) -> dict[str, Any]:
    """Divergence on held-out text, and on held-out solved tasks under `reasoning`."""
    by_kind = {name: asdict(reference.compare(model)) for name, reference in references.items()}
    return by_kind.pop("text") | by_kind


def _calibration_rows(
    config: QuantizeConfig, inputs: Mapping[str, Path], tokenizer: Tokenizer
) -> list[CalibrationBatch]:
    tasks = round(config.calibration_sequences * config.reasoning_share)
    text = config.calibration_sequences - tasks
    length = _sequence_length(inputs["shards"])
    rows = []
    if text:
        rows.append(_text_rows(inputs["shards"], "train", text, config.seed))
    if tasks:
        rows.append(_task_rows(inputs["reasoning"] / "train.jsonl", tokenizer, length, tasks, config.seed))
    return [batch for kind in rows for batch in _cut(kind, config.batch_size)]


def _held_out_rows(
    config: QuantizeConfig, inputs: Mapping[str, Path], tokenizer: Tokenizer
) -> dict[str, CalibrationBatch]:
    length, count = _sequence_length(inputs["shards"]), config.evaluation_sequences
    return {
        "text": _text_rows(inputs["shards"], "validation", count, 0),
        "reasoning": _task_rows(inputs["reasoning"] / "validation.jsonl", tokenizer, length, count, 0),
    }


def _sequence_length(shards: Path) -> int:
    from pipeline.reader import ShardReader

    return ShardReader(shards, "train", global_batch=1, verify=False).sequence_length


def _text_rows(shards: Path, split: str, count: int, seed: int) -> CalibrationBatch:
    """At most `count` different rows of packed text."""
    import torch

    from model.release.calibrate import CalibrationBatch
    from pipeline.reader import ShardReader

    try:
        rows = ShardReader(shards, split, global_batch=1).rows
        batch = ShardReader(shards, split, global_batch=min(count, rows), seed=seed, verify=False).batch(0)
    except ValueError as error:
        raise UserError(f"quantize: {error}") from None
    return CalibrationBatch(batch.tokens, batch.documents, torch.ones_like(batch.tokens, dtype=torch.bool))


def _task_rows(file: Path, tokenizer: Tokenizer, length: int, count: int, seed: int) -> CalibrationBatch:
    """At most `count` rows of packed solved tasks."""
    import torch

    from model.generate import token_id
    from model.release.calibrate import CalibrationBatch
    from model.training.chats import ChatBatches, encode_chats
    from pipeline.reasoning import read_tasks

    tasks = read_tasks(file)
    pad = token_id(tokenizer, "<|pad|>")
    try:
        packed = ChatBatches(encode_chats(tokenizer, tasks), length, 1, pad, seed)
    except ValueError as error:
        raise UserError(f"{file}: {error}") from None
    chosen = [packed.batch(step, 0, 1) for step in range(min(count, packed.rows))]
    tokens_BT = torch.cat([row.tokens_BT for row in chosen])
    documents_BT = torch.cat([row.documents_BT for row in chosen if row.documents_BT is not None])
    return CalibrationBatch(tokens_BT, documents_BT, tokens_BT != pad)


def _cut(rows: CalibrationBatch, size: int) -> Iterator[CalibrationBatch]:
    from model.release.calibrate import CalibrationBatch

    columns = (rows.tokens_BT, rows.documents_BT, rows.valid_BT)
    for parts in zip(*(column.split(size) for column in columns), strict=True):
        yield CalibrationBatch(*parts)


def _flat(report: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers that gates and summaries look at."""
    metrics: dict[str, Any] = {"calibration_tokens": report["calibration"]["tokens"]}
    for name, values in report["precisions"].items():
        metrics |= {f"bytes_{name}": values["bytes"], f"perplexity_{name}": values["perplexity"]}
        if name != "f32":
            metrics |= {f"kl_{name}": values["kl"], f"top1_{name}": values["top1"]}
            metrics[f"kl_{name}_reasoning"] = values["reasoning"]["kl"]
            metrics[f"kl_{name}_rtn"] = values["rounded_to_nearest"]["kl"]
            metrics[f"bits_per_weight_{name}"] = values["bits_per_weight"]
            metrics[f"starved_experts_{name}"] = len(values["starved_experts"])
    return metrics


def _short(value: Any) -> Any:
    """Numbers to six digits, in a structure of any depth."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, Mapping):
        return {key: _short(item) for key, item in value.items()}
    return [_short(item) for item in value] if isinstance(value, list) else value
