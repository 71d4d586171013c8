"""A stranger's path from a folder of text to a model that chats: the commands of the tutorial, as they stand there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.flows.tiny import HOUSE, deepmill, environment

TUTORIAL = HOUSE / "docs/tutorials/own-text.md"
SMALL = {
    "tokenizer.vocabulary": 600,
    "reasoning.train": 40,
    "reasoning.validation": 8,
    "reasoning.test": 8,
    "pretrain.steps": 2,
    "pretrain.warmup_steps": 1,
    "pretrain.validation_sequences": 2,
    "pretrain.model.hidden_size": 64,
    "pretrain.model.num_hidden_layers": 2,
    "pretrain.model.n_routed_experts": 2,
    "pretrain.model.kv_lora_rank": 16,
    "pretrain.model.moe_intermediate_size": 32,
    "pretrain.model.intermediate_size": 64,
    "sft.steps": 2,
    "sft.warmup_steps": 1,
    "sft.accuracy_tasks": 4,
    "sft.validation_sequences": 2,
    "sft.max_new_tokens": 8,
    "grpo": "null",
    "evaluate.problems": 4,
    "evaluate.sequences": 2,
    "evaluate.max_new_tokens": 8,
    "quantize.calibration_sequences": 4,
    "quantize.evaluation_sequences": 2,
    "quantize.accuracy_problems": 2,
    "quantize.max_new_tokens": 8,
    "promote": "{min_accuracy: 0, max_forgetting: 100, max_quantization_kl: 10}",
}
"""What makes an hour a minute; the model learns nothing. `tests.flows.test_mill` reinforces one."""


def _commands() -> list[list[str]]:
    """Of the tutorial's code blocks, without remarks."""
    blocks = re.findall(r"```\n(.*?)```", TUTORIAL.read_text(encoding="utf-8"), re.DOTALL)
    lines = (line.partition(" #")[0].strip() for block in blocks for line in block.splitlines())
    return [[part.strip('"') for part in re.findall(r'"[^"]*"|\S+', line)][1:] for line in lines if line]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("on_prefect")
def test_the_tutorials_commands(tmp_path: Path) -> None:
    (tmp_path / "my-text").mkdir()
    for page in sorted((HOUSE / "docs").glob("*.md")):
        if page.stat().st_size < 20_000:
            shutil.copy(page, tmp_path / "my-text")
    said: dict[str, str] = {}
    settings = [part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")]
    for command, *rest in _commands():
        if command != "serve":  # which does not end; tests/flows/serving has it
            more = settings if command in ("plan", "run") else []
            said[command] = deepmill(tmp_path, command, *rest, *more)
    assert list(said) == ["new", "plan", "run", "report", "chat"]
    assert "my-text.yaml is written" in said["new"]
    assert "first time" in said["plan"]
    assert "my-text" in said["run"]
    assert "champion" in said["run"]
    assert said["chat"].strip()
    shown = subprocess.run(
        [sys.executable, str(HOUSE / "examples/predict.py"), "deepmill-my-text@champion"],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert shown.returncode == 0, shown.stderr
