r"""Frees the value of an answer from what it is wrapped in: boxes, Markdown, LaTeX delimiters, "The answer is".

Nothing here decides that an answer is right. It must not make two different answers equal either: when it cannot tell
what the one value is, it says so.
"""

from __future__ import annotations

import re
import string
import unicodedata

from pipeline.reasoning.answers.boxes import has_box, inner_value
from pipeline.reasoning.answers.doubt import DENIAL
from pipeline.reasoning.answers.numbers import read_number

__all__ = ["LONGEST", "conclusion", "final_value", "mathematical", "peel", "split_label", "spoken", "without_lead_in"]

LONGEST = 2_000
"""Characters of an answer above which it is wrong unseen."""

_UNSEEN = string.whitespace + "\u00a0\u2009\u202f\u3000\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"
"""White space and marks without a width; inside a value the latter stay, and are wrong there."""
_SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n", strict=True))
_SUBSCRIPTS = dict(zip("₀₁₂₃₄₅₆₇₈₉", "0123456789", strict=True))
_SMALL_FRACTION = re.compile(r"(?:(?<=\d)(?=[⁰¹²³⁴-⁹]))?[⁰¹²³⁴-⁹]+[⁄∕/][₀-₉]+")
"""``⁷⁄₄``."""
_FULL_SIZE = str.maketrans({**_SUPERSCRIPTS, **_SUBSCRIPTS})
_SIGNS = {
    **dict.fromkeys("−–‒﹣－", "-"), **dict.fromkeys("⋅·∙", "\\cdot "), **dict.fromkeys("÷∕⁄", "/"), "×": "\\times ",
    "√": "\\sqrt ", "∛": "\\sqrt[3]", "π": "\\pi ", "∞": "\\infty ", "≤": "\\le ", "⩽": "\\le ", "≥": "\\ge ",
    "⩾": "\\ge ", "≠": "\\ne ", "≈": "\\approx ", "±": "\\pm ", "∪": "\\cup ", "∈": "\\in ", "∅": "\\emptyset ",
    "ℝ": "\\mathbb{R}", "∠": "\\angle ", "°": "^\\circ ", "º": "^\\circ ", "′": "'", "’": "'", "‘": "'", "“": '"',
    "”": '"', "％": "%", 
    "℃": "^\\circ C", "℉": "^\\circ F", "∖": "\\setminus ", "∩": "\\cap ",
    "∶": ":", "≡": "\\equiv ",
    "⟨": "\\langle ", "⟩": "\\rangle ", "∣": "\\mid ", "\u00a0": " ", "\u2009": "\\,", "\u202f": "\\,",
}  # fmt: skip
_GREEK = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon", "θ": "theta", "λ": "lambda", "μ": "mu",
    "ρ": "rho", "η": "eta", "ζ": "zeta", "κ": "kappa", "ν": "nu", "ξ": "xi", "χ": "chi", "ψ": "psi", "ϕ": "phi",
    "ϵ": "epsilon", "ϑ": "vartheta", "µ": "mu", "Γ": "Gamma", "Δ": "Delta", "Θ": "Theta", "Λ": "Lambda", "Ξ": "Xi",
    "Σ": "Sigma", "Φ": "Phi", "Ψ": "Psi", "Ω": "Omega",
    "σ": "sigma", "τ": "tau", "φ": "phi", "ω": "omega",
}  # fmt: skip
_PAIRS = (
    ("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"), ("```", "```"), ("`", "`"), ("**", "**"), ("__", "__"),
    ("==", "=="), ("*", "*"), ('"', '"'), ("'", "'"), ("“", "”"), ("«", "»"), ("「", "」"), ("『", "』"),
)  # fmt: skip
_WRAPPING = re.compile(
    r"\\(?:text|textbf|textit|mbox|mathrm|mathbf|mathit|bm|boldsymbol|emph|underline)\s*\{([^{}]*)\}"
)
_BOLD = re.compile(r"(?<![\w)*])\*\*(?=\S)([^*\n]{1,300}?)(?<=\S)\*\*(?![\w(*])")
_ENVIRONMENT = re.compile(r"\\begin\{(align|equation|gather|math)\*?\}(.*)\\end\{\1\*?\}", re.DOTALL)
_HTML = re.compile(r"<(b|strong|i|em|u|p|span|code)>(.*)</\1>", re.DOTALL | re.IGNORECASE)
_TICK = re.compile(
    r"(?:[\u2713\u2714\u2705\u220e]\ufe0f?|\\(?:checkmark|blacksquare|qed))$|^[\u2713\u2714\u2705\u279c\u2794\u27a1\U0001f449]\ufe0f?\s*"
)
_HEADING = re.compile(r"#{1,6} +(?=\S)")
_NOTHING = re.compile(
    r"\\(?:displaystyle|textstyle|scriptstyle|left|right|limits|big|Big|bigg|Bigg|!|tiny|small|normalsize|large|Large|LARGE"
    r"|huge|Huge|bf|it|rm|sf|sl|tt)(?![A-Za-z])|\\(?:color|textcolor|[hv]?phantom|vspace\*?)\s*\{[^{}]*\}"
)
_SPACE = re.compile(r"\\hspace\*?\s*\{[^{}]*\}")
_FONT = re.compile(r"\\(text|math)(?:sf|tt|sl|up|normal|sc|md)(?=\s*\{)|\\(text)(?:rm|bf|it)(?=\s*\{)")
"""Fonts that are told no more apart than upright ones."""
_STYLED_NUMBER = re.compile(
    r"(?<![\w})])\\(?:(?:math|text)(?:rm|bf|it)?|underline|bm|boldsymbol)\s*\{(-?\d[\d.,]*)\}"
    r"(?!\s*(?:\d|\\(?:math|text)[a-z]*\s*\{\s*[-\d]))"
)
_STYLED_SIGN = re.compile(r"\\(?:text|mathrm)\s*\{\s*(\\[$%])\s*\}")
_DOLLAR = re.compile(r"(?<!\\)\$")
_INLINE = re.compile(r"(?<![\w\\])\$(?=\S)((?:[^$]|(?<=\\)\$)*\S)(?<!\\)\$(?!\w)")
"""One formula in a line of words; a price is followed by a digit, and its sign not preceded by one."""
_NOUN = (
    r"(?:(?:answer|result|solution|value|output|total|sum|product|difference|quotient|remainder|mean|average|median|"
    r"area|perimeter|volume|length|probability|distance|speed|cost|price|number|choice|option|date|time|root|zero|point|"
    r"coordinate|center|centre|ratio|equation|slope|range|domain|interval|set|sequence|matrix|vector|limit|expression|"
    r"function|angle|height|width|weight|mass|age|amount|profit|score|percentage|diameter|color|colour|year)s?"
    r"|vertex|vertices|radius)"
)
_OF = r"(?:\ (?:of|to|for|in)\ (?:the\ |this\ |that\ |our\ )?(?:[a-z]+|\$?\\?[a-zA-Z](?:\([a-z]\))?\$?)){0,2}"
_WHOSE = r"(?:my|the|our|your|their|its)?\ ?(?:final\ |correct\ |right\ |exact\ |simplified\ |numerical\ |required\ )?"
_IS = r"(?:is|are|was|will\ be|would\ be|must\ be|should\ be|equals|is\ equal\ to|comes\ (?:out\ )?to|works\ out\ to)"
_LEAD_IN = re.compile(
    rf"""(?:(?:so|thus|hence|therefore|then|and|finally|in\ conclusion|consequently)\b,?\ *)*
    (?:
        {_WHOSE}{_NOUN}{_OF} \s*(?:{_IS}\b\s*:?|:|=)
      | \#\#\#\# | in\ total\b,?
      | (?:it|this|that|which|he|she|they|we)\ (?:is|was|will\ be|equals|gives|makes|comes\ to)\b
      | it's\b | there\ (?:are|is|were|was)\b
      | we\ (?:get|have|find|obtain)\b | i\ (?:get|got|have|find)\b | the\ point\b
      | (?:in\ )?(?:the\ year\ |in\ )(?=\d{{4}}$) | ans(?:wer)?\s*(?:\.|:|=|\ -\ |\ (?=\\[\[(]|\$))
      | i\ (?:would\ |will\ )?(?:choose|pick|select)\b
    )\s*""",
    re.IGNORECASE | re.VERBOSE,
)
_ELSEWHERE = re.compile(
    r"(?:(?:die |la |il |o |a )?"
    r"(?:antwort|lösung|ergebnis|réponse|résultat|respuesta|solución|resultado|risposta|resposta)"
    r"(?: (?:ist|lautet|est|es|è|é))?|ответ|відповідь|(?:最终|最終|正确)?(?:答案|答え|正解)|정답|답)"
    r"(?:\s*[:：]|\s+(?=\S)|(?<=[\u3040-\uffff])(?:是|为|為|は|은|는)?\s*[:：]?)\s*",
    re.IGNORECASE,
)
"""The same in other languages."""
_ARROW = re.compile(r"(?:=>|->|→|⇒|∴|\\(?:therefore|implies|(?:long)?(?:right|Right)arrow|to)(?![A-Za-z]))\s*")
_JSON = re.compile(r"\{\s*\"(?:final_?)?answer\"\s*:\s*(\"?)([^\"{}]+)\1\s*\}", re.IGNORECASE)
_LABEL = re.compile(
    r"((?:\\angle|\\triangle)\s*[A-Z]{1,3}|[A-Z]{2,3}|[A-Z]_\s*\{?\s*(?:\\(?:triangle|square)\s*)?[A-Z]{2,4}\s*\}?)\s*=\s*(?=[^=])"
)
_CONNECTIVE = re.compile(r"(?:so|thus|hence|therefore)\b,?\s+", re.IGNORECASE)
_TITLE = r"(?:#{1,6} +)?(?:\*\*)?(?:final )?answer(?:\*\*)?[ \t]*\n+(?=\S)"
_LEADS = (re.compile(_TITLE, re.IGNORECASE), _LEAD_IN, _CONNECTIVE, _ARROW, _ELSEWHERE)
_TURNED = re.compile(
    r"(.{1,200}?) is (?:(?:the|my|our) (?:final |correct |right )?(?:answer|result|solution|choice|option)"
    r"|correct|right)",
    re.IGNORECASE,
)
_HOPE = re.compile(r"[.!]\s+I hope (?:it|this) is (?:correct|right)\.?$", re.IGNORECASE)
"""What the prompts of Minerva (Lewkowycz et al. 2022) have every answer end with."""
_MARKER = re.compile(
    r"(?:(?<=[.!:\n])\s*|^\s*|\b(?:so|thus|hence|therefore)\b,?\s*)"
    r"(?:\*\*)?(?:the |my |our )?(?:final |correct |right )?(?:answer|result)(?: is\b:?|:|\s*=)|(?:^|\n)#### (?=\S)"
    rf"|(?:^|\n){_TITLE}",
    re.IGNORECASE,
)


