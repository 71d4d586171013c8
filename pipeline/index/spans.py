"""The longest spans of a text that stand, character for character, in the training tokens, and in which documents.

A span begins and ends at words. From the start of each word the longest run that is found anywhere is taken; what lies
inside a longer one is left out (OLMoTrace, arXiv 2504.07096, section 3). Tokens depend on what stands before them, so
the first word is looked up by itself, once with a space before it and once without; those after it have the tokens that
they have in the text. What is shown stands there verbatim, for equal tokens are equal bytes. What may be missed is a
mark at the end of a span that the text joins with others ("end.)" for "end."). Where a script has no spaces, a run of
tokens is carried on by the characters around it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from operator import itemgetter
from pathlib import Path
from typing import TypeVar

import numpy as np
import regex

from infra.errors import UserError
from pipeline.index.ends import carried_on
from pipeline.index.search import Patterns, Piece, open_pieces
from pipeline.tokens.encoder import Encoder
from pipeline.tokens.names import DocumentName, DocumentNames, card_of

Answer = TypeVar("Answer")

__all__ = ["MOST_CHARACTERS", "SourceName", "Sources", "Span"]

MOST_CHARACTERS = 50_000
"""Of a text: what stands in one document as a whole takes time by the square of its length."""
LOOKED_AT = 1000
"""Places of a span that are looked at for different documents."""
TRIED = 4
"""Words looked up together of those whose runs may reach the same word."""
SEARCHED_AT_ONCE = 8
"""Pieces."""
CARRIED_AT = 100
"""Places of a run that are looked at for characters by which it goes on."""
CARRIED_WORDS = 3
"""By so many words a run may be too short that is to be carried on."""
NEAR = 4
"""Characters from its end in which one of a script without spaces lets a run be carried on."""
EAST_ASIAN = r"\p{Han}\p{Hiragana}\p{Katakana}"
WORD = regex.compile(rf"(?V1)[{EAST_ASIAN}]|[\w--[_{EAST_ASIAN}]]+(?:['’][\w--[_{EAST_ASIAN}]]+)*")
"""One character of a script without spaces, or letters and digits; underscores are marks, as tokenizers have them."""
UNSPACED = regex.compile(f"[{EAST_ASIAN}]")


class SourceName(DocumentName):
    """Of one document, with what is stated of its source."""

    licence: str
    """Empty where none is stated."""


@dataclass(frozen=True)
class Span:
    """A piece of the text that stands in training documents."""

    begin: int
    end: int
    """Characters of the text."""
    text: str
    words: int
    places: int
    """Where it stands in the training tokens, all documents together; of one that characters carried on, as many as
    were looked at."""
    documents: tuple[SourceName, ...]
    """Different ones, as many as were asked for."""


@dataclass
class _Found:
    """A span, and where it stands."""

    begin: int
    end: int
    places: int = 0
    documents: dict[int, None] = field(default_factory=dict)
    """By their index, as they were found."""


@dataclass(frozen=True)
class _Starts:
    """The words of a text that a span may begin with, each as one or two patterns."""

    text: str
    words: list[tuple[int, int]]
    word_of: np.ndarray
    """The word of each pattern."""
    patterns: Patterns
    ends: np.ndarray
    """For each token of the text, up to which character the text is complete with it."""

    def end(self, pattern: int, tokens: int) -> int:
        """Up to which character of the text the pattern's first tokens reach; its beginning if within the head."""
        inside = tokens - int(self.patterns.head_lengths[pattern])
        last = int(self.patterns.tails[pattern]) + inside - 1
        if inside < 0 or last < 0:
            return self.words[self.word_of[pattern]][0]
        return int(self.ends[last])

    @property
    def behind(self) -> Patterns:
        """What follows each word, in the tokens of the text."""
        tails = np.zeros(len(self.words), np.int64)
        tails[self.word_of] = self.patterns.tails
        zeros = np.zeros(len(tails), np.int64)
        return replace(
            self.patterns, begins=zeros, head_lengths=zeros, tails=tails, lengths=len(self.patterns.text) - tails
        )

    def last_words(self, longest: np.ndarray) -> np.ndarray:
        """For each word, the last one that its run can reach where so many tokens behind it are found together."""
        reached = np.append(0, self.ends)[self.behind.tails + longest]
        last = np.searchsorted([end for _, end in self.words], reached, side="right") - 1
        return np.maximum(last, np.arange(len(self.words)))

    def count(self, begin: int, end: int) -> int:
        """Words that are whole between two characters."""
        return self.last_word(end) - self.first_word(begin) + 1

    def is_open(self, begin: int, end: int) -> bool:
        """Whether a run may go on at either end, for letters without spaces are near."""
        return bool(UNSPACED.search(self.text[max(0, begin - NEAR) : begin] + self.text[end : end + NEAR]))

    def first_word(self, begin: int) -> int:
        """The first word that begins no sooner than a character."""
        return bisect_left(self.words, begin, key=itemgetter(0))

    def last_word(self, end: int) -> int:
        """The last word that is whole before a character."""
        return bisect_right(self.words, end, key=itemgetter(1)) - 1

    def tokens(self, pattern: int, end: int) -> int:
        """The fewest of the pattern's tokens that reach character `end`."""
        tail = int(self.patterns.tails[pattern])
        more = int(np.searchsorted(self.ends[tail:], end)) + 1 if not tail or self.ends[tail - 1] < end else 0
        return int(self.patterns.head_lengths[pattern]) + more


