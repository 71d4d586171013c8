"""What the benches of fine-tuning on a GPU train on: sums of two digits."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["write_problems"]


def write_problems(folder: Path) -> Tokenizer:
    """Sums of two digits in the splits of a `reasoning` artifact, and a tokenizer that knows them; returns it."""
    from pipeline.reasoning.problems import Problem, write_tasks
    from pipeline.sections import TokenizerConfig
    from pipeline.tokens.tokenizer import chat_text, train_tokenizer

    pairs = [(a, b) for a in range(10) for b in range(10)]
    random.Random(0).shuffle(pairs)
    rows: list[Problem] = [
        {
            "id": f"sum-{a}-{b}",
            "task": "chain_sum",
            "question": f"What is {a} + {b}?",
            "reasoning": f"{a} and {b} make {a + b}.",
            "answer": str(a + b),
            "metadata": {},
        }
        for a, b in pairs
    ]
    (folder / "reasoning").mkdir()
    (folder / "tokenizer").mkdir()
    for name, part in (("train", rows[:68]), ("validation", rows[68:]), ("test", rows[68:])):
        write_tasks(folder / "reasoning" / f"{name}.jsonl", part)
    texts = [chat_text(each["question"], each["reasoning"], each["answer"]) for each in rows]
    trained = train_tokenizer(TokenizerConfig(vocabulary=320), iter(texts))
    trained.save(str(folder / "tokenizer" / "tokenizer.json"))
    roles = {"bos_token": "<|bos|>", "eos_token": "<|eos|>", "pad_token": "<|pad|>"}
    (folder / "tokenizer" / "tokenizer_config.json").write_text(json.dumps(roles))
    return trained
