"""Artifacts of the corpus stages and an untrained checkpoint, for the tests of the stages that read them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from model.architecture.checkpoint import load_model, save_model
from model.finetune_sections import LoraConfig
from model.training.lora import adapt
from pipeline.reasoning.stage import reasoning
from pipeline.sections import ReasoningConfig, ReasoningTask, ShardsConfig, TokenizerConfig
from pipeline.tokens.shards import shards
from pipeline.tokens.tokenizer import tokenizer
from tests.model.conftest import tiny_model
from tests.pipeline.corpus import words, write_documents
from tests.shared import made_once

CHECKPOINTS = ("pretrain", "sft", "grpo")
NAMES = ("reasoning", "tokenizer", "shards", *CHECKPOINTS)


def shared_artifacts() -> dict[str, Path]:
    """`reasoning`, `decontaminate`, `tokenizer`, `shards` and three checkpoints of the same shape, by name.

    Every test of the session reads the same files.
    """
    root = made_once("artifacts", _make)
    return {name: root / name for name in (*NAMES, "decontaminate")}


def is_start_with_adapter(made: Path, start: Path, lora: Mapping[str, Any]) -> int:
    """Assert that the model of the artifact `made` is that of `start` with the adapter that lies beside it; how many
    numbers the adapter is."""
    model = load_model(start / "model")
    adapters = adapt(model, LoraConfig.model_validate({**lora, "adapter": (str(made / "adapter"),)}), seed=5)
    found = sum(factor.numel() for factor in adapters.factors().values())
    adapters.merge()
    there, before = load_model(made / "model").state_dict(), load_model(start / "model").state_dict()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(there[name], value, atol=1e-6, rtol=1e-6, msg=name)
    assert any(not torch.equal(there[name], value) for name, value in before.items()), "it has learned something"
    return found


def _make(root: Path) -> None:
    made = {name: root / name for name in NAMES}
    for folder in made.values():
        folder.mkdir(parents=True)
    options = {"min_terms": 2, "max_terms": 2, "max_digits": 1, "operators": ("+",), "allow_parentheses": False}
    tasks = (ReasoningTask(name="basic_arithmetic", options=options),)
    reasoning(ReasoningConfig(tasks=tasks, train=60, validation=16, test=16), {}, made["reasoning"])
    rows = [(f"d{number}", "wiki" if number % 2 else "book", words(number, 80)) for number in range(40)]
    made["decontaminate"] = write_documents(root / "decontaminate", rows)
    tokenizer(TokenizerConfig(vocabulary=300), made, made["tokenizer"])
    shards(ShardsConfig(sequence_length=48, validation_fraction=0.2), made, made["shards"])
    size = Tokenizer.from_file(str(made["tokenizer"] / "tokenizer.json")).get_vocab_size()
    for seed, name in enumerate(CHECKPOINTS):
        model = tiny_model(seed=seed, vocab_size=size, kv_lora_rank=32, moe_intermediate_size=32, v_head_dim=16)
        save_model(model, made[name] / "model", made["tokenizer"])
