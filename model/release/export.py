"""The stage `export`: the released model in the formats that other programs read.

Artifact: ``hf/`` (full precision, for transformers and what loads its checkpoints), ``compressed/`` (the served
precision as compressed-tensors, for vLLM and SGLang), ``w8a8/`` and ``llmcompressor/`` (by choice of `quantize`: with
8-bit activations; quantized by that library), ``gguf/`` (full, 8 and 4 bits, for llama.cpp), ``model/`` (what MLflow
registers and serves: one of the quantized models), ``MODEL_CARD.md`` and ``export.json``, which also says what was left
out and why, and how closely llama.cpp agrees. Every GGUF file is read back and compared; llama.cpp itself computes
prompts with the full one, and must find our probabilities and our tokens.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from infra import events
from model.facts.evaluation import read_evaluation
from model.facts.release import (
    EXPORT,
    EngineAgreement,
    ExportFacts,
    ExportMetrics,
    checkpoint_of,
    read_quantization,
    tokenizer_of,
)
from model.sections import ExportConfig

__all__ = ["export"]


def export(config: ExportConfig, inputs: Mapping[str, Path], out_dir: Path) -> ExportMetrics:
    """Write all formats of the models in `model` and `quantize`.

    Raises:
        UserError: an input is no model, or a written file does not read back as it was written.
    """
    from model.architecture.checkpoint import load_config, write_json
    from model.architecture.config import Family
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
    _copy(checkpoint, out_dir / "hf", tokenizer, config)
    _copy(quantized / config.precision.value, out_dir / "model", tokenizer, config)
    left_out: dict[str, str] = {}
    verified: dict[str, EngineAgreement] = {}
    speeds: dict[str, float] = {}
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
        left_out["transformers"] = "it has no class for model_type deepseek; the files are in its layout all the same"
    reason = unsupported(architecture, tokenizer) if config.gguf else "export.gguf is false"
    if reason:
        left_out["gguf"] = reason
        events.note(f"no GGUF files: {reason}")
    else:
        verified["llama.cpp"], speeds = _write_ggufs(config, checkpoint, quantized, tokenizer, out_dir / "gguf")
    files = {
        path.relative_to(out_dir).as_posix(): path.stat().st_size
        for path in sorted(out_dir.rglob("*"))
        if path.suffix in (".gguf", ".safetensors") and ".work" not in path.parts
    }
    facts = ExportFacts(files=files, left_out=left_out, precision=config.precision.value, verified=verified)
    text = card(config, architecture, quantization, evaluation, facts)
    (out_dir / "MODEL_CARD.md").write_text(text, encoding="utf-8")
    write_json(out_dir / EXPORT, facts.model_dump(mode="json"))
    sizes = {
        f"bytes_{kind}": sum(size for name, size in files.items() if name.endswith(kind))
        for kind in ("gguf", "safetensors")
    }
    # a metric, for it moves with the machine: no part of the artifact's bytes
    measured = {f"decode_tokens_per_second_{kind}": round(speed, 1) for kind, speed in speeds.items()}
    return ExportMetrics(precision=config.precision.value, left_out=left_out, **sizes, **measured)


def _write_ggufs(
    config: ExportConfig, checkpoint: Path, quantized: Path, tokenizer: Path, folder: Path
) -> tuple[EngineAgreement, dict[str, float]]:
    """Write and check the files; how closely llama.cpp agrees with the model, and how fast it writes with each."""
    from safetensors.torch import load_file

    from model.architecture.checkpoint import load_model
    from model.release.gguf import Stored, check_gguf, write_gguf
    from model.release.kquants import k_quants
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
    quantized_kinds = [kind for kind in kinds if kind != "f32"]
    speeds = {kind: check_runs(folder / f"model-{kind}.gguf", model, words)[1] for kind in quantized_kinds}
    events.note(f"llama.cpp's log probabilities are within {found.difference:.1e} of ours")
    # the measured figure moves with the number of threads, and an artifact's bytes must not
    agreed = EngineAgreement(log_probabilities_within=TOLERANCE, top1_equal=found.top1, tokens_equal=found.tokens)
    return agreed, speeds


def _copy(source: Path, target: Path, tokenizer: Path, config: ExportConfig) -> None:
    """A model folder, with the tokenizer of the run, and with how it is sampled where the recipe says so."""
    from model.architecture.checkpoint import GENERATION, TOKENIZER_FILES, write_json

    target.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", GENERATION, "model.safetensors"):
        shutil.copyfile(source / name, target / name)
    if sampled := _sampled(config):
        write_json(target / GENERATION, json.loads((target / GENERATION).read_text(encoding="utf-8")) | sampled)
    for name in TOKENIZER_FILES:
        if (tokenizer / name).exists():
            shutil.copyfile(tokenizer / name, target / name)


def _sampled(config: ExportConfig) -> dict[str, bool | float]:
    """What ``generation_config.json`` says about sampling; transformers has no temperature of 0."""
    if config.temperature == 0:
        return {"do_sample": False}
    told = {"temperature": config.temperature, "top_p": config.top_p}
    found: dict[str, bool | float] = {name: value for name, value in told.items() if value is not None}
    return {"do_sample": True, **found} if found else {}
