"""A 4-bit model by llmcompressor, which a user keeps in a separate environment: it pins another transformers than ours.

That Python runs `model.release.compressor_job` on the checkpoint and on our calibration rows, cut into documents, for
it has no mask between them. Its codes and scales are written as they are, in the layout of `model.release.compressed`,
and read back to be judged like every other model. `DEEPMILL_LLMCOMPRESSOR` names the Python; the version is the
recipe's, for another one gives other bytes.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from safetensors.torch import load_file

from infra.errors import UserError
from infra.json_objects import read_object
from model.architecture.checkpoint import load_config
from model.architecture.config import Family
from model.architecture.transformer import Transformer
from model.release.compressed import groups, linear_bits, unquantized, write_folder
from model.release.quantized import Plan
from model.release.rows import CalibrationBatch

__all__ = ["PYTHON", "check_compressor", "write_llmcompressor"]

PYTHON = "DEEPMILL_LLMCOMPRESSOR"
"""Environment variable with the path of the Python that has llmcompressor."""
JOB = Path(__file__).with_name("compressor_job.py")
LATENT = ("re:.*kv_b_proj$",)
"""Not quantized, as in our own checkpoints: engines take it apart."""


def check_compressor(version: str, checkpoint: Path) -> str:
    """The Python that has llmcompressor `version`.

    Raises:
        UserError: none is named, it has none or another version, or that library has no class for this architecture.
    """
    if load_config(checkpoint).model_type is Family.DEEPSEEK:
        raise UserError(
            f"quantize.llmcompressor: transformers has no class for model_type {Family.DEEPSEEK.value}; leave it empty"
        )
    how = f"python -m venv FOLDER, FOLDER/bin/pip install llmcompressor=={version}, {PYTHON}=FOLDER/bin/python"
    python = os.environ.get(PYTHON, "")
    if not python:
        raise UserError(f"quantize.llmcompressor: {PYTHON} names no Python that has it; {how}")
    if shutil.which(python) is None:
        raise UserError(f"{PYTHON}={python}: no such program; {how}")
    asked = subprocess.run([python, "-I", str(JOB), "version"], capture_output=True, text=True, check=False)
    found = asked.stdout.strip()
    if asked.returncode or not found:
        told = asked.stderr.strip().splitlines() or ["no reason given"]
        raise UserError(f"{PYTHON}={python}: llmcompressor is not there ({told[-1]}); {how}")
    if found != version:
        raise UserError(
            f"{PYTHON}={python}: it has llmcompressor {found}, the recipe asks for {version}; install that one or set "
            f"quantize.llmcompressor={found}"
        )
    return python


def write_llmcompressor(
    python: str,
    model: Transformer,
    plan: Plan,
    calibration: Sequence[CalibrationBatch],
    checkpoint: Path,
    folder: Path,
    work: Path,
    *,
    damping: float,
    threads: int,
) -> None:
    """Have `python` quantize the model of `checkpoint`, and write what it made to `folder`.

    Args:
        plan: which matrices get 4 and which 8 bits, as far as the format goes: embedding, head and the key-value
            expansion of latent attention stay in 16.
        work: a folder for files on the way.

    Raises:
        UserError: it fails; its own last words are told, and where the rest is.
    """
    work.mkdir(parents=True, exist_ok=True)
    job = {
        "checkpoint": str(checkpoint),
        "config_groups": groups(linear_bits(model, plan)),
        "damping": damping,
        "documents": list(documents(calibration)),
        "ignore": ["lm_head", *LATENT],
        "out": str(work / "out"),
        "threads": threads,
    }
    (work / "job.json").write_text(json.dumps(job), encoding="utf-8")
    with (work / "log").open("w+") as log:
        quiet = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HOME": str(work / "hf")}
        command = [python, "-I", str(JOB), str(work / "job.json")]
        done = subprocess.run(command, env=os.environ | quiet, stdout=log, stderr=subprocess.STDOUT, check=False)
        if done.returncode:
            raise UserError(f"quantize.llmcompressor: {python} failed ({_last(log)}); {work / 'log'} has the rest")
    settings = read_object(checkpoint / "config.json")
    theirs = read_object(work / "out" / "config.json")["quantization_config"]
    stored = load_file(work / "out" / "model.safetensors")
    tensors = {
        name: tensor if not tensor.is_floating_point() else unquantized(name, tensor) for name, tensor in stored.items()
    }
    write_folder(folder, tensors, settings, theirs, checkpoint)


def documents(batches: Sequence[CalibrationBatch]) -> Iterator[list[int]]:
    """The tokens of every document, or part of one, in the rows; without padding."""
    for batch in batches:
        for tokens_T, documents_T, valid_T in zip(batch.tokens_BT, batch.documents_BT, batch.valid_BT, strict=True):
            for number in documents_T[valid_T].unique():
                yield tokens_T[valid_T & (documents_T == number)].tolist()


def _last(log: IO[str]) -> str:
    log.seek(0)
    lines = [line.strip() for line in log if line.strip()]
    return lines[-1][:300] if lines else "no reason given"