class Sources:
    """Finds texts in the documents of token shards.

    Args:
        index: folder or address of an `index` artifact; what a search looks at is mapped, or fetched by ranges.
        shards: folder or address of the shards that it was made of; only their index of documents is read.
        tokenizer: of theirs.
        licences: that are stated, by source.

    Raises:
        UserError: a folder is not what it should be, or damaged.
    """

    def __init__(
        self, index: Path | str, shards: Path | str, tokenizer: Path, licences: Mapping[str, str] | None = None
    ) -> None:
        self.licences = licences or {}
        self.card, self.pieces = open_pieces(str(index))
        self.encoder = Encoder(tokenizer, plain=True)
        self.names = DocumentNames(str(shards), card_of(str(shards)).documents.files)

    def find(self, text: str, *, min_words: int = 5, documents: int = 5) -> list[Span]:
        """The spans of at least `min_words` words, in the order of the text, each with some documents.

        Raises:
            UserError: the text is too short or too long, or no text.
        """
        starts = self._starts(_checked(text, min_words))
        least = max(1, min_words - CARRIED_WORDS) if UNSPACED.search(text) else min_words
        runs = [run for run in self._maximal(starts, least) if starts.count(*run) >= min_words or starts.is_open(*run)]
        spans = self._found(starts, runs, documents) if runs else []
        return [
            Span(
                begin=span.begin,
                end=span.end,
                text=text[span.begin : span.end],
                words=starts.count(span.begin, span.end),
                places=span.places,
                documents=tuple(self._named(index) for index in span.documents),
            )
            for span in spans
            if starts.count(span.begin, span.end) >= min_words
        ]

    def _named(self, index: int) -> SourceName:
        """A document; what was set apart from a source has the licence of that one, which its id begins with."""
        named = self.names[index]
        first = named["id"].partition("/")[0]
        licence = self.licences.get(named["source"]) or self.licences.get(first, "")
        return {**named, "licence": licence}

    def _starts(self, text: str) -> _Starts:
        encoding = self.encoder.tokenizer.encode(text, add_special_tokens=False)
        offsets = np.asarray(encoding.offsets, dtype=np.int64).reshape(-1, 2)
        words = [match.span() for match in WORD.finditer(text)]
        # Some tokenizers leave the space before a word out of its offsets. Of the tokens of one character each has the
        # offsets of the whole, and only the last completes it.
        begins = np.minimum(offsets[:, 0], np.append(0, offsets[:-1, 1]))
        ends = np.minimum(offsets[:, 1], np.append(begins[1:], len(text)))
        tails = np.searchsorted(begins, [end for _, end in words])
        borders = np.append(begins, len(text))[tails].tolist()
        firsts = [text[begin:border] for (begin, _), border in zip(words, borders, strict=True)]
        known = dict.fromkeys(firsts)
        heads = dict(zip(known, map(self._heads, known), strict=True))
        each = [(word, head) for word, first in enumerate(firsts) for head in heads[first]]
        lengths = np.asarray([len(head) for _, head in each], dtype=np.int64)
        word_of = np.asarray([word for word, _ in each], dtype=np.int64)
        patterns = Patterns(
            heads=np.asarray([token for _, head in each for token in head], dtype=np.int64),
            begins=np.cumsum(lengths) - lengths,
            head_lengths=lengths,
            text=np.asarray(encoding.ids, dtype=np.int64),
            tails=tails[word_of],
            lengths=lengths + len(offsets) - tails[word_of],
        )
        return _Starts(text, words, word_of, patterns, ends)

    def _heads(self, first: str) -> list[list[int]]:
        """The tokens of a first word, alone and after a space."""
        alone, spaced = (self.encoder.inside(each) for each in (first, f" {first}"))
        return [alone] if spaced[-len(alone) :] == alone else [alone, spaced]  # found with the shorter one too

    def _maximal(self, starts: _Starts, min_words: int) -> Iterator[tuple[int, int]]:
        """Beginning and end of the spans that lie in no longer one."""
        before = -1
        for word, last in enumerate(self._last_words(starts, min_words)):
            if last >= word and last > before:
                before = last
                if last - word + 1 >= min_words:
                    yield starts.words[word][0], starts.words[last][1]

    def _last_words(self, starts: _Starts, min_words: int) -> list[int]:
        """The last word of the longest run from each word on; -1 where that is no span, or would lie in another one.

        How far the tokens behind a word are found together bounds its run. These bounds never fall from a word to the
        next, so of the words with the same bound only those up to the first that reaches it are looked up.
        """
        found = [-1] * len(starts.words)
        left: dict[int, list[int]] = {}
        for word, bound in enumerate(starts.last_words(self._longest(starts.behind)).tolist()):
            if bound - word + 1 >= min_words:
                left.setdefault(bound, []).append(word)
        while left:
            asked = [word for words in left.values() for word in words[:TRIED]]
            patterns = np.flatnonzero(np.isin(starts.word_of, asked)).tolist()
            longest = self._longest(starts.patterns.cut(patterns, starts.patterns.lengths[patterns].tolist()))
            for pattern, length in zip(patterns, longest.tolist(), strict=True):
                word = int(starts.word_of[pattern])
                found[word] = max(found[word], starts.last_word(starts.end(pattern, length)))
            left = {
                bound: words[TRIED:]
                for bound, words in left.items()
                if words[TRIED:] and max(found[word] for word in words[:TRIED]) < bound
            }
        return found

    def _longest(self, patterns: Patterns) -> np.ndarray:
        """How many of each pattern's first tokens stand together somewhere."""
        return np.maximum.reduce(self._each(lambda piece: piece.longest(patterns)), initial=0)

    def _each(self, ask: Callable[[Piece], Answer]) -> list[Answer]:
        """What every piece has to say, several at once: each waits for its own pages, or for an object store."""
        with ThreadPoolExecutor(max(1, min(len(self.pieces), SEARCHED_AT_ONCE))) as threads:
            return list(threads.map(ask, self.pieces))

    def _found(self, starts: _Starts, runs: Sequence[tuple[int, int]], most: int) -> list[_Found]:
        """The spans that runs of equal tokens are, or are carried on to, in the order of the text; none lies in
        another."""
        chosen = [
            (number, pattern, starts.tokens(pattern, end))
            for number, (begin, end) in enumerate(runs)
            for pattern in np.flatnonzero(starts.word_of == starts.first_word(begin)).tolist()
        ]
        cut = starts.patterns.cut([pattern for _, pattern, _ in chosen], [length for *_, length in chosen])
        found = {run: _Found(*run) for run in runs}
        further: dict[tuple[int, int], _Found] = {}
        ranges = self._each(lambda piece: piece.ranges(cut))
        for piece, (lows, highs) in zip(self.pieces, ranges, strict=True):
            for (number, pattern, length), low, high in zip(chosen, lows.tolist(), highs.tolist(), strict=True):
                run = runs[number]
                found[run].places += high - low
                _add_documents(piece, low, min(high, low + LOOKED_AT), found[run].documents, most)
                if starts.is_open(*run):
                    places = piece.places(low, min(high, low + CARRIED_AT))
                    for begin, end, index in self._carried(starts, piece, places, pattern, length):
                        span = further.setdefault((begin, end), _Found(begin, end))
                        span.places += 1
                        if len(span.documents) < most:
                            span.documents[index] = None
        return _outermost([*found.values(), *(span for key, span in further.items() if key not in found)])

    def _carried(
        self, starts: _Starts, piece: Piece, places: np.ndarray, pattern: int, length: int
    ) -> Iterator[tuple[int, int, int]]:
        """Words and document to which the text agrees with what stands around some places of a run."""
        begin, end = starts.words[starts.word_of[pattern]][0], starts.end(pattern, length)
        for place, index in zip(places.tolist(), piece.documents_at(places).tolist(), strict=True):
            run = range(place, place + length)
            first, last = carried_on(self.encoder.tokenizer.decode, piece, self.card.eos, run, starts.text, begin, end)
            yield starts.words[starts.first_word(first)][0], starts.words[starts.last_word(last)][1], index


def _outermost(spans: Sequence[_Found]) -> list[_Found]:
    """Those that lie in no other one, in the order of the text."""
    kept: list[_Found] = []
    for span in sorted(spans, key=lambda span: (span.begin, -span.end)):
        if not kept or span.end > kept[-1].end:
            kept.append(span)
    return kept


def _add_documents(piece: Piece, low: int, high: int, found: dict[int, None], most: int) -> None:
    """Add the documents of some suffixes, in their order, up to `most`."""
    step = most
    while low < high and len(found) < most:
        for document in piece.documents_at(piece.places(low, min(high, low + step))).tolist():
            if len(found) < most:
                found[document] = None
        low, step = low + step, 4 * step  # a file of many copies


def _checked(text: str, min_words: int) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"the text: character {error.start} is none that UTF-8 can hold; give it as UTF-8") from None
    words = sum(1 for _ in WORD.finditer(text[:MOST_CHARACTERS]))
    if words < min_words:
        raise UserError(f"the text has {words} words, and spans of at least {min_words} are sought; give a longer one")
    if len(text) > MOST_CHARACTERS:
        raise UserError(f"the text has {len(text)} characters, {MOST_CHARACTERS} is the most; give it in parts")
    return text
