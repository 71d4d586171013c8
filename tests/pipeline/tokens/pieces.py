"""A small vocabulary of SentencePiece's kind."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from infra.json_objects import JsonObject
from pipeline.tokens.chat_template import write_settings
from pipeline.tokens.llama_names import PROBE
from pipeline.tokens.sentencepiece import BLANK, BYTES, Kind, Pieces, Prefix

NAMES = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
TEXTS = (
    PROBE,
    "Calculate 4 + 8 + 4. The answer is twelve and the user asks again.\n" * 4,
    "def f(x):\n        return {**x, 'y': [1, 2]}\n\n\n" * 4,
    "café naïve 我想在 Привет мир the then there their   four     five\n" * 4,
    "aaaaaaaa aaaa aaa abababab   ▁▁▁  " * 4,
)
LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set system = '<<SYS>>\n' + messages[0]['content'] + '\n<</SYS>>\n\n' %}"
    "{% set messages = messages[1:] %}{% else %}{% set system = '' %}{% endif %}"
    "{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + (system if loop.first else '') + message['content'] | trim + ' [/INST]' }}"
    "{% else %}{{ ' ' + message['content'] | trim + ' ' + eos_token }}{% endif %}{% endfor %}"
)
"""Llama 2's, in short: an answer stands behind text."""
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'assistant' %}"
    "{{ message['content'] + eos_token }}{% else %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% endif %}"
    "{% endfor %}"
)
ZEPHYR = (
    "{% for message in messages %}\n{{ '<|' + message['role'] + '|>\n' + message['content'] + eos_token }}\n"
    "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}"
)
"""TinyLlama's and Zephyr's, whose marks of roles are text."""


@cache
def learned(size: int = 320) -> tuple[JsonObject, tuple[str, ...]]:
    """A trained BPE, and its pieces in the order in which they were learned."""
    built = Tokenizer(models.BPE())
    # blanks run on, so that pieces of several of them are learned
    built.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(" ", "merged_with_next"), pre_tokenizers.Metaspace(BLANK, "never", False)]
    )
    trainer = trainers.BpeTrainer(vocab_size=size, limit_alphabet=90, max_token_length=12, show_progress=False)
    built.train_from_iterator(TEXTS, trainer)
    model = json.loads(built.to_str())["model"]
    return model, tuple(sorted(model["vocab"], key=model["vocab"].__getitem__))


def pieces() -> Pieces:
    """The whole vocabulary: control tokens, bytes, and what was learned, as in Llama 2."""
    words = learned()[1]
    kinds = [Kind.UNKNOWN, Kind.CONTROL, Kind.CONTROL, *[Kind.BYTE] * 256, *[Kind.NORMAL] * len(words)]
    scores = [*[0.0] * 259, *(-float(place) for place in range(len(words)))]
    return Pieces((*("<unk>", "<s>", "</s>"), *BYTES, *words), scores, kinds)


def save_pieces(folder: Path, prefix: Prefix = Prefix.EVERY, template: str | None = LLAMA2) -> Path:
    """A folder with it, as published ones are."""
    folder.mkdir(parents=True, exist_ok=True)
    pieces().tokenizer(prefix, "<unk>").save(str(folder / "tokenizer.json"))
    told = {"chat_template": template} if template else {}
    write_settings(folder, {**NAMES, **told, "tokenizer_class": "LlamaTokenizer", "add_bos_token": True})
    return folder
