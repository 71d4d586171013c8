"""A tokenizer without the tokens that nobody uses; the BPE of bytes or of SentencePiece cuts other texts as before.

Kept are the single bytes, the added tokens (control tokens, ``<think>``), every token that is wanted, and those that
its merges go through. Which they are is found by making it, for vocabularies from elsewhere list several merges for one
token. A text all of whose tokens are kept is cut into the same ones: the merges that made them are all there, in the
same order, and a merge that is gone was never made in it. Any other text is cut finer. Tokens keep their order and are
numbered anew.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import ByteLevel

from infra.errors import UserError
from infra.json_objects import JsonObject
from pipeline.tokens.sentencepiece import BLANK, BYTES, is_sentencepiece, pair_of

__all__ = ["kept_tokens", "new_numbers", "write_trimmed"]

FILE = "tokenizer.json"


def kept_tokens(state: JsonObject, wanted: Collection[int]) -> list[int]:
    """Numbers of the tokens to keep, ascending.

    Args:
        state: of ``tokenizer.json``.
        wanted: numbers of tokens that must stay.

    Raises:
        UserError: the tokenizer is of another kind.
    """
    model = state["model"]
    if not is_sentencepiece(state) and (
        model["type"] != "BPE" or '"ByteLevel"' not in json.dumps(state.get("decoder"))
    ):
        raise UserError(
            "quantize.min_token_count: only the vocabulary of a BPE that knows all bytes can be trimmed; set it to 0"
        )
    numbers: dict[str, int] = model["vocab"]
    names = {number: name for name, number in numbers.items()}
    order = {pair_of(merge): place for place, merge in enumerate(model["merges"])}
    kept = {token["id"] for token in state["added_tokens"]}
    always = (*BYTES, BLANK, model["unk_token"]) if is_sentencepiece(state) else ByteLevel.alphabet()
    kept |= {numbers[piece] for piece in always if piece in numbers}  # some lack bytes that no UTF-8 has
    for number in set(wanted) - kept:
        if number in names:
            kept |= {number, *(numbers[part] for part in _made_of(names[number], order) if part in numbers)}
    return sorted(kept)


def _made_of(piece: str, order: Mapping[tuple[str, str], int]) -> set[str]:
    """The characters of a piece, and all that becomes of them on the way to it: the earliest merge first, on the left
    where there are two."""
    parts = list(piece)
    found = set(parts)
    while merges := [(order[pair], place) for place, pair in enumerate(pairwise(parts)) if pair in order]:
        _, place = min(merges)
        parts[place : place + 2] = ["".join(parts[place : place + 2])]
        found.add(parts[place])
    return found


def new_numbers(kept: Sequence[int]) -> dict[int, int]:
    """New number of each token by its old one."""
    return {old: new for new, old in enumerate(kept)}


def write_trimmed(source: Path, target: Path, kept: Sequence[int], texts: Sequence[str] = ()) -> None:
    """The tokenizer of the folder `source` with `kept` alone.

    Args:
        texts: cut with both, whatever is in them, where all of their tokens are kept.

    Raises:
        UserError: one of them is cut otherwise, as where numbers of tokens stand somewhere unknown.
    """
    target.mkdir(parents=True, exist_ok=True)
    for path in source.iterdir():
        if path.is_file():
            shutil.copyfile(path, target / path.name)
    number_of = new_numbers(kept)
    state = json.loads((source / FILE).read_text(encoding="utf-8"))
    (target / FILE).write_text(json.dumps(_trimmed(state, number_of), ensure_ascii=False), encoding="utf-8")
    settings = target / "tokenizer_config.json"
    if settings.exists():
        found = json.loads(settings.read_text(encoding="utf-8"))
        if "added_tokens_decoder" in found:
            tokens = {int(number): token for number, token in found["added_tokens_decoder"].items()}
            found["added_tokens_decoder"] = {str(number_of[old]): token for old, token in tokens.items()}
            settings.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    _check(source, target, number_of, texts)


def _trimmed(state: JsonObject, number_of: Mapping[int, int]) -> JsonObject:
    found: JsonObject = copy.deepcopy(state)
    model = found["model"]
    vocab = {name: number_of[number] for name, number in model["vocab"].items() if number in number_of}
    model["vocab"] = dict(sorted(vocab.items(), key=lambda item: item[1]))
    merges = (each for each in model["merges"] if "".join(pair_of(each)) in vocab)
    model["merges"] = [each for each in merges if all(part in vocab for part in pair_of(each))]
    for token in found["added_tokens"]:
        token["id"] = number_of[token["id"]]
    _renumber(found.get("post_processor"), number_of)
    return found


def _renumber(processor: Any, number_of: Mapping[int, int]) -> None:
    """Numbers in a template of control tokens, which may be one of several processors."""
    if not isinstance(processor, dict):
        return
    for each in processor.get("processors", ()):
        _renumber(each, number_of)
    if processor.get("type") == "TemplateProcessing":
        for token in processor["special_tokens"].values():
            token["ids"] = [number_of[number] for number in token["ids"]]


def _check(source: Path, target: Path, number_of: Mapping[int, int], texts: Sequence[str]) -> None:
    before, after = (Tokenizer.from_file(str(folder / FILE)) for folder in (source, target))
    for text in ("", *texts):
        old = before.encode(text).ids
        if all(number in number_of for number in old) and after.encode(text).ids != [number_of[each] for each in old]:
            raise UserError(
                f"{source / FILE}: trimmed it cuts {text[:40]!r} otherwise; set quantize.min_token_count to 0, and "
                "report this as a bug"
            )
