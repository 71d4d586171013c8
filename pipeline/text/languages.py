"""What the rules of the clean stage must know of a language: its commonest words, and whether spaces lie between them.

Gopher's rule asks for two of eight English words; for other languages it asks for two of the commonest function words
of theirs. A language without a list here is not asked. Codes are ISO 639-1.
"""

from __future__ import annotations

__all__ = ["OTHER_STOPS", "STOP_WORDS", "UNSPACED", "base_code"]

_LISTS = {
    "en": "the be to of and that have with",  # Gopher, arXiv 2112.11446, appendix A1.1
    "bg": "на и да за от се че не",
    "ca": "de la i el que en els per",
    "cs": "a se v na je že s to",
    "da": "og i at det er en til af",
    "de": "der die und in den von zu das",
    "el": "και το να του η της με για",
    "es": "de la que el en y los se",
    "et": "ja on ei et ka see oli mis",
    "fa": "و در به از که این را با",
    "fi": "ja on ei että se oli hän myös",
    "fr": "de la le et les des en un",
    "he": "של את על לא זה הוא עם כי",
    "hi": "के में की है और से को का",
    "hr": "i u je na se da za su",
    "hu": "a az és hogy nem is egy meg",
    "id": "yang dan di untuk dengan dari ini itu",
    "it": "di e la che il in un per",
    "ja": "の は を に が と で た",
    "ko": "이 그 수 것 등 및 있는 있다",
    "lt": "ir į kad yra iš su buvo tai",
    "lv": "un ir ar no par kas tas bija",
    "nl": "de van het een en in is dat",
    "no": "og i det er en til på som",
    "pl": "w i na z do się nie że",
    "pt": "de a o que e do da em",
    "ro": "de și în a la cu pe care",
    "ru": "и в не на что с по как",
    "sk": "a v na sa je že s z",
    "sl": "in je v na se da za so",
    "sr": "и у је на се да за су",
    "sv": "och i att det som en på är",
    "tr": "ve bir bu da için ile de olarak",
    "uk": "і в на що не з та до",
    "vi": "và của là có trong được cho các",
    "zh": "的 一 是 在 不 了 有 和",
    "ar": "في من على إلى أن التي عن هذا",
}
STOP_WORDS: dict[str, tuple[str, ...]] = {code: tuple(words.split()) for code, words in _LISTS.items()}
"""The eight words of each language."""

UNSPACED = frozenset({"zh", "yue", "wuu", "ja", "th", "lo", "km", "my"})
"""Written without spaces: the splitter makes a word of each character, so that rules about the length of words and
about repeated runs of them mean nothing."""

OTHER_STOPS = UNSPACED | {"hi", "mr", "ne", "sa", "bn", "as", "am", "hy", "pa", "ur"}
"""Sentences end otherwise than with what C4 knows: . ? ! and quotes."""


def base_code(language: str) -> str:
    """`pt-BR` as `pt`."""
    return language.replace("_", "-").partition("-")[0].lower()
