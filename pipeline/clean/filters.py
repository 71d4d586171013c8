"""The groups of rules as datatrove filters, made for the rules of a source and a language."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, TypeVar

from datatrove.data import Document
from datatrove.pipeline.filters.base_filter import BaseFilter

from infra.errors import UserError
from pipeline.clean.section import CleanRules
from pipeline.text.languages import base_code
from pipeline.text.thresholds import ENGLISH, thresholds

__all__ = ["BUILDERS", "BY_LANGUAGE", "LanguageRule", "by_language"]


class LanguageRule(BaseFilter):
    """Keeps documents in the wanted languages, and notes what it saw in `metadata["language"]`."""

    name = "language"
    HEAD = 4000
    """Characters looked at: the model's cost is by the byte, and more adds nothing."""

    def __init__(
        self, languages: tuple[str, ...], threshold: float, thresholds: Mapping[str, float] | None = None
    ) -> None:
        super().__init__()
        self.languages = {base_code(language) for language in languages}
        self.threshold = threshold
        self.thresholds = {base_code(language): least for language, least in (thresholds or {}).items()}
        self.model = _language_model()
        unknown = self.languages - {base_code(language) for language in self.model.nb_classes}
        if unknown:
            raise UserError(
                f"clean.languages: the identifier of languages does not know {', '.join(sorted(unknown))}, so nothing "
                "would be kept; switch the rule off (clean.rules.language: false)"
            )

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        middle = max(0, (len(doc.text) - self.HEAD) // 2)
        language, score = self.model.classify(doc.text[middle : middle + self.HEAD])
        doc.metadata["language"] = language = base_code(language)
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
    from pipeline.clean.repetition import FastGopherRepetition

    asked = thresholds(language)
    found = FastGopherRepetition(
        dup_line_frac=_either(rules.repeated_lines, asked.repeated_lines),
        top_n_grams=_either(rules.top_n_grams, asked.scaled(asked.top_n_grams)),
        dup_n_grams=_either(rules.repeated_n_grams, asked.scaled(asked.repeated_n_grams)),
        paragraphs=asked.repeated_paragraphs,
    )
    if rules.repeated_lines is not None:
        found.dup_para_frac = rules.repeated_lines
        found.dup_line_char_frac = found.dup_para_char_frac = rules.repeated_lines * 2 / 3
    return found


def _gopher_quality(rules: CleanRules, language: str) -> BaseFilter:
    from pipeline.clean.quality import FastGopherQuality

    asked = thresholds(language)
    return FastGopherQuality(
        min_doc_words=rules.min_words,
        max_doc_words=rules.max_words,
        min_avg_word_length=_either(rules.min_word_length, asked.min_word_length),
        max_avg_word_length=_either(rules.max_word_length, asked.max_word_length),
        max_symbol_word_ratio=rules.symbols_per_word,
        max_bullet_lines_ratio=rules.bullet_lines,
        max_ellipsis_lines_ratio=rules.ellipsis_lines,
        max_non_alpha_words_ratio=_either(rules.min_alpha_words, asked.alpha_words),  # it is the least share
        min_stop_words=_either(rules.min_stop_words, 2) if asked.stop_words else None,
        stop_words=asked.stop_words,
        scale=asked.scale,
        hyphens=language == ENGLISH,
    )


def _c4_quality(rules: CleanRules, language: str) -> BaseFilter:
    from pipeline.clean.lines import FastC4Quality

    asked = thresholds(language)
    return FastC4Quality(
        terminal_punctuation=bool(rules.terminal_punctuation) and asked.script not in ("Thai", "Laoo"),
        min_words_per_line=1 if asked.scale > 1 else rules.min_words_per_line or 0,  # C4 counts by white space
        min_sentences=rules.min_sentences or 0,
        curly_bracket=bool(rules.curly_bracket),
        line_words=bool(rules.line_words),
        citations=bool(rules.citations),
    )


def _fineweb_quality(rules: CleanRules, language: str) -> BaseFilter:
    from pipeline.clean.quality import FastFineWebQuality

    asked = thresholds(language)
    return FastFineWebQuality(
        line_punct_thr=_either(rules.line_punctuation, asked.line_punctuation),
        short_line_thr=_either(rules.short_lines, _either(asked.short_lines, 1.0)),
        char_duplicates_ratio=_either(rules.duplicated_characters, asked.duplicated_characters),
        new_line_ratio=_either(rules.new_lines_per_word, asked.new_lines_per_word),
        scale=asked.scale,
    )


def by_language(rules: CleanRules, group: str, language: str) -> bool:
    """Whether a group that the rules leave open (null) is asked in a language: FineWeb-2 has none of C4's."""
    return bool(_either(getattr(rules, group), language == ENGLISH))


T = TypeVar("T")


def _either(said: T | None, otherwise: T) -> T:
    """What the recipe or the profile says, or else the language."""
    return otherwise if said is None else said


BY_LANGUAGE = ("gopher_repetition", "gopher_quality", "c4_quality", "fineweb_quality")
"""Groups whose filter differs from language to language."""
BUILDERS: dict[str, Callable[[CleanRules, str], BaseFilter]] = {
    "url": _url,
    "language": _language,
    "gopher_repetition": _gopher_repetition,
    "gopher_quality": _gopher_quality,
    "c4_quality": _c4_quality,
    "fineweb_quality": _fineweb_quality,
}
