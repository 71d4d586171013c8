"""Markdown to HTML: CommonMark with tables, and what books and notes have beside it.

Front matter goes, formulas stay as they are written (`$a_1*b$`, `\\(a\\)`, `$$` over lines, TeX's environments), the
text of a footnote is never taken for an address. Pandoc's attributes and fences of divisions are no text.
"""

from __future__ import annotations

import html
import re
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # loaded where it is used
    from collections.abc import Iterator

    from markdown_it import MarkdownIt
    from markdown_it.rules_block import StateBlock
    from markdown_it.rules_core import StateCore
    from markdown_it.rules_inline import StateInline

__all__ = ["to_html"]

_FRONT = re.compile(
    r"\A(?:(---|\+\+\+)[ \t]*\n(?=\s*(?:#|[\w\"'-]+\s*[:=]))(.*?)^(?:\1|\.\.\.)[ \t]*(?:\n|\Z)|(?:%.*\n)+)",
    re.MULTILINE | re.DOTALL,
)
_TITLE = re.compile(r"^title\s*[:=]\s*[\"']?(.*?)[\"']?\s*$", re.MULTILINE | re.IGNORECASE)
_FENCE = re.compile(r"[ \t>]*(`{3,}|~{3,})")
_DIVISION = re.compile(r" {0,3}:{3,}[ \t]*(?:\{[^{}]*\}|[\w-]*[ \t]*:*)?[ \t]*\Z")
_NOTE = re.compile(r"( {0,3})(\[\^[^\]\s]+\]:)")
_ATTRIBUTES = re.compile(r"(?<=\S)[ \t]*\{:?[ \t]*[#.][A-Za-z][\w:.-]*(?:[ \t]+[^{}]*)?\}[ \t]*\Z")
_FORMULA = re.compile(
    r"\$\$(?!\$)[^$]+\$\$"
    r"|\$(?![\s$])(?:[^$\\]|\\.)*?(?<!\s)\$(?![\d$])"  # as Pandoc tells it from sums of money
    # Brackets may be escaped as such: only what has a sign of TeX is a formula.
    r"|\\\((?=(?:(?!\\\)).){0,2000}?(?:\\[A-Za-z]|[\^=<>+]|_[\w{]))(?:(?!\\\)).){1,2000}\\\)"
    r"|\\\[(?=(?:(?!\\\]).){0,2000}?(?:\\[A-Za-z]|[\^=<>+]|_[\w{]))(?:(?!\\\]).){1,2000}\\\]",
    re.DOTALL,
)
_DISPLAYED = ((re.compile(r"\$\$"), r"\$\$\s*\Z"), (re.compile(r"\\\[\s*\Z"), r"\\\]\s*\Z"))
_ENVIRONMENT = re.compile(r"\\begin\{((?:equation|align|alignat|gather|multline|eqnarray|displaymath|math)\*?)\}")
MOST_LINES = 1000
"""Of a formula."""
_WIDE = "\u1100-\u11ff\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\uff00-\uffef"
_STRONG = re.compile(rf"(?<=[{_WIDE}])(\*\*|\*)(?=\S)([^*\n]+)(?<=\S)\1|(\*\*|\*)(?=\S)([^*\n]+)(?<=\S)\3(?=[{_WIDE}])")
"""Emphasis beside letters that no space parts, which CommonMark takes for asterisks."""


def to_html(source: str) -> tuple[str, str]:
    """HTML of the body of a text in Markdown, and the title that its front matter names, or ''."""
    source = source.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    title = ""
    if front := _FRONT.match(source):
        source = source[front.end() :]
        found = _TITLE.search(front[2] or "")
        title = found[1] if found else ""
    return str(_reader().render("\n".join(_lines(source)))), title


def _lines(source: str) -> Iterator[str]:
    """The lines, without what is not CommonMark and no text."""
    fence = ""
    for line in source.split("\n"):
        if mark := _FENCE.match(line):
            if not fence:
                fence = mark[1]
            elif mark[1].startswith(fence) and not line[mark.end() :].strip():
                fence = ""
        elif not fence and _DIVISION.match(line):
            line = ""
        elif not fence and (note := _NOTE.match(line)):
            yield ""
            line = f"{note[1]}\\{line[note.start(2) :]}"
        yield line


@cache
def _reader() -> MarkdownIt:
    from markdown_it import MarkdownIt

    reader = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    reader.inline.ruler.before("escape", "formula", _inline)
    reader.block.ruler.before("code", "formula", _block, {"alt": ["paragraph", "blockquote", "list"]})
    reader.core.ruler.push("mended", _mended)
    return reader


def _inline(state: StateInline, silent: bool) -> bool:
    """A formula within a line of text."""
    if state.src[state.pos] not in "$\\" or not (found := _FORMULA.match(state.src, state.pos)):
        return False
    if not silent:
        state.push("text_special", "", 0).content = found[0]
    state.pos = found.end()
    return True


def _block(state: StateBlock, begin: int, end: int, silent: bool) -> bool:
    """A formula on lines of its own, which come through as they are."""
    if state.is_code_block(begin):
        return False
    first = _line(state, begin)
    last = next((re.compile(close) for open_, close in _DISPLAYED if open_.match(first)), None)
    if environment := _ENVIRONMENT.match(first):
        last = re.compile(r"\\end\{" + re.escape(environment[1]) + r"\}\s*\Z")
    if last is None or last.search(first, 2):
        return False
    at = next(
        (line for line in range(begin + 1, min(end, begin + MOST_LINES)) if last.search(_line(state, line))), None
    )
    if at is None:
        return False
    if not silent:
        token = state.push("html_block", "", 0)
        text = state.getLines(begin, at + 1, state.blkIndent, False)
        token.content = f"<pre>{html.escape(text, quote=False)}</pre>\n"
        token.map = [begin, at + 1]
        state.line = at + 1
    return True


def _line(state: StateBlock, number: int) -> str:
    return state.src[state.bMarks[number] + state.tShift[number] : state.eMarks[number]]


def _mended(state: StateCore) -> None:
    """Take attributes from the ends of headings and paragraphs, and asterisks from emphasis that CommonMark misses."""
    for token in state.tokens:
        children = token.children or []
        for child in children:
            if child.type == "text" and "*" in child.content:
                child.content = _STRONG.sub(lambda found: found[2] or found[4], child.content)
        if children and children[-1].type == "text":
            children[-1].content = _ATTRIBUTES.sub("", children[-1].content)
