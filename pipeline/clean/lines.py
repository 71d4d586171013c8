"""C4's rules about lines and sentences (arXiv 1910.10683, section 2.2), compiled: whole lines go, the rest stays.

The verdict on a document is that of datatrove's `C4QualityFilter`. Unlike there a line that stays keeps its
indentation, and its citations if wished, blank lines between what stays do so too, and what goes is told with the
reason; verbatim text (`pipeline/tasks/verbatim.py`) is not looked at. Unlike there, too, every language's marks and
closing quotes end a sentence, as the paper has it ("or end quotation mark").
"""

from __future__ import annotations

from itertools import accumulate
from typing import NamedTuple

import numpy as np
from datatrove.data import Document
from datatrove.pipeline.filters.base_filter import BaseFilter
from datatrove.pipeline.filters.c4_filters import CITATION_REGEX, POLICY_SUBSTRINGS
from numba import njit

from pipeline.tasks.verbatim import Spans, note_verbatim, outside, places_of, verbatim_of
from pipeline.text.characters import (
    IS_CLOSING,
    IS_DIGIT,
    IS_FULL_STOP,
    IS_LINE_END,
    IS_SPACE,
    IS_STOP,
    IS_TERMINAL,
    characters,
)
from pipeline.text.kernels import COMPLETE, complete, decode, utf8

__all__ = ["CITATION", "Cut", "FastC4Quality", "LinesLeft"]

REASONS = ("", "too_long_word", "no_terminal_punc", "too_few_words", "javascript", "policy")
"""Why a line goes, by number, in datatrove's words and order."""
CITATION = "citation"
"""Why a mark such as [12] goes out of a line that stays."""
LONG_WORD, NO_STOP, FEW_WORDS, JAVASCRIPT, POLICY = range(1, len(REASONS))
OBJECTIONS = ("", "lorem_ipsum", "curly_bracket")
"""Why the whole document goes."""
LOREM_IPSUM, CURLY_BRACKET = 1, 2
PHRASES = ("lorem ipsum", "javascript", *POLICY_SUBSTRINGS)
"""Looked for in a line, in lower case; the first two apart from the others."""
CITATIONS = ("[edit]", "[citation needed]")
"""Not looked at, nor are numbers in square brackets."""
_BYTES = np.frombuffer("".join(PHRASES + CITATIONS).encode(), dtype=np.uint8).copy()
_ENDS = np.cumsum([len(phrase) for phrase in PHRASES + CITATIONS])
_BEGINS = np.zeros(256, dtype=np.bool_)
_BEGINS[[ord(phrase[0]) for phrase in PHRASES]] = True
LONGEST_WORD = 1000
"""Characters; a line with a longer word goes."""


class Cut(NamedTuple):
    """A line that went, with its line end, or a citation."""

    reason: str
    text: str


class LinesLeft(NamedTuple):
    """What the rule makes of a document."""

    objection: str
    """Why the whole document goes; empty where it stays."""
    text: str
    cuts: list[Cut]
    """Lines in their order, then citations; with the characters of `text` theirs are those of the document."""
    held: Spans
    """Where `text` is verbatim."""


@njit(inline="always")
def _measure(text, begin, end, kind):  # type: ignore[no-untyped-def]  # compiled: Numba infers the types
    """Words between white space within `text[begin:end]`, characters of the longest, the line without space around."""
    words = longest = length = 0
    first = last = begin
    i = begin
    while i < end:
        code, after = decode(text, i)
        if kind[code] & IS_SPACE:
            length = 0
        else:
            if length == 0:
                words += 1
            if words == 1 and length == 0:
                first = i
            length += 1
            longest = max(longest, length)
            last = after
        i = after
    return words, longest, first, last


@njit(inline="always")
def _starts(data, i, n, begin, end):  # type: ignore[no-untyped-def]
    """Whether `data[i:n]` starts with that phrase."""
    if i + end - begin > n:
        return False
    k = begin
    while k < end and data[i + k - begin] == _BYTES[k]:
        k += 1
    return k == end


@njit(inline="always")
def _after_citation(text, i, end, kind):  # type: ignore[no-untyped-def]
    """Where `[12]`, `[]`, `[edit]` or `[citation needed]` ends that may begin at byte i; i where none does."""
    for number in range(len(PHRASES), len(_ENDS)):
        if _starts(text, i, end, _ENDS[number - 1], _ENDS[number]):
            return i + _ENDS[number] - _ENDS[number - 1]
    k = i + 1
    while k < end:
        code, after = decode(text, k)
        if code == 0x5D:
            return after
        if kind[code] & IS_DIGIT == 0:
            return i
        k = after
    return i


