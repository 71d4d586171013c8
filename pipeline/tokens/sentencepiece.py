"""Tokenizers of SentencePiece's BPE (arXiv 1808.06226), as Llama 2 and Mistral have them.

Blanks are written ``▁``, one stands before a text, pieces may go beyond words, and what is no piece becomes bytes
(``<0xE2>``). SentencePiece and llama.cpp merge the neighbours whose union has the best score, whatever they are;
a ``tokenizer.json`` lists the merges in order. From scores a list follows at once. A list is as good as scores where
the merges of a piece stand together, and where pieces that the list leaves apart never come to lie side by side:
of a piece that is cut into itself they do not, for its own merges would have taken them before; of any other piece
every pair of parts must be in the list. Of merges with one score the leftmost comes first, which a list can say too but
for runs of one character, as of blanks: those are tried.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from itertools import groupby, pairwise
from typing import TYPE_CHECKING

from infra.json_objects import JsonObject

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = [
    "BLANK",
    "BYTES",
    "Kind",
    "Pieces",
    "Prefix",
    "as_llama_cpp",
    "byte_length",
    "inexpressible",
    "is_in_pieces",
    "is_sentencepiece",
    "pair_of",
    "prefix_of",
    "scores_of",
    "without_prefix",
]

BLANK = "▁"
BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))
"""The pieces of single bytes."""
LONGEST_RUN = 64
"""Characters up to which runs of one are compared."""


class Kind(int, Enum):
    """What a piece is, by SentencePiece's numbers, which GGUF files have too."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


class Prefix(Enum):
    """Before which texts a blank is set."""

    EVERY = "every"
    """Any that begins, or stands behind a control token: llama.cpp's, and SentencePiece's where each is a text."""
    UNLESS = "unless"
    """Likewise, but for those that begin with one: the tokenizers library's ``always``."""
    FIRST = "first"
    """The one that everything begins with, unless it begins with one."""
    NEVER = "never"


@dataclass(frozen=True)
class Pieces:
    """A vocabulary with its scores."""

    texts: Sequence[str]
    scores: Sequence[float]
    kinds: Sequence[int]

    def tokenizer(self, prefix: Prefix, unknown: str | None) -> Tokenizer:
        """The tokenizer that cuts text as the scores do.

        Args:
            prefix: before which texts it sets a blank.
            unknown: the piece of what is none.

        Raises:
            ValueError: the scores leave open which of two pieces comes first.
        """
        from tokenizers import AddedToken, Tokenizer, models

        vocabulary = {text: number for number, text in enumerate(self.texts)}
        merges = list(self._merges(vocabulary))
        built = Tokenizer(
            models.BPE(vocab=vocabulary, merges=merges, unk_token=unknown, fuse_unk=True, byte_fallback=True)
        )
        for text, kind in zip(self.texts, self.kinds, strict=True):
            if kind in (Kind.UNKNOWN, Kind.CONTROL, Kind.USER_DEFINED):
                built.add_tokens([AddedToken(text, special=kind != Kind.USER_DEFINED, normalized=False)])
        state: JsonObject = json.loads(built.to_str())
        state["decoder"] = _decoder(strips=prefix is not Prefix.NEVER)
        return Tokenizer.from_str(json.dumps(_with_prefix(state, prefix)))

    def _merges(self, vocabulary: dict[str, int]) -> Iterator[tuple[str, str]]:
        """Every pair of pieces that makes one, the best scores first."""
        pairs = {text: [pair for pair in _pairs(text) if set(pair) <= vocabulary.keys()] for text in vocabulary}
        made = sorted((text for text in vocabulary if pairs[text]), key=lambda text: -self.scores[vocabulary[text]])
        for _, same in groupby(made, key=lambda text: self.scores[vocabulary[text]]):
            group = list(same)
            if not _is_run(group):
                raise ValueError(
                    f"the pieces {group[0]!r} and {group[1]!r} have one score, so that neither comes first"
                )
            yield from sorted((pair for text in group for pair in pairs[text]), key=_leftmost)


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    return ((text[:place], text[place:]) for place in range(1, len(text)))


def _is_run(group: Collection[str]) -> bool:
    """Whether there is one piece alone, or each repeats one character: Llama 2 has runs of blanks with one score."""
    return len(group) == 1 or len(set().union(*group)) == 1


def _leftmost(pair: tuple[str, str]) -> tuple[bool, int]:
    """Sorts merges of one score: of those that overlap the one on the left is to come first.

    Of ``ab|a|ba`` that is (ab, a), whose second part begins its own whole; in a run the one with the longer left part,
    which goes on with what was begun on the left.
    """
    return not "".join(pair).startswith(pair[1]), -len(pair[0])


