"""Formulas in MathML that nobody has said in TeX as well: TeX is made of them, so that `a/b` is not read as `ab`.

Presentation elements of MathML Core (W3C 2025) and of MathML 3; letters and signs stay as they are.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field

__all__ = ["has_formulas", "with_tex"]

_OPENING = re.compile(r"<((?:\w{1,20}:)?math)\b([^<>]*)>", re.IGNORECASE)
_SAID = re.compile(r"\balttext\s*=\s*[\"']\s*[^\"'\s]|encoding\s*=\s*[\"'][^\"']*tex", re.IGNORECASE)
_BUILT = re.compile(r"<(?:\w+:)?m(?:sup|sub|subsup|frac|sqrt|root|under|over|underover|fenced|table|multiscripts)\b")
"""What parts stand in another way than one after the other."""
_DISPLAY = re.compile(r"(?:display|mode)\s*=\s*[\"']?(?:block|display)")
_TOKEN = re.compile(r"<(/?)(?:\w+:)?([\w-]+)([^<>]*?)(/?)>|([^<]+)")
_ATTRIBUTE = re.compile(r"([\w-]+)\s*=\s*(?:\"([^\"]*)\"|'([^']*)')")
_UNSEEN = re.compile("[\u2061-\u2064\u200b\ufeff]")
_SPECIAL = re.compile(r"[{}%#&_$]")
_NAMED = """
arccos arcsin arctan arg cos cosh cot coth csc deg det dim exp gcd hom inf ker lg lim liminf limsup ln log max min sec
sin sinh sup tan tanh Pr
"""
_FUNCTIONS = frozenset(_NAMED.split())
_ACCENTS = {
    **{"¯": "bar", "‾": "overline", "―": "overline", "_": "underline", "^": "hat", "ˆ": "hat", "~": "tilde"},
    **{"˜": "tilde", "→": "vec", "⃗": "vec", "˙": "dot", "¨": "ddot", "ˇ": "check", "˘": "breve"},
    **{"⏞": "overbrace", "⏟": "underbrace"},
}
_SKIPPED = frozenset(("annotation", "annotation-xml", "mphantom", "maligngroup", "malignmark", "none", "mprescripts"))
DEEPEST = 100
"""Elements within each other beyond which a formula stays as it is."""


@dataclass
class _Node:
    name: str
    attributes: str = ""
    text: str = ""
    children: list[_Node] = field(default_factory=list)

    def attribute(self, name: str, default: str) -> str:
        values = (first or second for key, first, second in _ATTRIBUTE.findall(self.attributes) if key == name)
        return html.unescape(next(values, default))


def has_formulas(page: str) -> bool:
    """Whether it may have some: the end of an element, whatever its prefix."""
    return "math>" in page


def with_tex(page: str) -> str:
    """The page, its formulas of MathML alone as TeX in the `alttext` of empty ones."""
    pieces: list[str] = []
    done = 0
    while opening := _OPENING.search(page, done):
        end = page.find(f"</{opening[1]}", opening.end())
        after = page.find(">", end) + 1 if end >= 0 else 0
        if not after:
            break
        made = _formula(opening[2], page[opening.end() : end])
        pieces += page[done : opening.start()], made or page[opening.start() : after]
        done = after
    return "".join([*pieces, page[done:]])


def _formula(attributes: str, content: str) -> str:
    """The element with TeX; '' for one that has some, or needs none."""
    if _SAID.search(attributes) or _SAID.search(content) or not _BUILT.search(content):
        return ""
    tree = _tree(content)
    if tree is None or not (tex := _row(tree.children)):
        return ""
    display = ' display="block"' if _DISPLAY.search(attributes) else ""
    return f'<math alttext="{html.escape(tex)}"{display}></math>'


def _tree(markup: str) -> _Node | None:
    """The elements; None, where they are nested too deep."""
    open_ = [_Node("math")]
    for closing, name, attributes, alone, text in _TOKEN.findall(markup):
        if text:
            open_[-1].text += text
        elif not closing:
            node = _Node(name.lower(), attributes)
            open_[-1].children.append(node)
            if not alone:
                open_.append(node)
        elif len(open_) > 1 and any(node.name == name.lower() for node in open_):
            while len(open_) > 1 and open_.pop().name != name.lower():
                pass
        if len(open_) > DEEPEST:
            return None
    return open_[0]


def _row(nodes: list[_Node]) -> str:
    """Parts one after the other; a command's name does not run into the letter behind it."""
    out = ""
    for tex in filter(None, map(_tex, nodes)):
        out += " " if re.search(r"\\[A-Za-z]+\Z", out) and tex[0].isalnum() else ""
        out += tex
    return out


