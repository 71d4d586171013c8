"""The tokenizer that a GGUF file carries in its metadata."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.errors import UserError
from infra.json_objects import JsonObject
from pipeline.tokens.llama_names import pre_tokenizer_of, way_named

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["read_gguf_tokenizer"]

CONTROL, USER_DEFINED = 3, 4
"""Types of tokens that are found in text before anything else (``llama.h``)."""
IDS = {"bos": "bos_token_id", "eos": "eos_token_id", "pad": "padding_token_id", "unk": "unknown_token_id"}


def read_gguf_tokenizer(path: Path) -> tuple[Tokenizer, JsonObject, JsonObject]:
    """The tokenizer, its settings as in ``tokenizer_config.json``, and where answers end as in
    ``generation_config.json``.

    Raises:
        UserError: no readable file, or a tokenizer of a kind that is not read.
    """
    from gguf import GGUFReader

    try:
        reader = GGUFReader(path)
        values = {
            name.removeprefix("tokenizer."): field.contents()
            for name, field in reader.fields.items()
            if name.startswith("tokenizer.")
        }
    except Exception as error:  # of whatever kind a damaged file makes it
        raise UserError(f"{path}: not a readable GGUF file ({error}); copy it again") from None
    if values.get("ggml.model") != "gpt2":
        raise UserError(f"{path}: its tokenizer {values.get('ggml.model')!r} is no byte-level BPE; others are not read")
    try:
        tokens: list[str] = values["ggml.tokens"]
        ends = [number for role in ("eos", "eot") if (number := values.get(f"ggml.{role}_token_id")) is not None]
        return _tokenizer(path, values, tokens), _settings(values, tokens), {"eos_token_id": ends}
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise UserError(f"{path}: its tokenizer is not whole ({error}); copy it again, or adopt the folder") from None


def _tokenizer(path: Path, values: dict[str, Any], tokens: list[str]) -> Tokenizer:
    from tokenizers import AddedToken, Tokenizer, decoders, models

    way = way_named(values.get("ggml.pre", "default"))
    if way is None:
        raise UserError(f"{path}: its pre-tokenizer {values.get('ggml.pre')!r} is not known; adopt the model's folder")
    types = values.get("ggml.token_type") or [1] * len(tokens)
    merges = [tuple(merge.split(" ", 1)) for merge in values["ggml.merges"]]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    if len(vocabulary) < len(tokens):
        raise UserError(f"{path}: a token is there twice in its vocabulary")
    built = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=way.ignore_merges))
    built.pre_tokenizer = pre_tokenizer_of(way)
    built.decoder = decoders.ByteLevel()
    for token, kind in zip(tokens, types, strict=True):
        if kind in (CONTROL, USER_DEFINED):
            built.add_tokens([AddedToken(token, special=kind == CONTROL, normalized=False)])
    return Tokenizer.from_str(json.dumps(json.loads(built.to_str())))


def _settings(values: dict[str, Any], tokens: list[str]) -> JsonObject:
    numbers = {role: values.get(f"ggml.{key}") for role, key in IDS.items()}
    settings: JsonObject = {f"{role}_token": tokens[number] for role, number in numbers.items() if number is not None}
    if values.get("chat_template"):
        settings["chat_template"] = values["chat_template"]
    return settings
