"""What `dpo` learns from: prompts with a better and a worse answer, from files or from the model itself.

The model's own pairs are a right and well-formed answer against a wrong one, to the same training question.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra import events
from infra.errors import UserError
from model.architecture.transformer import Transformer
from model.finetune_sections import DpoConfig
from model.generation.generate import Sampling
from model.generation.solve import solve_each
from model.rl.rollout import GENERATION_BATCH
from model.training.epochs import places_of_step
from pipeline.reasoning.chat_records import messages_of
from pipeline.reasoning.problems import read_tasks
from pipeline.reasoning.record_files import keys_of, read_records
from pipeline.tokens.chat import chat_format

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["Pair", "encode_pairs", "find_pairs"]

CHUNK = 32
"""Questions that are asked together."""


@dataclass(frozen=True)
class Pair:
    """A prompt with the better and the worse of two answers, in tokens."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]

    def __len__(self) -> int:
        return 2 * (len(self.prompt) + max(len(self.chosen), len(self.rejected)))


def find_pairs(config: DpoConfig, reasoning: Path, model: Transformer, tokenizer: Tokenizer) -> list[dict[str, str]]:
    """Texts `prompt`, `chosen` and `rejected` of each pair.

    Raises:
        UserError: there are none, or a file holds something else.
    """
    rows = _file_pairs(config) if config.files else _sampled_pairs(config, reasoning, model, tokenizer)
    if not rows:
        raise UserError(
            "dpo: no question got both a right and a wrong answer: there is nothing to prefer; ask more questions, "
            "or give pairs in dpo.files"
        )
    return rows


def encode_pairs(path: Path, tokenizer: Tokenizer) -> list[Pair]:
    """The pairs of a file with one JSON object per line, in tokens."""
    with path.open(encoding="utf-8") as handle:  # `splitlines` would also cut at U+2028, which JSON may hold
        return [_encode(json.loads(line), tokenizer) for line in handle]


def _file_pairs(config: DpoConfig) -> list[dict[str, str]]:
    rows = []
    for name, number, given in read_records(config.files):
        prompt, chosen, rejected = _texts(given) if isinstance(given, Mapping) else ("", "", "")
        if not (prompt and chosen and rejected):
            raise UserError(
                f"{name}: record {number}: not an object with prompt, chosen and rejected, as texts or as the messages "
                f"of one question and its answer{keys_of(given)}; correct it, or leave it out of dpo.files"
            )
        rows.append({"prompt": prompt, "chosen": chosen, "rejected": rejected})
    return rows


def _texts(given: Mapping[str, Any]) -> tuple[str, str, str]:
    """Prompt and answers; the prompt is empty where the answers are not to one."""
    asked, chosen = _asked_and_said(given.get("prompt"), given.get("chosen"))
    also_asked, rejected = _asked_and_said(given.get("prompt"), given.get("rejected"))
    return asked if asked == also_asked else "", chosen, rejected


def _asked_and_said(prompt: Any, answer: Any) -> tuple[str, str]:
    """Question and answer that are texts, or messages: the answer's may begin with the question."""
    if isinstance(prompt, str) and isinstance(answer, str):
        return prompt, answer
    before = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt or []
    if not isinstance(before, list) or not isinstance(answer, list):
        return "", ""
    said = answer if len(answer) > 1 else before + answer
    turns = messages_of({"messages": said})
    if len(said) != 2 or isinstance(turns, str) or [turn["role"] for turn in turns] != ["user", "assistant"]:
        return "", ""
    thought = f"<think>{turns[1]['reasoning']}</think>" if "reasoning" in turns[1] else ""
    return turns[0]["content"], thought + turns[1]["content"]


def _sampled_pairs(
    config: DpoConfig, reasoning: Path, model: Transformer, tokenizer: Tokenizer
) -> list[dict[str, str]]:
    """The first right and the first wrong of the model's own answers to each question that has both."""
    tasks = read_tasks(reasoning / "train.jsonl")
    asked = [tasks[place] for place in places_of_step(0, min(config.questions, len(tasks)), len(tasks), config.seed)]
    sampling = Sampling(config.max_new_tokens, temperature=1.0, seed=config.seed)
    rows = []
    chat = chat_format(tokenizer)
    events.begin("pairs", len(asked), "questions")
    for start in range(0, len(asked), CHUNK):
        chunk, first = asked[start : start + CHUNK], start * config.samples
        groups = solve_each(model, tokenizer, chunk, config.samples, sampling, batch_size=GENERATION_BATCH, first=first)
        for task, mine in zip(chunk, groups, strict=True):
            good = [s for s in mine if s.score == 1 and s.is_well_formed]
            bad = [s for s in mine if s.score < 1]
            if good and bad:
                texts = (chat.said(s.completion.tokens) for s in (good[0], bad[0]))
                rows.append(dict(zip(("prompt", "chosen", "rejected"), (task["question"], *texts), strict=True)))
        events.advance(len(chunk))
    events.flush()
    return rows


def _encode(row: Mapping[str, str], tokenizer: Tokenizer) -> Pair:
    chat = chat_format(tokenizer)
    return Pair(
        chat.question(row["prompt"]),
        [*chat.written(row["chosen"]), chat.eos],
        [*chat.written(row["rejected"]), chat.eos],
    )