def mathematical(text: str) -> str:
    """`text` with the signs of mathematics that Unicode has written as LaTeX writes them."""
    if text.isascii():
        return text
    text = _SMALL_FRACTION.sub(lambda found: found[0].translate(_FULL_SIZE), text)
    parts: list[str] = []
    raised = lowered = ""
    for char in text + "\0":
        if raised and char not in _SUPERSCRIPTS:
            parts.append("^{" + raised + "}")
            raised = ""
        if lowered and char not in _SUBSCRIPTS:
            parts.append("_{" + lowered + "}")
            lowered = ""
        if char in _SUPERSCRIPTS:
            raised += _SUPERSCRIPTS[char]
        elif char in _SUBSCRIPTS:
            lowered += _SUBSCRIPTS[char]
        else:
            parts.append(_written(char, parts))
    return "".join(parts)[:-1]


def _written(char: str, before: list[str]) -> str:
    if char in _SIGNS:
        return _SIGNS[char]
    if char in _GREEK:
        return f"\\{_GREEK[char]} "
    if not char.isascii() and unicodedata.category(char) == "No":  # ½
        numerator, slash, denominator = unicodedata.normalize("NFKC", char).partition("\u2044")
        if slash and denominator:
            mixed = bool(before) and before[-1][-1:].isdigit()
            return f"{' ' if mixed else ''}{numerator}/{denominator}"
        return char
    if not char.isascii() and (digit := unicodedata.decimal(char, None)) is not None:
        return str(digit)
    plain = unicodedata.normalize("NFKC", char)
    return plain if plain.isascii() else char


