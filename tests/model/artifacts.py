"""Artifacts of the corpus stages and an untrained checkpoint, for the tests of the stages that read them."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer

from model.architecture.checkpoint import save_model
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
