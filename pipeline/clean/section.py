"""Recipe section of the stage `clean`, and the rules of each profile. Light on purpose, as `pipeline.sections` is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from infra.section import Section
from pipeline.sections import LossLimits, Profile
from pipeline.text.languages import understood

__all__ = ["GROUPS", "PROFILES", "SWITCHES", "CleanConfig", "CleanRules"]


LanguageCode = Annotated[str, AfterValidator(understood)]
"""However it is written, it becomes the code that the identifier of languages uses."""


class CleanRules(Section):
    """Rules and their thresholds. A key that is left out, or null, is as the profile of the text has it; a threshold
    that the profile leaves open as well is that of the text's language."""

    url: bool | None = None
    """Block lists of domains, addresses and words in the address (RefinedWeb), as datatrove ships them; text without an
    address passes."""
    language: bool | None = None
    """Keep only the languages named by `languages`."""
    gopher_repetition: bool | None = None
    """Repeated lines, paragraphs and n-grams (Gopher, arXiv 2112.11446, table A1)."""
    gopher_quality: bool | None = None
    """Length, symbols, bullets, stop words (Gopher, arXiv 2112.11446, appendix A1.1)."""
    c4_quality: bool | None = None
    """Lines without terminal punctuation go, pages with too few sentences too (C4, arXiv 1910.10683). Left open, as
    for pages, it holds for English alone: FineWeb-2 asks it of no other language."""
    fineweb_quality: bool | None = None
    """Line endings, short lines, repeated characters (FineWeb, arXiv 2406.17557)."""
    pii: bool | None = None
    """E-mail and public IP addresses are replaced by reserved ones (FineWeb)."""
    fix_encoding: bool | None = None
    """Repair mojibake with ftfy before any rule looks at the text."""
    unescape_html: bool | None = None
    """Let ftfy resolve entities (`&amp;`) that are left in texts without a tag: right for text that came from pages."""
    languages: tuple[LanguageCode, ...] | None = None
    """Languages kept, where not those of `clean.languages`."""
    language_threshold: float | None = Field(None, ge=0, le=1)
    """Least probability of a kept language, where not `clean.language_threshold`."""
    language_thresholds: dict[LanguageCode, float] | None = None
    """The same for single languages, where not `clean.language_thresholds`."""
    min_words: int | None = Field(None, ge=0)
    """Least words of a document (Gopher: 50)."""
    max_words: int | None = Field(None, ge=1)
    """Most words of a document (Gopher: 100,000)."""
    min_word_length: float | None = Field(None, ge=0)
    """Least mean length of a word (Gopher: 3)."""
    max_word_length: float | None = Field(None, gt=0)
    """Most mean length of a word (Gopher: 10)."""
    min_alpha_words: float | None = Field(None, ge=0, le=1)
    """Least share of words with a letter in them (Gopher: 0.8)."""
    min_stop_words: int | None = Field(None, ge=0)
    """Least different stop words (Gopher: 2)."""
    symbols_per_word: float | None = Field(None, ge=0)
    """Most `#`, and most ellipses, per word (Gopher: 0.1)."""
    bullet_lines: float | None = Field(None, ge=0, le=1)
    """Most share of lines that begin with a bullet (Gopher: 0.9)."""
    ellipsis_lines: float | None = Field(None, ge=0, le=1)
    """Most share of lines that end with an ellipsis (Gopher: 0.3)."""
    repeated_lines: float | None = Field(None, ge=0, le=1)
    """Most share of lines, and of paragraphs, that repeat another (Gopher: 0.3), and of their characters two thirds of
    that."""
    top_n_grams: dict[int, float] | None = None
    """Most share of characters in the most frequent n-gram, by n (Gopher: 2, 3 and 4)."""
    repeated_n_grams: dict[int, float] | None = None
    """Most share of characters in repeated n-grams, by n (Gopher: 5 to 10)."""
    min_sentences: int | None = Field(None, ge=0)
    """Least sentences left after C4 has dropped lines (C4: 5)."""
    curly_bracket: bool | None = None
    """Drop pages with a curly bracket (C4); false suits corpora with source code."""
    terminal_punctuation: bool | None = None
    """Drop lines that end without . ? ! or a quote (C4); FineWeb leaves this out, for it costs the most text."""
    min_words_per_line: int | None = Field(None, ge=0)
    """Least words of a line that stays (C4: 3)."""
    line_words: bool | None = None
    """Drop lines about JavaScript, cookies and terms of use, and pages with lorem ipsum (C4)."""
    citations: bool | None = None
    """Take marks such as [1] and [citation needed] out of lines (C4)."""
    line_punctuation: float | None = Field(None, ge=0, le=1)
    """Least share of lines that end with punctuation (FineWeb: 0.12)."""
    short_lines: float | None = Field(None, ge=0, le=1)
    """Most share of lines of 30 characters or less (FineWeb: 0.67 in English, no bound in other languages)."""
    duplicated_characters: float | None = Field(None, ge=0, le=1)
    """Most share of characters in repeated lines (FineWeb: 0.01)."""
    new_lines_per_word: float | None = Field(None, ge=0)
    """Most line breaks per word (FineWeb: 0.3)."""

    def over(self, below: CleanRules) -> CleanRules:
        """These rules where they say something, else those of `below`."""
        said = {name: value for name in type(self).model_fields if (value := getattr(self, name)) is not None}
        return below.model_copy(update=said)