_BRACKETS = {
    "lbrack": "[", "rbrack": "]", "lparen": "(", "rparen": ")", "lbrace": r"\\{", "rbrace": r"\\}", "colon": ":",
}  # fmt: skip
_COMPARED = {
    "(?:less|smaller) than or equal to": "<=", "(?:greater|larger|more) than or equal to": ">=", "at most": "<=",
    "at least": ">=", "(?:less|smaller) than": "<", "(?:greater|larger|more) than": ">", "not equal to": "!=",
}  # fmt: skip
"""How two values compare, said of a variable."""
_SPOKEN = (
    (re.compile(r"\+\s?/\s?-|\bplus[- ]or[- ]minus\b", re.IGNORECASE), r"\\pm "),
    (re.compile(r"(?<![\w.])(?:minus|negative)\s+(?=\d|\\infty|infinity)", re.IGNORECASE), "-"),
    (re.compile(r"(?<![\w.])(?:plus|positive)\s+(?=\\infty|infinity)", re.IGNORECASE), ""),
    *((re.compile(rf"\\{name}(?![A-Za-z])\s*"), sign) for name, sign in _BRACKETS.items()),
    (re.compile(r"\\(?:nice|s|x)frac(?![A-Za-z])"), r"\\frac"),
    (re.compile(r"\\surd(?![A-Za-z])"), r"\\sqrt "),
    (re.compile(r"\^?\s*\\(?:text)?degree(?![A-Za-z])"), r"^\\circ "),
    *(
        (re.compile(rf"(?<![A-Za-z\\])([A-Za-z]) (?:is|must be) (?:strictly )?{words}\s+(?=\S)"), rf"\1 {sign} ")
        for words, sign in _COMPARED.items()
    ),
)