@njit(inline="always")
def _simplified(text, first, last, line, lower, kind, citations):  # type: ignore[no-untyped-def]
    """The line, perhaps without citations, into `line`, with A to Z in lower case into `lower`; its length."""
    m = 0
    i = first
    while i < last:
        byte = text[i]
        if citations and byte == 0x5B:
            after = _after_citation(text, i, last, kind)
            if after > i:
                i = after
                continue
        line[m] = byte
        lower[m] = byte + 32 if 0x41 <= byte <= 0x5A else byte
        m += 1
        i += 1
    return m


@njit(inline="always")
def _ends_well(line, m, kind):  # type: ignore[no-untyped-def]
    """Whether the last character ends a sentence, and the line not in three full stops."""
    if m == 0:
        return False
    k = m - 1
    while line[k] & 0xC0 == 0x80:
        k -= 1
    code, _ = decode(line, k)
    if code == 0x2E:
        return not (m >= 3 and line[m - 2] == 0x2E and line[m - 3] == 0x2E)
    quote = kind[code] & IS_CLOSING and code not in (0x29, 0x5D)  # brackets close other things than speech
    return quote or kind[code] & IS_TERMINAL or (kind[code] & IS_STOP and code != 0x2026)


@njit(inline="always")
def _phrases(lower, m):  # type: ignore[no-untyped-def]
    """Which of the phrases occur in a line: lorem ipsum, javascript, any of the others; and a curly bracket."""
    lorem = script = policy = curly = False
    for i in range(m):
        byte = lower[i]
        if byte == 0x7B:
            curly = True
        elif _BEGINS[byte]:
            begin = 0
            for number in range(len(PHRASES)):
                end = _ENDS[number]
                if _starts(lower, i, m, begin, end):
                    lorem = lorem or number == 0
                    script = script or number == 1
                    policy = policy or number > 1
                begin = end
    return lorem, script, policy, curly


@njit(inline="always")
def _sentences(line, m, kind):  # type: ignore[no-untyped-def]
    """Sentences of a line as `SENTENCE_END` parts it."""
    count = 0
    before = former = 0  # kind of the character before, and itself
    begin = i = 0
    while i < m:
        code, i = decode(line, i)
        this, what, end = code, kind[code], -1
        if code == 0x20 and 0x0E00 <= former <= 0x0EFF:  # Thai and Lao part sentences by spaces
            k = i
            while k < m and line[k] == 0x20:
                k += 1
            code, _ = decode(line, k)  # a line does not end in a space
            end = k if 0x0E00 <= code <= 0x0EFF else -1
        for mark in (IS_STOP, IS_FULL_STOP):
            if end < 0 and what & mark and before & mark == 0:
                k = i
                closing = False
                while k < m:
                    code, after = decode(line, k)
                    if closing or kind[code] & mark == 0:
                        closing = True
                        if kind[code] & IS_CLOSING == 0:
                            break
                    k = after
                if mark == IS_FULL_STOP or k >= m or kind[code] & IS_SPACE:
                    end = k
        if end >= 0:
            count += 1
            begin = end
            if end > i:
                k = end - 1
                while line[k] & 0xC0 == 0x80:
                    k -= 1
                this, i = decode(line, k)
                what = kind[this]
        before, former = what, this
    return count + (begin < m or count == 0)


@njit(cache=True)
def _judge(text, held, begins, reasons, built, kind, stops, fewest_words, curly_bracket, line_words, citations):  # type: ignore[no-untyped-def]
    """Where each line begins, and the end, into `begins`; the reason for which it goes, or 0, into `reasons`.

    `held` is where the text is verbatim, int64 [S, 2]: lines of it stay.

    Returns the lines, the sentences of those that stay, the objection to the whole, a page to build or COMPLETE.
    """
    n = len(text)
    line, lower = np.empty(n, dtype=np.uint8), np.empty(n, dtype=np.uint8)
    lines = sentences = begin = 0
    pending = 0  # the reason of the last line that went, if nothing that stays has come since
    blank = True  # nothing stands yet, or a blank line
    last = -1  # the last line that stays and is not blank
    kept_end = 0  # where it ends, without its line end
    span = 0  # the first that does not end before the line
    while begin < n:
        i = end = begin
        while i < n:
            code, after = decode(text, i)
            if not built[code >> 8]:
                return 0, 0, 0, code >> 8
            end = i
            i = after
            if kind[code] & IS_LINE_END:
                if code == 0x0D and i < n and text[i] == 0x0A:
                    i += 1
                break
            end = after
        while span < len(held) and held[span, 1] <= begin:
            span += 1
        if span < len(held) and held[span, 0] < i:
            begins[lines], reasons[lines] = begin, 0
            while span + 1 < len(held) and held[span + 1, 0] < i:
                span += 1
            pending, blank, last = 0, False, lines
            kept_end = min(i, max(end, held[span, 1]))  # of a line end in two characters one may be verbatim
            lines += 1
            begin = i
            continue
        words, longest, first, past = _measure(text, begin, end, kind)
        m = _simplified(text, first, past, line, lower, kind, citations) if words else 0
        lorem, script, policy, curly = _phrases(lower, m)
        reason = 0
        if words == 0:
            reason = pending if blank else 0
            blank = blank or reason == 0
        elif longest > LONGEST_WORD:
            reason = LONG_WORD
        elif stops and not _ends_well(line, m, kind):
            reason = NO_STOP
        elif words < fewest_words:
            reason = FEW_WORDS
        elif line_words and lorem:
            return 0, 0, LOREM_IPSUM, COMPLETE
        elif line_words and script:
            reason = JAVASCRIPT
        elif curly_bracket and curly:
            return 0, 0, CURLY_BRACKET, COMPLETE
        elif line_words and policy:
            reason = POLICY
        begins[lines], reasons[lines] = begin, reason
        if reason:
            pending = reason
        elif words:
            sentences += _sentences(line, m, kind)
            pending, blank, last, kept_end = 0, False, lines, end
        lines += 1
        begin = i
    begins[lines] = n
    if pending and last >= 0:  # the line end before the lines that went at the end, and blank lines there, go with them
        begins[last + 1] = kept_end
        for number in range(last + 1, lines):
            reasons[number] = reasons[number] or pending
    return lines, sentences, 0, COMPLETE