def _tex(node: _Node) -> str:
    name, parts = node.name, node.children
    if name in _SKIPPED:
        return ""
    if name in ("mi", "mn", "mo", "mtext", "ms"):
        return _word(node)
    if name == "semantics" or name == "maction":
        return _row(parts[:1])
    if name == "mtable":
        rows = (" & ".join(_row(cell.children) for cell in row.children if cell.name == "mtd") for row in parts)
        return r"\begin{matrix}" + r" \\ ".join(rows) + r"\end{matrix}"
    if name == "mfenced":
        return _fenced(node)
    if name == "mmultiscripts":
        return _scripts(parts)
    least = {"mfrac": 2, "mroot": 2, "msup": 2, "msub": 2, "mover": 2, "munder": 2, "msubsup": 3, "munderover": 3}
    if len(parts) >= least.get(name, 1):
        if name == "mfrac":
            command = r"\binom" if node.attribute("linethickness", "") in ("0", "0pt", "0px") else r"\frac"
            return f"{command}{{{_tex(parts[0])}}}{{{_tex(parts[1])}}}"
        if name == "msqrt":
            return f"\\sqrt{{{_row(parts)}}}"
        if name == "mroot":
            return f"\\sqrt[{_tex(parts[1])}]{{{_tex(parts[0])}}}"
        if name in least:
            return _with_scripts(name, [_tex(part) for part in parts[:3]])
    return _row(parts)


def _word(node: _Node) -> str:
    text = " ".join(_UNSEEN.sub("", html.unescape(node.text)).split())
    if node.name in ("mtext", "ms"):
        return rf"\text{{{text}}}" if text else " "
    if node.name == "mi" and text in _FUNCTIONS:
        return "\\" + text
    text = _escaped(text)
    return rf"\mathrm{{{text}}}" if node.name == "mi" and len(text) > 1 and text.isascii() and text.isalpha() else text


def _fenced(node: _Node) -> str:
    signs = node.attribute("separators", ",").replace(" ", "")
    out = ""
    for number, part in enumerate(node.children):
        out += signs[min(number, len(signs)) - 1] if number and signs else ""
        out += _tex(part)
    return _escaped(node.attribute("open", "(")) + out + _escaped(node.attribute("close", ")"))


def _escaped(text: str) -> str:
    return _SPECIAL.sub(lambda sign: "\\" + sign[0], text)


def _with_scripts(name: str, parts: list[str]) -> str:
    base, first = parts[:2]
    if name in ("mover", "munder") and (accent := _ACCENTS.get(first.lstrip("\\"))):
        return rf"\{accent}{{{base}}}"
    if name in ("msup", "mover"):
        return f"{_base(base)}^{_script(first)}"
    below = f"{_base(base)}_{_script(first)}"
    return f"{below}^{_script(parts[2])}" if len(parts) > 2 else below


def _base(tex: str) -> str:
    return tex if len(tex) <= 1 or re.fullmatch(r"\\[A-Za-z]+|\w+|\\[A-Za-z]+\{[^{}]*\}", tex) else f"{{{tex}}}"


def _script(tex: str) -> str:
    return tex if len(tex) == 1 else f"{{{tex}}}"


def _scripts(parts: list[_Node]) -> str:
    """A base with pairs of scripts behind it, and before it where these are parted so."""
    names = [part.name for part in parts]
    at = names.index("mprescripts") if "mprescripts" in names else len(parts)
    behind, before = [_tex(part) for part in parts[1:at]], [_tex(part) for part in parts[at + 1 :]]

    def pairs(scripts: list[str]) -> str:
        signs = zip("_^" * len(scripts), scripts, strict=False)
        return "".join(sign + _script(script) for sign, script in signs if script)

    base = _base(_tex(parts[0])) if parts else ""
    return f"{'{}' + pairs(before) if before else ''}{base}{pairs(behind)}"