def spoken(text: str) -> str:
    """`text` with the signs that are written out: ``minus 7``, ``+/- 2``."""
    for pattern, sign in _SPOKEN:
        text = pattern.sub(sign, text)
    return text


def peel(text: str) -> str:
    """`text` without the delimiters, the emphasis and the full stop around it."""
    text = _plainly_styled(_BOLD.sub(r"\1", text)).strip(_UNSEEN)
    text = re.sub(r"(?<=[\w)}{])~(?=[\w\\({}])", " ", text)  # LaTeX's space
    for _ in range(12):
        before = text
        for opens, closes in _PAIRS:
            if len(text) > len(opens) + len(closes) and text.startswith(opens) and text.endswith(closes):
                inner = text[len(opens) : -len(closes)]
                if opens not in inner and closes not in inner:
                    text = inner.strip()
        found = _WRAPPING.fullmatch(text)
        if found is not None:
            text = found[1].strip()
        outer = _ENVIRONMENT.fullmatch(text) or _HTML.fullmatch(text)
        if outer is not None:
            text = outer[2].strip()
        text = _TICK.sub("", text).rstrip(" ~")
        text = _HEADING.sub("", text, count=1) if text.startswith("#") else text
        if text.endswith("\\\\"):
            text = text[:-2].rstrip()
        elif text.endswith((".", ",", ";", ":", "。", "．")) and text[-2:-1] not in (".", "\\"):
            text = text[:-1].rstrip()
        text = re.sub(r"^(?:\\[,;:! ])+|(?:\\[,;:!])+$", "", text).strip()
        if text == before:
            break
    return text