class FastC4Quality(BaseFilter):
    """The rule as a filter: `cuts` is what the last document lost."""

    name = "c4 quality"

    def __init__(
        self,
        terminal_punctuation: bool = True,
        min_words_per_line: int = 3,
        min_sentences: int = 5,
        curly_bracket: bool = True,
        line_words: bool = True,
        citations: bool = False,
    ) -> None:
        super().__init__()
        self.terminal_punctuation, self.min_words_per_line = terminal_punctuation, min_words_per_line
        self.min_sentences, self.curly_bracket = min_sentences, curly_bracket
        self.line_words, self.citations = line_words, citations
        self.cuts: list[Cut] = []

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        """Whether the document stays, without the lines that go, or the reason why not."""
        left = self.examine(doc.text, verbatim_of(doc.metadata))
        self.cuts, doc.text = left.cuts, left.text
        note_verbatim(doc.metadata, left.held)
        return (False, left.objection) if left.objection else True

    def examine(self, text: str, held: Spans | None = None) -> LinesLeft:
        """What of a text stays; all of what is `held` does, if the text does."""
        held = held or []
        data, tables = utf8(text), characters()
        places = _in_bytes(text, held)
        begins, reasons = np.empty(len(data) + 1, dtype=np.int64), np.empty(len(data), dtype=np.uint8)
        options = (
            self.terminal_punctuation,
            self.min_words_per_line,
            self.curly_bracket,
            self.line_words,
            self.citations,
        )
        lines, sentences, objection, _ = complete(
            lambda: _judge(data, places, begins, reasons, tables.built, tables.kind, *options)
        )
        if objection:
            return LinesLeft(OBJECTIONS[objection], text, [], held)
        if sentences < max(1, self.min_sentences):  # with none nothing is left
            return LinesLeft("too_few_sentences", text, [], held)
        raw, plain = data.tobytes(), len(data) == len(text)  # in ASCII bytes are characters
        cuts, pieces, done = [], [], 0
        edges, why = begins[: lines + 1].tolist(), reasons[:lines].tolist()
        for number in np.flatnonzero(reasons[:lines]).tolist():
            begin, end = edges[number], edges[number + 1]
            pieces.append(text[done:begin] if plain else _text(raw[done:begin]))
            cuts.append(Cut(REASONS[why[number]], text[begin:end] if plain else _text(raw[begin:end])))
            done = end
        left = "".join(pieces) + (text[done:] if plain else _text(raw[done:]))
        held = places_of(left, [text[slice(*span)] for span in held]) if cuts else held
        if self.citations and "[" in left:
            left, held = outside(left, held, lambda part: self._without_citations(part, cuts))
        return LinesLeft("", left, cuts, held)

    def _without_citations(self, text: str, cuts: list[Cut]) -> str:
        cuts += [Cut(CITATION, mark) for mark in CITATION_REGEX.findall(text)]
        return str(CITATION_REGEX.sub("", text))


def _in_bytes(text: str, spans: Spans) -> np.ndarray:
    """Where spans of characters are in the UTF-8 of the text, int64 [S, 2]."""
    edges = [edge for span in spans for edge in span]
    if not text.isascii():
        sizes = [len(utf8(text[a:b])) for a, b in zip([0, *edges], edges, strict=False)]
        edges = list(accumulate(sizes))
    return np.array(edges, dtype=np.int64).reshape(-1, 2)


def _text(raw: bytes) -> str:
    return raw.decode(errors="surrogatepass")