def _decoder(*, strips: bool) -> JsonObject:
    steps: list[JsonObject] = [
        {"type": "Replace", "pattern": {"String": BLANK}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    strip: JsonObject = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    return {"type": "Sequence", "decoders": [*steps, strip] if strips else steps}


_PREPEND: JsonObject = {"type": "Prepend", "prepend": BLANK}
_REPLACE: JsonObject = {"type": "Replace", "pattern": {"String": " "}, "content": BLANK}
_AS_IT_STANDS = {"normalized": False, "lstrip": False, "rstrip": False, "single_word": False}
"""How llama.cpp finds added tokens."""
_SCHEMES = {Prefix.UNLESS: "always", Prefix.FIRST: "first", Prefix.NEVER: "never"}


def _with_prefix(state: JsonObject, prefix: Prefix) -> JsonObject:
    """`state` that sets blanks so, in the way that transformers writes it."""
    if prefix in (Prefix.EVERY, Prefix.NEVER):
        steps = [_PREPEND, _REPLACE] if prefix is Prefix.EVERY else [_REPLACE]
        return state | {"normalizer": {"type": "Sequence", "normalizers": steps}, "pre_tokenizer": None}
    space = {"type": "Metaspace", "replacement": BLANK, "prepend_scheme": _SCHEMES[prefix], "split": False}
    return state | {"normalizer": None, "pre_tokenizer": space}


def is_sentencepiece(state: JsonObject) -> bool:
    """Whether a ``tokenizer.json`` is a BPE that falls back on bytes."""
    model = state["model"]
    return bool(model.get("type") == "BPE" and model.get("byte_fallback"))


def is_in_pieces(tokenizer: Tokenizer) -> bool:
    """`is_sentencepiece` of a tokenizer, which is not written out for it (0.06 s for 49,152 tokens)."""
    from tokenizers import models

    return isinstance(tokenizer.model, models.BPE) and bool(tokenizer.model.byte_fallback)


def prefix_of(state: JsonObject) -> Prefix | None:
    """Before which texts it sets a blank; None where it makes something else of them too."""
    normalizers, cutters = _steps(state["normalizer"], "normalizers"), _steps(state["pre_tokenizer"], "pretokenizers")
    if not cutters:
        return {2: Prefix.EVERY, 1: Prefix.NEVER}.get(
            len(normalizers) if normalizers in ([_PREPEND, _REPLACE], [_REPLACE]) else 0
        )
    if normalizers or len(cutters) > 1 or cutters[0]["type"] != "Metaspace" or cutters[0]["replacement"] != BLANK:
        return None
    if cutters[0].get("split", True) and any(BLANK in piece[1:] for piece in state["model"]["vocab"]):
        return None  # pieces of several words are never found
    return next((prefix for prefix, scheme in _SCHEMES.items() if scheme == cutters[0]["prepend_scheme"]), None)


def _steps(part: JsonObject | None, key: str) -> list[JsonObject]:
    if part is None:
        return []
    found: list[JsonObject] = part[key] if part["type"] == "Sequence" else [part]
    return found


def as_llama_cpp(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer with a blank where llama.cpp can set one, before every text or before none; itself where that is
    so. Added tokens are found in the text as it is, not as it is made ready for the pieces, and take no blanks beside
    them away."""
    from tokenizers import Tokenizer

    if not is_in_pieces(tokenizer):
        return tokenizer
    state: JsonObject = json.loads(tokenizer.to_str())
    if (prefix := prefix_of(state)) is None:
        return tokenizer
    settled = Prefix.EVERY if prefix in (Prefix.EVERY, Prefix.UNLESS) else Prefix.NEVER
    added = [token | _AS_IT_STANDS for token in state["added_tokens"]]
    changed = _with_prefix(state, settled) | {"added_tokens": added}
    if prefix is settled and added == state["added_tokens"]:
        return tokenizer
    return Tokenizer.from_str(json.dumps(changed))


def without_prefix(state: JsonObject) -> JsonObject:
    """`state` for text that goes on behind other text."""
    prefix = prefix_of(state) if is_sentencepiece(state) else None
    return state if prefix in (None, Prefix.NEVER) else _with_prefix(state, Prefix.NEVER)


def inexpressible(tokenizer: Tokenizer) -> str | None:
    """Why scores cannot say what the tokenizer does, or None where they can."""
    return _inexpressible(tokenizer.to_str())


@lru_cache(maxsize=2)
def _inexpressible(written: str) -> str | None:
    from tokenizers import Tokenizer

    state: JsonObject = json.loads(written)
    model = state["model"]
    if model.get("dropout") or model.get("ignore_merges") or model.get("continuing_subword_prefix"):
        return (
            "llama.cpp knows no dropout, prefixes of subwords or ignore_merges in a tokenizer of SentencePiece's kind"
        )
    if prefix_of(state) not in (Prefix.EVERY, Prefix.NEVER) or any(
        token | _AS_IT_STANDS != token for token in state["added_tokens"]
    ):
        return "llama.cpp makes text ready for SentencePiece's pieces by its blanks alone, and this tokenizer otherwise"
    if lacking := next((byte for byte in BYTES if byte not in model["vocab"]), None):
        return f"llama.cpp wants pieces of all bytes, and {lacking} is missing"
    bare: JsonObject = {"normalizer": None, "pre_tokenizer": None, "post_processor": None, "added_tokens": []}
    alone = Tokenizer.from_str(json.dumps(state | bare))
    return _scattered(model) or _left_apart(model, alone) or _other_runs(model, alone)


def pair_of(merge: str | Sequence[str]) -> tuple[str, str]:
    """The two parts of a merge, in either of the ways that they are written."""
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def _made(model: JsonObject) -> Iterator[tuple[str, str]]:
    return map(pair_of, model["merges"])


def _groups(model: JsonObject) -> list[set[str]]:
    """Pieces in the order of their merges, the best first; those whose merges alternate have one place."""
    made = ["".join(pair) for pair in _made(model)]
    last = {piece: place for place, piece in enumerate(made)}
    found: list[set[str]] = []
    end = -1
    for place, piece in enumerate(made):
        if place > end:
            found.append(set())
        found[-1].add(piece)
        end = max(end, last[piece])
    return found


def _scattered(model: JsonObject) -> str | None:
    odd = next((sorted(group) for group in _groups(model) if not _is_run(group)), None)
    if odd is None:
        return None
    return f"llama.cpp has one score for a piece, and the merges of {odd[0]!r} and {odd[1]!r} alternate"


def _left_apart(model: JsonObject, alone: Tokenizer) -> str | None:
    """A piece that llama.cpp would make of two which the merges leave apart."""
    vocabulary: dict[str, int] = model["vocab"]
    pieces = list(vocabulary)
    cut = alone.encode_batch_fast(pieces, add_special_tokens=False)
    merges: set[tuple[str, str]] | None = None
    for piece, encoding in zip(pieces, cut, strict=True):
        if encoding.ids == [vocabulary[piece]]:
            continue
        merges = merges or set(_made(model))
        for pair in _pairs(piece):
            if pair not in merges and all(part in vocabulary or len(part) == 1 for part in pair):
                return f"llama.cpp would merge {pair[0]!r} and {pair[1]!r}, which this tokenizer leaves apart"
    return None


def _other_runs(model: JsonObject, alone: Tokenizer) -> str | None:
    """A run of one character that llama.cpp would cut otherwise: there the merges of one piece overlap."""
    runs: dict[str, dict[int, int]] = defaultdict(dict)
    for place, group in enumerate(_groups(model)):
        for piece in group:
            if len(set(piece)) == 1:
                runs[piece[0]][len(piece)] = -place
    for character, scores in runs.items():
        for length in range(2, min(2 * max(scores), LONGEST_RUN) + 3):
            if [len(piece) for piece in alone.encode(character * length).tokens] != _cut_run(length, scores):
                return f"llama.cpp would cut a run of {length} {character!r} otherwise"
    return None


def _cut_run(length: int, scores: Mapping[int, int]) -> list[int]:
    """Lengths of the pieces of a run: neighbours are joined, the best score first, on the left where there are two."""
    parts = [1] * length
    while found := [(scores[a + b], -place) for place, (a, b) in enumerate(pairwise(parts)) if a + b in scores]:
        place = -max(found)[1]
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
    return parts


def scores_of(model: JsonObject) -> list[float]:
    """A score for each piece of a ``tokenizer.json``'s BPE, in the order of its merges."""
    scores = {piece: -float(place) for place, group in enumerate(_groups(model), 1) for piece in group}
    return [scores.get(piece, 0.0) for piece, _ in sorted(model["vocab"].items(), key=lambda item: item[1])]


def byte_length(piece: str) -> int:
    """Bytes of text that a piece stands for."""
    return 1 if piece in _SINGLE else len(piece.replace(BLANK, " ").encode())


_SINGLE = frozenset(BYTES)