def _plainly_styled(text: str) -> str:
    """`text` without LaTeX's sizes, colours, invisible parts and fonts of numbers, and the signs around one formula."""
    if "\\" in text:
        text = _FONT.sub(lambda found: "\\text" if (found[1] or found[2]) == "text" else "\\mathrm", text)
        text = _SPACE.sub(" ", _NOTHING.sub("", text))
        text = _STYLED_SIGN.sub(r"\1", text)
        text = _STYLED_NUMBER.sub(r"\1", text)
    if len(_DOLLAR.findall(text)) == 2:
        text = _INLINE.sub(r"\1", text)
    return text


def without_lead_in(text: str) -> str:
    """`text` without "The answer is", "So we get", a sign of equality, or what else only leads to the value."""
    said = re.fullmatch(r"\\text\s*\{([^{}]*)\}(.+)", text, re.DOTALL)
    if said is not None and _LEAD_IN.fullmatch(said[1]):
        text = peel(said[2])
    turned = _TURNED.fullmatch(text)
    if turned is not None:
        text = peel(turned[1])
    for _ in range(3):
        found = next((match for each in _LEADS if (match := each.match(text))), None)
        if found is None or found.end() == len(text):
            break
        text = peel(text[found.end() :])
    if text.startswith("=") and not text.startswith("=="):
        text = peel(text[1:])
    return text


def split_label(text: str) -> tuple[str, str]:
    r"""What a part of a figure is called, or nothing, and its value: ``AB = 5``, ``\angle A = 30^\circ``."""
    text = mathematical(peel(text))
    found = _LABEL.match(text)
    return ("", text) if found is None else (re.sub(r"[\s{}]", "", found[1]), text[found.end() :])


def final_value(answer: str) -> str | None:
    """What the answer gives as its value: what its boxes or tags hold, else what a final sentence says, else all of it.

    None where it gives none or several, or denies what it gives.
    """
    if has_box(answer) or "<answer>" in answer.lower():
        inner = inner_value(answer)
        if not inner or _says_otherwise(answer, inner):
            return None
        return final_value(inner) if has_box(inner) else peel(inner) or None
    text = _HOPE.sub("", answer.strip())
    if (wrapped := _JSON.fullmatch(text)) is not None:
        text = wrapped[2].strip()
    markers = list(_MARKER.finditer(text))
    if len(markers) == 1 and markers[0].start() > 0:
        sentence = re.split(r"[.!?\n]", text[: markers[0].start()])[-1]
        if DENIAL.search(sentence):
            return None
        text = text[markers[0].start() :].strip()
    text = peel(text)
    return text or None


def conclusion(text: str) -> tuple[str, str]:
    """Some working and the value that its last sentence gives ("The answer is 42."), or twice nothing."""
    markers = list(_MARKER.finditer(text))
    last = peel(text[markers[0].start() :]) if len(markers) == 1 else ""
    value = without_lead_in(last)
    return (text[: markers[0].start()].strip(), value) if value != last and "\n" not in value else ("", "")


def _says_otherwise(answer: str, inner: str) -> bool:
    """Whether the last sentence after a box, or a line that begins with ####, gives another number or letter."""
    said = list(_MARKER.finditer(answer))
    if not said or (said[-1].start() < answer.rfind(inner) and "####" not in said[-1][0]):
        return False
    rest = answer[said[-1].start() :].strip()
    first, second = peel(inner), without_lead_in(peel(rest.split("\n")[0] if rest.startswith("####") else rest))
    numbers = read_number(first), read_number(second)
    are_letters = len(first) == len(second) == 1 and first.isalpha() and second.isalpha()
    return first.casefold() != second.casefold() if are_letters else None not in numbers and numbers[0] != numbers[1]
