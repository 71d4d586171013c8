"""The tokenizer: byte-level BPE trained on the corpus, as a Hugging Face folder.

Pre-tokenization is DeepSeek-LLM's (arXiv 2401.02954, section 2.1; the regular expressions of its published tokenizer,
which llama.cpp knows as `deepseek-llm`): no token crosses a line break or a change of character class, digits stand
alone, CJK is apart. The text is any bytes; nothing is unknown.

The ids of `SPECIAL_TOKENS` come first. `<think>` and `</think>` are ordinary added tokens, so that decoding without
special tokens still shows where the reasoning ends.

Training reads a bounded sample, an equal share of each source (what a small source leaves, the others get), chosen by a
hash of the text, and the reasoning tasks of the training split. BPE counts words, so neither order nor threads matter.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from infra import events
from infra.execution import execution
from pipeline.sections import TokenizerConfig
from pipeline.tokens.adopt import adopt
from pipeline.tokens.chat_template import (
    CHAT_TEMPLATE,
    FIM_TOKENS,
    SPECIAL_TOKENS,
    VISIBLE_TOKENS,
    chat_text,
    write_own_settings,
)
from pipeline.tokens.llama_names import name_of
from pipeline.tokens.metrics import TokenizerMetrics
from pipeline.tokens.own_split import pre_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from pipeline.tokens.tokenizer_sample import Sample

__all__ = [
    "CHAT_TEMPLATE",
    "FIM_TOKENS",
    "SPECIAL_TOKENS",
    "chat_text",
    "pre_tokenizer",
    "tokenizer",
    "train_tokenizer",
]


def tokenizer(config: TokenizerConfig, inputs: Mapping[str, Path], out_dir: Path) -> TokenizerMetrics:
    """Train on `inputs["decontaminate"]` and `inputs["reasoning"]`, or adopt an existing tokenizer.

    Raises:
        UserError: the folder to adopt is no tokenizer; there is nothing to train on.
    """
    from pipeline.tokens.tokenizer_sample import MEASURED, Sample  # datatrove: who only encodes goes without

    # Read by the tokenizers library when its thread pool starts; the result does not depend on the number of threads.
    os.environ["RAYON_NUM_THREADS"] = str(execution().processes)
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    sample = Sample(inputs["decontaminate"], config.train_bytes)
    tasks = inputs["reasoning"] / "train.jsonl"
    events.begin("reading" if config.adopt else "training", sum(sample.shares.values()), "bytes")
    if config.adopt:
        trained = adopt(config, out_dir)
        for text in sample.texts():
            events.advance(len(text))
    else:
        trained = train_tokenizer(config, _texts(sample, tasks))
        if trained.get_vocab_size() < config.vocabulary:
            events.note(f"the text yields {trained.get_vocab_size()} tokens of the {config.vocabulary} asked for")
        trained.save(str(out_dir / "tokenizer.json"))
        write_own_settings(out_dir)
    events.flush()
    measured = {**sample.measured(), "reasoning": "\n".join(islice(_tasks(tasks), 1000))[:MEASURED]}
    return TokenizerMetrics(
        adopted=bool(config.adopt),
        bytes_per_token=_bytes_per_token(trained, measured),
        train_bytes=sample.taken,
        llama_cpp=name_of(trained),
        vocabulary=trained.get_vocab_size(),
    )


def _texts(sample: Sample, tasks: Path) -> Iterator[str]:
    for text in sample.texts():
        yield text
        events.advance(len(text))
    yield from _tasks(tasks)


def train_tokenizer(config: TokenizerConfig, texts: Iterator[str]) -> Tokenizer:
    """A byte-level BPE tokenizer of at most `config.vocabulary` tokens."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    built = Tokenizer(models.BPE())
    built.pre_tokenizer = pre_tokenizer()
    built.decoder = decoders.ByteLevel()
    special_tokens = SPECIAL_TOKENS + (FIM_TOKENS if config.fill_in_middle else ())
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocabulary,
        min_frequency=config.min_frequency,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in special_tokens],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    built.train_from_iterator(texts, trainer)
    # The trainer knows only special tokens; mend the flag of the visible ones in the saved form.
    state = json.loads(built.to_str())
    for token in state["added_tokens"]:
        token["special"] = token["content"] not in VISIBLE_TOKENS
    return Tokenizer.from_str(json.dumps(state))


def _tasks(file: Path) -> Iterator[str]:
    """The training tasks in the chat format without its control tokens."""
    with file.open(encoding="utf-8") as handle:
        for line in handle:
            row = json.loads(line)
            yield "\n".join((row["question"], row["reasoning"], row["answer"]))


def _bytes_per_token(trained: Tokenizer, measured: Mapping[str, str]) -> dict[str, float]:
    """By source."""
    return {
        source: round(len(text.encode()) / len(trained.encode(text, add_special_tokens=False).ids), 4)
        for source, text in measured.items()
        if text
    }
