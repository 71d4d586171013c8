"""A stranger's path from a folder of text to a model that chats: the commands of the tutorial, as they stand there."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.flows.tiny import HOUSE, deepmill

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
CORPUS = {key: value for key, value in SMALL.items() if key.startswith(("tokenizer", "reasoning"))} | dict.fromkeys(
    ("pretrain", "sft", "grpo", "evaluate", "quantize", "export"), "null"
)
"""By day: of the text alone. `tests.flows.test_mill` trains, registers and chats."""


def _commands() -> list[list[str]]:
    """Of the tutorial's code blocks, without remarks."""
    blocks = re.findall(r"```\n(.*?)```", TUTORIAL.read_text(encoding="utf-8"), re.DOTALL)
    lines = (line.partition(" #")[0].strip() for block in blocks for line in block.splitlines())
    return [[part.strip('"') for part in re.findall(r'"[^"]*"|\S+', line)][1:] for line in lines if line]


def _say(root: Path, changes: dict[str, object]) -> dict[str, str]:
    """What the tutorial's commands print, by command, with pages of the project's own as the text."""
    (root / "my-text").mkdir()
    for page in sorted((HOUSE / "docs").glob("*.md")):
        if page.stat().st_size < 20_000:
            shutil.copy(page, root / "my-text")
    said: dict[str, str] = {}
    settings = [part for key, value in changes.items() for part in ("--set", f"{key}={value}")]
    for command, *rest in _commands():
        if command == "chat" and changes is CORPUS:  # with what?
            continue
        if command != "serve":  # which does not end; tests/flows/serving has it
            more = settings if command in ("plan", "run") else []
            said[command] = deepmill(root, command, *rest, *more)
    assert "my-text.yaml is written" in said["new"]
    assert "first time" in said["plan"]
    assert "my-text" in said["run"]
    return said


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("on_prefect")
def test_the_tutorials_commands_on_the_text(tmp_path: Path) -> None:
    said = _say(tmp_path, CORPUS)
    assert list(said) == ["new", "plan", "run", "report"]
    assert "completed" in said["run"]
    assert Path("".join(said["report"].split())).is_file()


@pytest.mark.nightly
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("on_prefect")
def test_the_tutorials_commands(tmp_path: Path) -> None:
    said = _say(tmp_path, SMALL)
    assert list(said) == ["new", "plan", "run", "report", "chat"]
    assert "champion" in said["run"]
    assert said["chat"].strip()
