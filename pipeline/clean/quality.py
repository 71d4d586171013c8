"""Gopher's and FineWeb's rules about a document's words and lines, asked of one survey of the text.

Decisions, reasons and their order are datatrove's, with two exceptions that spare text: a line whose punctuation stands
before a closing quote or bracket ends with punctuation, and blank lines between paragraphs are no further line breaks
(FineWeb's thresholds come from text with one break between paragraphs).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from datatrove.data import Document
from datatrove.pipeline.filters.fineweb_quality_filter import FineWebQualityFilter
from datatrove.pipeline.filters.gopher_quality_filter import STOP_WORDS, GopherQualityFilter

from pipeline.clean.survey import Survey, survey
from pipeline.text.words import WORDS

__all__ = ["FastFineWebQuality", "FastGopherQuality", "repeats"]


def scaled(words: int, found: Survey, scale: float) -> float:
    """Words with as many of those with letters as another splitter would have made."""
    return words - found.alphabetic + found.alphabetic / scale


def _exceeds(amount: float, of: float, most: float | None) -> bool:
    """Whether the share is more than allowed; nothing of nothing is not, and no bound allows all."""
    return bool(most) and of > 0 and amount / of > (most or 0)


def repeats(parts: list[str]) -> tuple[int, int]:
    """datatrove's `find_duplicates`: how many parts are repetitions, and their characters."""
    distinct = set(parts)
    if len(distinct) == len(parts):
        return 0, 0
    return len(parts) - len(distinct), sum(map(len, parts)) - sum(map(len, distinct))


class FastGopherQuality(GopherQualityFilter):
    """datatrove's filter (arXiv 2112.11446, section A1.1); takes the same options but for the language.

    Args:
        scale: our words with letters to one of those that the thresholds count; where it is not 1, stop words are
            also found within words.
        hyphens: a hyphen between two letters is a word of its own, as it is to spaCy in English.
    """

    def __init__(
        self,
        stop_words: Iterable[str] = STOP_WORDS,
        scale: float = 1.0,
        hyphens: bool = True,
        **options: float | None,
    ):
        super().__init__(**options)
        self.scale, self.hyphens = scale, hyphens
        within_words = scale != 1
        split = {word: WORDS.word_tokenize(word) for word in stop_words}
        self.whole = () if within_words else tuple(b" %b " % one[0].encode() for one in split.values() if len(one) == 1)
        """Stop words to find among the words; the others are no words to our splitter: `l'`, `fil-`."""
        self.parts = tuple(word for word, found in split.items() if within_words or len(found) != 1)

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        """Whether the document stays, or the reason why not."""
        found = survey(doc.text)
        words = scaled(found.words, found, self.scale)
        reason = self._words(found) or self._symbols(doc.text, words) or self._lines(found) or self._stops(doc, found)
        return (False, f"gopher_{reason}") if reason else True

    def _words(self, found: Survey) -> str | None:
        proper = scaled(found.proper, found, self.scale)
        if self.min_doc_words and proper < self.min_doc_words:
            return "short_doc"
        if self.max_doc_words and proper > self.max_doc_words:
            return "long_doc"
        mean = found.proper_letters / proper if proper else math.nan
        if self.min_avg_word_length and mean < self.min_avg_word_length:
            return "below_avg_threshold"
        if self.max_avg_word_length and mean > self.max_avg_word_length:
            return "above_avg_threshold"
        return None

    def _symbols(self, text: str, words: float) -> str | None:
        if _exceeds(text.count("#"), words, self.max_symbol_word_ratio):
            return "too_many_hashes"
        unfinished = text.count("...") + text.count("…")
        return "too_many_ellipsis" if _exceeds(unfinished, words, self.max_symbol_word_ratio) else None

    def _lines(self, found: Survey) -> str | None:
        if _exceeds(found.bullets, found.lines, self.max_bullet_lines_ratio):
            return "too_many_bullets"
        return "too_many_end_ellipsis" if _exceeds(found.ellipses, found.lines, self.max_ellipsis_lines_ratio) else None

    def _stops(self, doc: Document, found: Survey) -> str | None:
        least = self.max_non_alpha_words_ratio  # whatever its name says
        words = scaled(found.words if self.hyphens else found.words - found.hyphens, found, self.scale)
        if least and words and found.alphabetic / self.scale / words < least:
            return "below_alpha_threshold"
        if not self.min_stop_words:
            return None
        joined = b" " + found.joined.tobytes()
        stops = sum(word in joined for word in self.whole) + sum(part in doc.text for part in self.parts)
        return "enough_stop_words" if stops < self.min_stop_words else None


class FastFineWebQuality(FineWebQualityFilter):
    """datatrove's filter (arXiv 2406.17557); takes the same options but for the language and the ends of lines.

    Args:
        scale: as of `FastGopherQuality`.
    """

    def __init__(self, scale: float = 1.0, **options: float | None):
        super().__init__(**options)
        self.scale = scale

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        """Whether the document stays, or the reason why not."""
        found = survey(doc.text)
        reason = self._objection(doc.text, found)
        return (False, reason) if reason else True

    def _objection(self, text: str, found: Survey) -> str | None:
        if not found.full_lines:
            return "empty"
        ratio = found.punctuated / found.full_lines
        if ratio < self.line_punct_thr and not (ratio == 0 and self.line_punct_exclude_zero):
            return "line_punct_ratio"
        if found.short / found.full_lines > self.short_line_threshold:
            return "short_line_ratio"
        again = repeats([line for line in text.split("\n") if line and not line.isspace()])[1]
        if again / (len(text) - text.count("\n")) > self.char_duplicates_ratio:
            return "char_dup_ratio"
        words = scaled(found.words, found, self.scale)
        return "list_ratio" if _exceeds(found.full_lines - 1, words, self.new_line_ratio) else None
