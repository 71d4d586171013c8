"""The groups of rules as datatrove filters, made for a section of the recipe and a language."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from datatrove.data import Document
from datatrove.pipeline.filters.base_filter import BaseFilter

from pipeline.sections import CleanConfig
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


def _url(config: CleanConfig, language: str) -> BaseFilter:
    from pipeline.clean.blocklist import FastURLFilter

    return FastURLFilter()


def _gopher_repetition(config: CleanConfig, language: str) -> BaseFilter:
    from datatrove.pipeline.filters.gopher_repetition_filter import GopherRepetitionFilter

    from pipeline.clean.repetition import FastGopherRepetition

    if language in UNSPACED:
        return GopherRepetitionFilter(top_n_grams=(), dup_n_grams=(), language=WORDS)
    return FastGopherRepetition()


def _gopher_quality(config: CleanConfig, language: str) -> BaseFilter:
    from pipeline.clean.quality import FastGopherQuality

    return FastGopherQuality(
        min_doc_words=config.min_words,
        max_doc_words=config.max_words,
        max_non_alpha_words_ratio=config.min_alpha_words,  # datatrove's name has it the wrong way round
        min_avg_word_length=None if language in UNSPACED else 3,
        min_stop_words=2 if language in STOP_WORDS else None,
        stop_words=list(STOP_WORDS.get(language, ())),
        language=WORDS,
    )


def _c4_quality(config: CleanConfig, language: str) -> BaseFilter:
    from pipeline.clean.lines import FastC4Quality

    return FastC4Quality(
        terminal_punctuation=config.terminal_punctuation and language not in OTHER_STOPS,
        min_words_per_line=-1 if language in UNSPACED else 3,
        min_sentences=config.min_sentences,
        curly_bracket=config.curly_bracket,
    )


def _fineweb_quality(config: CleanConfig, language: str) -> BaseFilter:
    from datatrove.pipeline.filters.fineweb_quality_filter import FineWebQualityFilter

    return FineWebQualityFilter(
        line_punct_thr=config.line_punctuation,
        short_line_thr=config.short_lines,
        char_duplicates_ratio=config.duplicated_characters,
        new_line_ratio=config.new_lines_per_word,
        language=WORDS,
    )


BY_LANGUAGE = ("gopher_repetition", "gopher_quality", "c4_quality")
"""Groups whose filter differs from language to language."""
BUILDERS: dict[str, Callable[[CleanConfig, str], BaseFilter]] = {
    "url": _url,
    "language": lambda config, _: LanguageRule(config.languages, config.language_threshold, config.language_thresholds),
    "gopher_repetition": _gopher_repetition,
    "gopher_quality": _gopher_quality,
    "c4_quality": _c4_quality,
    "fineweb_quality": _fineweb_quality,
}