_PUBLISHED: dict[str, Any] = {
    **{"min_words": 50, "max_words": 100_000, "symbols_per_word": 0.1, "bullet_lines": 0.9, "ellipsis_lines": 0.3},
    **{"min_sentences": 5, "curly_bracket": True, "terminal_punctuation": True, "min_words_per_line": 3},
    **{"line_words": True, "citations": True},
}
"""Thresholds as Gopher, C4 and FineWeb have them, for whichever profile a rule is switched on in."""
GROUPS = ("url", "language", "gopher_repetition", "gopher_quality", "c4_quality", "fineweb_quality")
"""Rules that drop whole documents, in the order in which they are asked: FineWeb's, in which the cheap ones happen to
come first."""
SWITCHES = (*GROUPS, "pii", "fix_encoding", "unescape_html")
"""All that is on or off."""


def _profile(*on: str, **thresholds: Any) -> CleanRules:
    return CleanRules(**(_PUBLISHED | {name: name in on for name in SWITCHES} | thresholds))


PROFILES: Mapping[Profile, CleanRules] = {
    Profile.WEB: _profile(*GROUPS, "pii", "fix_encoding", "unescape_html", c4_quality=None),
    Profile.PROSE: _profile(
        *("language", "gopher_repetition", "gopher_quality", "pii", "fix_encoding"),
        min_alpha_words=0.6,
        repeated_lines=0.5,
        top_n_grams={2: 0.4, 3: 0.36, 4: 0.32},
        repeated_n_grams=dict.fromkeys(range(5, 11), 0.5),
    ),
    Profile.REFERENCE: _profile("language", "gopher_quality", "pii", "fix_encoding", min_alpha_words=0.4),
    Profile.DIALOGUE: _profile("language", "pii", "fix_encoding", min_words=1),
    Profile.MATHS: _profile("fix_encoding", min_words=1),
    Profile.CODE: _profile(min_words=1),
}
"""The rules of each profile, which `clean.rules`, `clean.profiles` and `clean.rules_by_source` are laid over.

Gopher's least share of words with a letter counts marks as words, of which speech and plays have many, and lists and
tables more. Refrains and genealogies repeat themselves: of prose only what does little else goes, and what is written
to be looked up is not judged by that at all.
"""


class CleanConfig(LossLimits):
    """Which documents are good enough to learn from."""

    rules: CleanRules = CleanRules()
    """Laid over the rules of every profile."""
    profiles: dict[Profile, CleanRules] = Field(default_factory=dict)
    """Laid over the rules of single profiles; docs/corpus.md has the table that they start from."""
    rules_by_source: dict[str, CleanRules] = Field(default_factory=dict)
    """Laid over the rules of single sources, after all others."""
    languages: tuple[LanguageCode, ...] = ("en",)
    """Languages kept, by their codes (`ko`, `kor`, `ko-KR`) or English names; none means all."""
    language_threshold: float = Field(0.65, ge=0, le=1)
    """Least probability of a kept language (FineWeb)."""
    language_thresholds: dict[LanguageCode, float] = Field(default_factory=dict)
    """The same for single languages, where it differs."""
    max_document_seconds: float = Field(60.0, gt=0)
    """Processor time in which the rules must be done with a document; one that takes longer is rejected."""
    max_failures: float = Field(0.01, ge=0, le=1)
    """Share of documents on which a rule may break before the stage gives up."""

    @model_validator(mode="before")
    @classmethod
    def _accept_thresholds(cls, values: Any) -> Any:
        """Thresholds directly under `clean`, where they were once, are those of every source."""
        if not isinstance(values, dict):
            return values
        old = {name: values[name] for name in _OLD if name in values}
        rules = values.get("rules") or {}
        if not old or not isinstance(rules, dict | CleanRules):
            return values
        given = rules if isinstance(rules, dict) else rules.model_dump(exclude_none=True)
        return {name: value for name, value in values.items() if name not in old} | {"rules": old | given}

    def rules_of(self, source: str, profile: Profile) -> CleanRules:
        """The rules of a source whose texts are of this profile."""
        languages = ("languages", "language_threshold", "language_thresholds")
        rules = self.rules.over(PROFILES[profile].model_copy(update={name: getattr(self, name) for name in languages}))
        for layer in (self.profiles.get(profile), self.rules_by_source.get(source)):
            rules = layer.over(rules) if layer else rules
        return rules


_OLD = (
    *("fix_encoding", "min_words", "max_words", "min_alpha_words", "min_sentences", "curly_bracket"),
    *("terminal_punctuation", "line_punctuation", "short_lines", "duplicated_characters", "new_lines_per_word"),
)
"""Keys that stood directly under `clean`."""
