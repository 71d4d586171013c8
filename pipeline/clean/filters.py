"""The groups of rules as datatrove filters, made for the rules of a source and a language."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, TypeVar

from datatrove.data import Document
from datatrove.pipeline.filters.base_filter import BaseFilter

from pipeline.clean.section import CleanRules
from pipeline.text.languages import OTHER_STOPS, STOP_WORDS, UNSPACED
from pipeline.text.words import WORDS

__all__ = ["BUILDERS", "BY_LANGUAGE", "LanguageRule"]


class LanguageRule(BaseFilter):
    """Keeps documents in the wanted languages, and notes what it saw in `metadata["language"]`."""

    name = "language"
    HEAD = 4000
    """Characters looked at: the model's cost is by the byte, and more adds nothing."""

    def __init__(
        self, languages: tuple[str, ...], threshold: float, thresholds: Mapping[str, float] | None = None
    ) -> None:
        super().__init__()
        self.languages, self.threshold, self.thresholds = set(languages), threshold, thresholds or {}
        self.model = _language_model()

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        middle = max(0, (len(doc.text) - self.HEAD) // 2)
        language, score = self.model.classify(doc.text[middle : middle + self.HEAD])
        doc.metadata["language"] = language
        doc.metadata["language_score"] = round(score, 3)
        if self.languages and language not in self.languages:
            return False, "other"
        return (True, "") if score >= self.thresholds.get(language, self.threshold) else (False, "unsure")


@cache
def _language_model() -> Any:
    """Of this process: every task asks for it anew."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def _url(rules: CleanRules, language: str) -> BaseFilter:
    from pipeline.clean.blocklist import FastURLFilter

    return FastURLFilter()


def _language(rules: CleanRules, language: str) -> BaseFilter:
    return LanguageRule(rules.languages or (), rules.language_threshold or 0.0, rules.language_thresholds)


def _gopher_repetition(rules: CleanRules, language: str) -> BaseFilter:
    from pipeline.clean.repetition import REPEATED_N_GRAMS, TOP_N_GRAMS, FastGopherRepetition

    unspaced = language in UNSPACED
    return FastGopherRepetition(
        dup_line_frac=_either(rules.repeated_lines, 0.3),
        top_n_grams=_either(rules.top_n_grams, {} if unspaced else TOP_N_GRAMS),
        dup_n_grams=_either(rules.repeated_n_grams, {} if unspaced else REPEATED_N_GRAMS),
    )


def _gopher_quality(rules: CleanRules, language: str) -> BaseFilter:
    from pipeline.clean.quality import FastGopherQuality

    return FastGopherQuality(
        min_doc_words=rules.min_words,
        max_doc_words=rules.max_words,
        min_avg_word_length=_either(rules.min_word_length, None if language in UNSPACED else 3),
        max_avg_word_length=_either(rules.max_word_length, 10),
        max_symbol_word_ratio=rules.symbols_per_word,
        max_bullet_lines_ratio=rules.bullet_lines,
        max_ellipsis_lines_ratio=rules.ellipsis_lines,
        max_non_alpha_words_ratio=_either(rules.min_alpha_words, 0.8),  # datatrove's name has it the wrong way round
        min_stop_words=_either(rules.min_stop_words, 2) if language in STOP_WORDS else None,
        stop_words=list(STOP_WORDS.get(language, ())),
        language=WORDS,
    )


def _c4_quality(rules: CleanRules, language: str) -> BaseFilter:
    from pipeline.clean.lines import FastC4Quality

    return FastC4Quality(
        terminal_punctuation=bool(rules.terminal_punctuation) and language not in OTHER_STOPS,
        min_words_per_line=0 if language in UNSPACED else rules.min_words_per_line or 0,
        min_sentences=rules.min_sentences or 0,
        curly_bracket=bool(rules.curly_bracket),
        line_words=bool(rules.line_words),
        citations=bool(rules.citations),
    )


def _fineweb_quality(rules: CleanRules, language: str) -> BaseFilter:
    from datatrove.pipeline.filters.fineweb_quality_filter import FineWebQualityFilter

    return FineWebQualityFilter(
        line_punct_thr=_either(rules.line_punctuation, 0.12),
        short_line_thr=rules.short_lines,
        char_duplicates_ratio=_either(rules.duplicated_characters, 0.01),
        new_line_ratio=_either(rules.new_lines_per_word, 0.3),
        language=WORDS,
    )


T = TypeVar("T")


def _either(said: T | None, otherwise: T) -> T:
    """What the recipe or the profile says, or else the language."""
    return otherwise if said is None else said


BY_LANGUAGE = ("gopher_repetition", "gopher_quality", "c4_quality")
"""Groups whose filter differs from language to language."""
BUILDERS: dict[str, Callable[[CleanRules, str], BaseFilter]] = {
    "url": _url,
    "language": _language,
    "gopher_repetition": _gopher_repetition,
    "gopher_quality": _gopher_quality,
    "c4_quality": _c4_quality,
    "fineweb_quality": _fineweb_quality,
}
