"""What the form rules ask of a text, by language: the thresholds that FineWeb-2 published for 1,900 of them.

`fineweb2.tsv.gz` holds the facts of its configurations (huggingface/fineweb-2 at d0defb2, folder configs; the method is
in arXiv 2506.20920): a row per language and script, shares in thousandths. A least or most of 0 or below is off.
English has the thresholds of Gopher (arXiv 2112.11446, appendix A1) and FineWeb (arXiv 2406.17557).

FineWeb-2 counted words with a splitter per language. Ours agrees with it where spaces lie between words; elsewhere
`Thresholds.scale` says how many of our words (letters of Thai or Han, Korean words with their endings) one of theirs
is, as measured on the Universal Declaration of Human Rights (docs/experiments.md), and counts are compared through it.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType

__all__ = ["ENGLISH", "Thresholds", "rows", "thresholds"]

ENGLISH = "eng_Latn"
TABLE = Path(__file__).with_name("fineweb2.tsv.gz")
TOPS, REPEATED = (2, 3, 4), (5, 6, 7, 8, 9, 10)
"""Words of the n-grams whose shares are bounded."""
SCALES = {"Hang": 0.505, "Hani": 1.75, "Jpan": 1.64, "Khmr": 3.2, "Laoo": 3.4, "Mymr": 2.3, "Thai": 3.9}
"""Our words with letters to one of FineWeb-2's, by script: Kiwi's morphemes in Korean, the words of jieba, Sudachi,
khmer-nltk, LaoNLP, pyidaungsu and PyThaiNLP."""
MORE_STOPS = {
    "abk_Cyrl": "насгьы иара ма уи аҟны рыла",
    "azb_Arab": "و بو بیر ایله اوچون اولان دا هر",
    "quy_Latn": "mana hinaspa utaq otaq chay kay sapa ima",
    "tat_Cyrl": "һәм бу белән да дә өчен бер ул",
    "tel_Telu": "మరియు ఈ ఆ ఒక లేదా కూడా అని ప్రతి",
}
"""Function words of languages whose published list comes from short articles about villages, years and the like."""


@dataclass(frozen=True)
class Thresholds:
    """Of one language in one script. None, or an empty mapping, is off."""

    name: str = ""
    script: str = "Latn"
    min_word_length: float | None = None
    max_word_length: float | None = None
    alpha_words: float | None = None
    """Least share of words with a letter."""
    stop_words: tuple[str, ...] = ()
    line_punctuation: float = 0.0
    """Least share of lines that end with punctuation."""
    short_lines: float | None = None
    """Most share of lines of 30 characters or less."""
    new_lines_per_word: float | None = None
    duplicated_characters: float = 0.1
    """Most share of characters in repeated lines (FineWeb-2's for all languages)."""
    repeated_lines: float | None = 0.3
    repeated_paragraphs: bool = False
    """Whether Gopher's rules about paragraphs, and about characters in repeated lines, are asked."""
    top_n_grams: Mapping[int, float] = field(default_factory=lambda: MappingProxyType({}))
    repeated_n_grams: Mapping[int, float] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def scale(self) -> float:
        """Our words with letters to one of those that the thresholds count."""
        return SCALES.get(self.script, 1.0)

    def scaled(self, shares: Mapping[int, float]) -> dict[int, float]:
        """Shares by the length of n-grams, in our words."""
        return {max(n, round(n * self.scale)): share for n, share in shares.items()}


_ENGLISH = Thresholds(
    name="English",
    min_word_length=3,
    max_word_length=10,
    alpha_words=0.8,
    stop_words=("the", "be", "to", "of", "and", "that", "have", "with"),
    line_punctuation=0.12,
    short_lines=0.67,
    new_lines_per_word=0.3,
    duplicated_characters=0.01,
    repeated_paragraphs=True,
    top_n_grams=MappingProxyType(dict(zip(TOPS, (0.2, 0.18, 0.16), strict=True))),
    repeated_n_grams=MappingProxyType(dict(zip(REPEATED, (0.15, 0.14, 0.13, 0.12, 0.11, 0.1), strict=True))),
)


@cache
def rows() -> dict[str, dict[str, Thresholds]]:
    """ISO 639-3 code to ISO 15924 script to thresholds, English among them."""
    found: dict[str, dict[str, Thresholds]] = {"eng": {"Latn": _ENGLISH}}
    header, *lines = gzip.decompress(TABLE.read_bytes()).decode().splitlines()
    for line in lines:
        cells = dict(zip(header.split("\t"), line.split("\t"), strict=True))
        language, script = cells["code"].split("_")
        found.setdefault(language, {})[script] = _row(script, cells)
    return found


def _row(script: str, cells: dict[str, str]) -> Thresholds:
    def share(name: str) -> float:
        return int(cells[name]) / 1000

    def shares(name: str, sizes: tuple[int, ...]) -> Mapping[int, float]:
        """Without those that can never be exceeded."""
        found = zip(sizes, (int(cell) / 1000 for cell in cells[name].split(",")), strict=True)
        return MappingProxyType({n: most for n, most in found if 0 < most < 1})

    return Thresholds(
        name=cells["name"],
        script=script,
        min_word_length=int(cells["min_word_length"]) or None,
        max_word_length=int(cells["max_word_length"]) or None,
        alpha_words=share("alpha_words"),
        stop_words=(*cells["stop_words"].split("|"), *MORE_STOPS.get(cells["code"], "").split()),
        line_punctuation=share("line_punctuation"),
        new_lines_per_word=share("new_lines_per_word"),
        repeated_lines=share("repeated_lines") or None,
        top_n_grams=shares("top_n_grams", TOPS),
        repeated_n_grams=shares("repeated_n_grams", REPEATED),
    )


def thresholds(row: str) -> Thresholds:
    """Of a row such as `kor_Hang`; for what has none, only what needs no language."""
    language, _, script = row.partition("_")
    return rows().get(language, {}).get(script, Thresholds())
