"""The stage `export`: the released model in the formats that other programs read.

Artifact: ``hf/`` (full precision, for transformers and what loads its checkpoints), ``compressed/`` (the served
precision as compressed-tensors, for vLLM and SGLang), ``w8a8/`` and ``llmcompressor/`` (by choice of `quantize`: with
8-bit activations; quantized by that library), ``gguf/`` (full, 8 and 4 bits, for llama.cpp; what guesses tokens for all
three in files of its own: the layer of multi-token prediction, the distilled student), ``model/`` (what MLflow
registers and serves: one of the quantized models), ``MODEL_CARD.md`` and ``export.json``, which also says what was left
out and why, and how closely llama.cpp agrees. Every GGUF file is read back and compared; llama.cpp itself computes
prompts with the full one, and must find our probabilities and our tokens.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from infra import events
from infra.json_objects import read_object
from model.facts.evaluation import read_evaluation
from model.facts.release import (
    EXPORT,
    STUDENT,
    EngineAgreement,
    ExportFacts,
    ExportMetrics,
    MemoryFacts,
    checkpoint_of,
    read_quantization,
    tokenizer_of,
)
from model.sections import ExportConfig

__all__ = ["export"]

PROBED = 1024
"""Tokens of context that memory and speed are measured with,"""
SHORT = 512
"""and the shorter of the two that the card tells memory of."""


def export(config: ExportConfig, inputs: Mapping[str, Path], out_dir: Path) -> ExportMetrics:
    """Write all formats of the models in `model` and `quantize`.

    Raises:
        UserError: an input is no model, or a written file does not read back as it was written.
    """
    from model.architecture.checkpoint import load_config, write_json
    from model.architecture.config import Family
    from model.architecture.transformers_limits import read_otherwise
    from model.release.card import card
    from model.release.compressed import unknown, write_compressed
    from model.release.gguf import unsupported
    from model.release.vllm_config import write_config

    quantized = inputs["quantize"]
    checkpoint = checkpoint_of(inputs["model"], quantized)
    tokenizer = tokenizer_of(inputs["tokenizer"], quantized)
    architecture = load_config(checkpoint)
    quantization = read_quantization(quantized)
    evaluation = read_evaluation(inputs["evaluate"])
    if "evaluate_release" in inputs:
        evaluation = evaluation.with_release(read_evaluation(inputs["evaluate_release"]))
    _copy(checkpoint, out_dir / "hf", tokenizer, config)
    _copy(quantized / config.precision.value, out_dir / "model", tokenizer, config)
    left_out: dict[str, str] = {}
    verified: dict[str, EngineAgreement] = {}
    measured: dict[str, float] = {}
    reason = unknown(out_dir / "model") if config.compressed else "export.compressed is false"
    if reason:
        left_out["compressed"] = reason
    else:
        write_compressed(out_dir / "model", out_dir / "compressed")
    for kind in ("w8a8", "llmcompressor"):
        if (quantized / kind).is_dir():
            _copy(quantized / kind, out_dir / kind, tokenizer, config)
    if architecture.model_type is Family.DEEPSEEK:
        for kind in ("hf", "compressed", "w8a8"):
            if (out_dir / kind).is_dir():
                write_config(out_dir / kind)
    reason = unsupported(architecture, tokenizer) if config.gguf else "export.gguf is false"
    if reason:
        left_out["gguf"] = reason
        events.note(f"no GGUF files: {reason}")
    else:
        verified["llama.cpp"], measured = _write_ggufs(config, checkpoint, quantized, tokenizer, out_dir / "gguf")
        if reason := _write_drafter(config, checkpoint, quantized, tokenizer, out_dir / "gguf"):
            left_out["drafts"] = reason
        if "student" in inputs and (reason := _write_student(config, inputs, checkpoint, tokenizer, out_dir / "gguf")):
            left_out["draft model"] = reason
    files = {
        path.relative_to(out_dir).as_posix(): path.stat().st_size
        for path in sorted(out_dir.rglob("*"))
        if path.suffix in (".gguf", ".safetensors") and ".work" not in path.parts
    }
    facts = ExportFacts(
        files=files,
        left_out=left_out,
        not_read_by=read_otherwise(architecture, tokenizer),
        precision=config.precision.value,
        verified=verified,
        memory=_memory(out_dir / "gguf"),
    )
    text = card(config, architecture, quantization, evaluation, facts)
    (out_dir / "MODEL_CARD.md").write_text(text, encoding="utf-8")
    write_json(out_dir / EXPORT, facts.model_dump(mode="json"))
    sizes = {
        f"bytes_{kind}": sum(size for name, size in files.items() if name.endswith(kind))
        for kind in ("gguf", "safetensors")
    }
    # what was measured moves with the machine: metrics, and no part of the artifact's bytes
    return ExportMetrics(precision=config.precision.value, left_out=left_out, **sizes, **measured)


def _write_ggufs(
    config: ExportConfig, checkpoint: Path, quantized: Path, tokenizer: Path, folder: Path
) -> tuple[EngineAgreement, dict[str, float]]:
    """Write and check the files; how closely llama.cpp agrees with the model, and what each costs it here."""
    import torch
    from safetensors.torch import load_file

    from model.architecture.checkpoint import load_model
    from model.release.gguf import Stored, check_gguf, write_gguf
    from model.release.kquants import k_quants
    from model.release.probe import probe
    from model.release.quantize import IMPORTANCE
    from model.release.quantized import plain_unit, read_units
    from model.release.units import units
    from model.release.verify import TOLERANCE, check_runs, verify_gguf
    from pipeline.tokens.chat import read_tokenizer

    folder.mkdir(parents=True, exist_ok=True)
    model = load_model(checkpoint)
    weights = units(model)
    kinds: dict[str, Mapping[str, Stored]] = {
        "f32": {unit: plain_unit(weight, None) for unit, weight in weights.items()},
        "q8_0": read_units(quantized / "int8")[1],
        "q4_0": read_units(quantized / "int4")[1],
    }
    if config.q4_k_m:
        kinds["q4_k_m"] = k_quants(weights, model.config, load_file(quantized / IMPORTANCE))
    events.begin("writing", len(kinds), "files")
    for kind, stored in kinds.items():
        path = folder / f"model-{kind}.gguf"
        write_gguf(path, model.config, stored, tokenizer, name=config.title)
        check_gguf(path, model.config, stored)
        events.advance()
    events.flush()
    words = read_tokenizer(tokenizer)
    found = verify_gguf(folder / "model-f32.gguf", model, words)
    measured: dict[str, float] = {}
    for kind in kinds:
        path = folder / f"model-{kind}.gguf"
        if kind != "f32":
            check_runs(path, model, words)
        context = min(PROBED, model.config.max_position_embeddings)
        found_here = probe(path, context=context, threads=torch.get_num_threads())
        measured |= {f"{name}_{kind}": value for name, value in found_here.metrics().items()}
    events.note(f"llama.cpp's log probabilities are within {found.difference:.1e} of ours")
    # the measured figure moves with the number of threads, and an artifact's bytes must not
    agreed = EngineAgreement(log_probabilities_within=TOLERANCE, top1_equal=found.top1, tokens_equal=found.tokens)
    return agreed, measured


def _memory(folder: Path) -> dict[str, MemoryFacts]:
    """What llama.cpp takes with each file of `folder`, computed."""
    from model.release.footprint import Loading, model_files, read_device_file

    found = {}
    for path in model_files(folder):
        file = read_device_file(path)
        found[file.precision] = MemoryFacts(
            context=file.context,
            short=file.footprint(min(SHORT, file.context)).total,
            long=file.footprint(file.context).total,
            long_8_bits=file.footprint(file.context, Loading(in_8_bits=file.takes_8_bits)).total,
        )
    return found


def _write_drafter(
    config: ExportConfig, checkpoint: Path, quantized: Path, tokenizer: Path, folder: Path
) -> str | None:
    """Write and check what guesses tokens for llama.cpp, in 8 bits; why there is none, where the model has more to it
    than llama.cpp can guess with."""
    from model.architecture.checkpoint import load_config, load_model
    from model.release.gguf import DRAFTER, check_gguf, draft_units, undraftable, write_gguf
    from model.release.quantized import read_units
    from model.release.verify import check_drafts
    from pipeline.tokens.chat import read_tokenizer

    whole = load_config(checkpoint)
    if not whole.num_nextn_predict_layers:
        return None
    if reason := undraftable(whole):
        return reason
    path, stored = folder / DRAFTER.format("q8_0"), read_units(quantized / "int8", prediction=True)[1]
    write_gguf(path, whole, draft_units(whole, stored), tokenizer, name=config.title)
    check_gguf(path, whole, draft_units(whole, stored))
    check_drafts(folder / "model-q8_0.gguf", path, load_model(checkpoint), read_tokenizer(tokenizer))
    return None


def _write_student(
    config: ExportConfig, inputs: Mapping[str, Path], checkpoint: Path, tokenizer: Path, folder: Path
) -> str | None:
    """Write and check the small model that was distilled from this one, in 8 bits, for it guesses well what this one
    says; why there is none."""
    from model.architecture.checkpoint import load_model
    from model.release.gguf import check_gguf, unsupported, write_gguf
    from model.release.quantized import make_plan
    from model.release.rounding import rounded
    from model.release.units import Role
    from model.release.verify import check_drafts
    from model.sections import Precision
    from pipeline.tokens.chat import read_tokenizer

    if tokenizer != inputs["tokenizer"]:
        return "the student knows tokens that quantize.min_token_count took from the model"
    student = load_model(inputs["student"] / "model").requires_grad_(False)
    if reason := unsupported(student.config, tokenizer):
        return f"the student: {reason}"
    path = folder / STUDENT
    eight = dict.fromkeys((Role.EXPERTS, Role.LINEAR, Role.EMBEDDINGS), Precision.Q8_0)
    stored = rounded(student, make_plan(student, eight))
    write_gguf(path, student.config, stored, tokenizer, name=f"{config.title}, student")
    check_gguf(path, student.config, stored)
    check_drafts(folder / "model-q8_0.gguf", path, load_model(checkpoint), read_tokenizer(tokenizer))
    return None


def _copy(source: Path, target: Path, tokenizer: Path, config: ExportConfig) -> None:
    """A model folder, with the tokenizer of the run, and with how it is sampled where the recipe says so."""
    from model.architecture.checkpoint import GENERATION, write_json
    from model.release.quantized import PREDICTION
    from pipeline.tokens.files import copy_tokenizer

    target.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", GENERATION, "model.safetensors"):
        shutil.copyfile(source / name, target / name)
    if (source / PREDICTION).exists():
        shutil.copyfile(source / PREDICTION, target / PREDICTION)
    if sampled := _sampled(config):
        write_json(target / GENERATION, read_object(target / GENERATION) | sampled)
    copy_tokenizer(tokenizer, target)


def _sampled(config: ExportConfig) -> dict[str, bool | float]:
    """What ``generation_config.json`` says about sampling; transformers has no temperature of 0."""
    if config.temperature == 0:
        return {"do_sample": False}
    told = {"temperature": config.temperature, "top_p": config.top_p}
    found: dict[str, bool | float] = {name: value for name, value in told.items() if value is not None}
    return {"do_sample": True, **found} if found else {}
