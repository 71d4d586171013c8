"""The tokenizer that a GGUF file carries in its metadata."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.errors import UserError
from infra.json_objects import JsonObject
from pipeline.tokens.llama_names import pre_tokenizer_of, way_named
from pipeline.tokens.sentencepiece import Kind, Pieces, Prefix

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["read_gguf_tokenizer"]

IDS = {"bos": "bos_token_id", "eos": "eos_token_id", "pad": "padding_token_id", "unk": "unknown_token_id"}
ABSENT: dict[str, dict[str, int]] = {"gpt2": {}, "llama": {"bos": 1, "eos": 2, "unk": 0}}
"""Numbers of special tokens where a file does not say, by the kind of tokenizer: llama.cpp's."""


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
    if values.get("ggml.model") not in ABSENT:
        raise UserError(
            f"{path}: its tokenizer {values.get('ggml.model')!r} is neither a byte-level BPE nor one of "
            "SentencePiece; others are not read"
        )
    try:
        tokens: list[str] = values["ggml.tokens"]
        if len(set(tokens)) < len(tokens):
            raise UserError(f"{path}: a token is there twice in its vocabulary")
        numbers = _numbers(values)
        ends = [number for number in (numbers.get("eos"), values.get("ggml.eot_token_id")) if number is not None]
        names = {role: tokens[number] for role, number in numbers.items()}
        build = _byte_level if values["ggml.model"] == "gpt2" else _sentencepiece
        return build(path, values, tokens, names), _settings(values, names), {"eos_token_id": ends}
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise UserError(f"{path}: its tokenizer is not whole ({error}); copy it again, or adopt the folder") from None


def _numbers(values: dict[str, Any]) -> dict[str, int]:
    """Numbers of the special tokens by role."""
    stated = {role: values.get(f"ggml.{key}") for role, key in IDS.items()}
    return ABSENT[values["ggml.model"]] | {role: number for role, number in stated.items() if number is not None}


def _sentencepiece(path: Path, values: dict[str, Any], tokens: list[str], names: dict[str, str]) -> Tokenizer:
    pieces = Pieces(tokens, values["ggml.scores"], values["ggml.token_type"])
    prefix = Prefix.EVERY if values.get("ggml.add_space_prefix", True) else Prefix.NEVER
    return pieces.tokenizer(prefix, names["unk"])


def _byte_level(path: Path, values: dict[str, Any], tokens: list[str], names: dict[str, str]) -> Tokenizer:
    from tokenizers import AddedToken, Tokenizer, decoders, models

    way = way_named(values.get("ggml.pre", "default"))
    if way is None:
        raise UserError(f"{path}: its pre-tokenizer {values.get('ggml.pre')!r} is not known; adopt the model's folder")
    types = values.get("ggml.token_type") or [1] * len(tokens)
    merges = [tuple(merge.split(" ", 1)) for merge in values["ggml.merges"]]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    built = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=way.ignore_merges))
    built.pre_tokenizer = pre_tokenizer_of(way)
    built.decoder = decoders.ByteLevel()
    for token, kind in zip(tokens, types, strict=True):
        if kind in (Kind.CONTROL, Kind.USER_DEFINED):
            built.add_tokens([AddedToken(token, special=kind == Kind.CONTROL, normalized=False)])
    return Tokenizer.from_str(json.dumps(json.loads(built.to_str())))


def _settings(values: dict[str, Any], names: dict[str, str]) -> JsonObject:
    settings: JsonObject = {f"{role}_token": name for role, name in names.items()}
    if values.get("chat_template"):
        settings["chat_template"] = values["chat_template"]
    return settings
