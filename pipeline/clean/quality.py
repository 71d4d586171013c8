"""Gopher's rules about a document's words (arXiv 2112.11446, section A1.1), asked once per distinct word.

datatrove looks at every character of every word of the document, in Python, twice. Words repeat, so here each distinct
one is looked at once and weighed by its count: decisions, reasons and their order are datatrove's.
"""

from __future__ import annotations

import math
from collections import Counter

from datatrove.data import Document
from datatrove.pipeline.filters.gopher_quality_filter import GopherQualityFilter
from datatrove.utils.text import PUNCTUATION_SET, split_into_words

__all__ = ["FastGopherQuality"]

SYMBOLS = frozenset(PUNCTUATION_SET)


class FastGopherQuality(GopherQualityFilter):
    """datatrove's filter; takes the same options."""

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        """Whether the document stays, or the reason why not."""
        reason = self._objection(doc.text)
        return True if reason is None else (False, f"gopher_{reason}")

    def _objection(self, text: str) -> str | None:
        counts = Counter(split_into_words(text, self.language))
        every = counts.total()
        proper = {word: count for word, count in counts.items() if not SYMBOLS.issuperset(word)}
        amount = sum(proper.values())
        if self.min_doc_words and amount < self.min_doc_words:
            return "short_doc"
        if self.max_doc_words and amount > self.max_doc_words:
            return "long_doc"
        mean = sum(len(word) * count for word, count in proper.items()) / amount if amount else math.nan
        if self.min_avg_word_length and mean < self.min_avg_word_length:
            return "below_avg_threshold"
        if self.max_avg_word_length and mean > self.max_avg_word_length:
            return "above_avg_threshold"
        if self.max_symbol_word_ratio:
            if text.count("#") / every > self.max_symbol_word_ratio:
                return "too_many_hashes"
            if (text.count("...") + text.count("…")) / every > self.max_symbol_word_ratio:
                return "too_many_ellipsis"
        lines = text.splitlines()
        if self.max_bullet_lines_ratio:
            bullets = sum(line.lstrip().startswith(("•", "-")) for line in lines)
            if bullets / len(lines) > self.max_bullet_lines_ratio:
                return "too_many_bullets"
        if self.max_ellipsis_lines_ratio:
            unfinished = sum(line.rstrip().endswith(("...", "…")) for line in lines)
            if unfinished / len(lines) > self.max_ellipsis_lines_ratio:
                return "too_many_end_ellipsis"
        if self.max_non_alpha_words_ratio:  # the least share, whatever its name says
            alphabetic = sum(count for word, count in counts.items() if word.isalpha() or any(map(str.isalpha, word)))
            if alphabetic / every < self.max_non_alpha_words_ratio:
                return "below_alpha_threshold"
        if self.min_stop_words and len(self.stop_words & counts.keys()) < self.min_stop_words:
            return "enough_stop_words"
        return None
