"""Text of RTF (Rich Text Format 1.9.1, Microsoft 2008): what a reader sees, in the characters that its fonts stand for.

Notes stand behind the text, cells of tables as in `pipeline.html.layout`. Hidden and deleted text, pictures, running
heads, fields' instructions and whatever is marked as not to be known by every reader go.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass, field, replace

__all__ = ["text_of_rtf"]

_TOKEN = re.compile(
    r"\\([a-zA-Z]{1,32})(-?\d{1,10})? ?|\\'([0-9a-fA-F]{2})|\\([^a-zA-Z])|([{}])|([^\\{}\r\n]+)", re.DOTALL
)
_NOT_SHOWN = """
annotation atnauthor atndate atnicn atnid atnparent atnref atntime atrfend atrfstart author background bkmkend
bkmkstart blipuid buptim category colorschememapping colortbl comment company creatim datafield datastore defchp
defpap doccomm docvar factoidname falt ffdeftext ffentrymcr ffexitmcr ffformat ffhelptext ffl ffname ffstattext
filetbl fldinst fldtype fname fontemb fontfile footer footerf footerl footerr formfield ftncn ftnsep ftnsepc
aftncn aftnsep aftnsepc generator header headerf headerl headerr hlinkbase info keywords latentstyles
levelnumbers leveltext lfolevel linkval list listlevel listname listoverride listoverridetable listpicture
liststylename listtable mailmerge manager nextfile nonesttables nonshppict objalias objclass objdata objname
objsect objtime oleclsid operator panose password passwordhash pgp pgptbl picprop pict pn pnseclvl pntxta pntxtb
printim propname protend protstart protusertbl pxe revtbl revtim rsidtbl rxe shprslt sn sp staticval stylesheet
subject sv tc template themedata title txe userprops wgrffmtfilter windowcaption xe xmlattrname xmlattrvalue
xmlclose upr xmlname xmlnstbl xmlopen
"""
_KNOWN = "shpinst shpgrp shptxt shppict do dptxbxtext ud footnote fldrslt result"
"""Groups that are shown although readers are free not to know them (`\\*`)."""
_HIDES, _SHOWS = frozenset(_NOT_SHOWN.split()), frozenset(_KNOWN.split())
_SIGNS = {
    **{"par": "\n", "line": "\n", "lbr": "\n", "sect": "\n\n", "page": "\n\n", "column": "\n\n", "tab": "\t"},
    **{"cell": "\t", "nestcell": "\t", "row": "\n", "nestrow": "\n", "emdash": "—", "endash": "–", "bullet": "•"},
    **{"lquote": "‘", "rquote": "’", "ldblquote": "“", "rdblquote": "”", "emspace": "\u2003", "enspace": "\u2002"},
    **{"qmspace": "\u2005", "zwj": "\u200d", "zwnj": "\u200c", "~": "\xa0", "_": "\u2011", "\n": "\n", "\r": "\n"},
    **{"{": "{", "}": "}", "\\": "\\"},
}
_CHARSETS = {
    **{0: "cp1252", 77: "mac_roman", 78: "shift_jis", 79: "big5", 80: "euc_kr", 81: "mac_arabic", 83: "mac_greek"},
    **{84: "mac_cyrillic", 85: "gbk", 88: "mac_latin2", 128: "cp932", 129: "cp949", 130: "johab", 134: "gbk"},
    **{136: "cp950", 161: "cp1253", 162: "cp1254", 163: "cp1258", 177: "cp1255", 178: "cp1256", 186: "cp1257"},
    **{204: "cp1251", 222: "cp874", 238: "cp1250", 254: "cp437", 255: "cp850"},
}
_PAGES = {"mac": "mac_roman", "pc": "cp437", "pca": "cp850", "cp10000": "mac_roman", "cp65001": "utf-8"}
_SYMBOL = str.maketrans(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz\xb7\xb4\xa3\xb3\xb9\xb1\xb0\xae\xa5\xd5\xe5\xf2\xd6\xb6\xce",
    "ΑΒΧΔΕΦΓΗΙϑΚΛΜΝΟΠΘΡΣΤΥςΩΞΨΖαβχδεφγηιϕκλμνοπθρστυϖωξψζ•×≤≥≠±°→∞∏∑∫√∂∈",
)
"""Letters and the commonest signs of the font Symbol."""
_PRIVATE = 0xF000
"""Where Word puts the characters of such fonts."""
_SYMBOL_FONT = "symbol"
MOST_GROUPS = 10_000
"""Open groups beyond which there is no text."""


@dataclass(frozen=True)
class _Group:
    """What holds in an open group."""

    codec: str
    is_shown: bool = True
    is_hidden: bool = False
    skipped: int = 1
    """Characters that stand for one of Unicode, for readers that know none."""
    is_note: bool = False
    is_font_table: bool = False


@dataclass
class _Reading:
    """What is read so far, and where the next characters go."""

    group: _Group
    page: str = "cp1252"
    groups: list[_Group] = field(default_factory=list)
    fonts: dict[str, str] = field(default_factory=dict)
    font: str = ""
    default_font: str = ""
    skip: int = 0
    raw: bytearray = field(default_factory=bytearray)
    texts: list[list[str]] = field(default_factory=lambda: [[]])
    notes: list[str] = field(default_factory=list)

    def put(self, text: str) -> None:
        if self.group.is_shown and not self.group.is_hidden:
            self.flush()
            self.texts[-1].append(text)

    def bytes(self, raw: bytes) -> None:
        """Add characters of the font; those go that a character of Unicode has stood for already."""
        if self.skip:
            gone = min(self.skip, len(raw))
            self.skip -= gone
            raw = raw[gone:]
        if self.group.is_font_table:
            if self.font and raw.strip(b"; ").lower() == _SYMBOL_FONT.encode():
                self.fonts[self.font] = _SYMBOL_FONT
        elif self.group.is_shown and not self.group.is_hidden:
            self.raw += raw

    def flush(self) -> None:
        if self.raw:
            codec = self.group.codec
            is_symbol = codec == _SYMBOL_FONT
            text = bytes(self.raw).decode("latin-1" if is_symbol else codec, "replace")
            self.texts[-1].append(text.translate(_SYMBOL) if is_symbol else text)
            self.raw.clear()

    def change(self, **changes: object) -> None:
        self.flush()
        self.group = replace(self.group, **changes)  # type: ignore[arg-type]

    def open(self) -> None:
        self.flush()
        self.skip = 0
        self.groups.append(self.group)

    def close(self) -> None:
        self.flush()
        self.skip = 0
        outer = self.groups.pop() if self.groups else self.group
        if self.group.is_note and not outer.is_note:
            self.notes.append("".join(self.texts.pop()).strip())
        self.group = outer


def text_of_rtf(source: str) -> str:
    """The text of a file, whose bytes are given as characters (latin-1)."""
    reading = _Reading(_Group("cp1252"))
    place, starred = 0, False
    while match := _TOKEN.search(source, place):
        place = match.end()
        word, number, code, sign, brace, text = match.groups()
        if brace == "{":
            if len(reading.groups) > MOST_GROUPS:
                return ""
            reading.open()
        elif brace:
            reading.close()
            if not reading.groups and "\\par" not in source[place:]:
                break
        elif text:
            reading.bytes(text.encode("latin-1", "replace"))
        elif code:
            reading.bytes(bytes.fromhex(code))
        elif sign == "*":
            starred = True
            continue
        elif reading.skip and (word != "u" or number is None):
            reading.skip -= 1
        elif sign:
            reading.put(_SIGNS.get(sign, ""))
        elif word == "bin":
            place += max(0, int(number or 0))
        else:
            _word(reading, word, number, starred)
        starred = False
    reading.flush()
    found = "".join(map("".join, reading.texts)) + "".join(f"\n\n{note}" for note in reading.notes)
    return found.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # what it writes as two halves


def _word(reading: _Reading, word: str, number: str | None, starred: bool) -> None:
    """What a control word does."""
    group = reading.group
    if word == "fonttbl":
        reading.change(is_shown=False, is_font_table=True)
    elif word == "footnote":
        if group.is_shown and not group.is_note:
            reading.change(is_note=True)
            reading.texts.append([])
    elif word == "ud":  # the same in Unicode as the group before
        reading.change(is_shown=len(reading.groups) < 2 or reading.groups[-2].is_shown)
    elif word in _HIDES or (starred and word not in _SHOWS):
        reading.change(is_shown=False)
    elif word == "u" and number is not None:
        _unicode(reading, int(number) & 0xFFFF)
    elif word in _SIGNS:
        reading.put(_SIGNS[word])
    elif word == "chftn":
        reading.put(f"[{len(reading.notes) + 1}]")
    elif word == "uc":
        reading.change(skipped=max(0, int(number or 1)))
    elif word in ("v", "deleted"):
        reading.change(is_hidden=number != "0")
    else:
        _font(reading, word, number or "")


def _unicode(reading: _Reading, code: int) -> None:
    if _PRIVATE <= code < _PRIVATE + 256 and reading.group.codec == _SYMBOL_FONT:
        reading.put(chr(code - _PRIVATE).translate(_SYMBOL))
    else:
        reading.put(chr(code))
    reading.skip = reading.group.skipped


def _font(reading: _Reading, word: str, number: str) -> None:
    """What a control word says of fonts and code pages."""
    if word == "f":
        reading.font = number
        if not reading.group.is_font_table:
            reading.change(codec=reading.fonts.get(number, reading.page))
    elif word == "fcharset" and reading.group.is_font_table:
        reading.fonts[reading.font] = _CHARSETS.get(int(number or 0), reading.page)
    elif word == "plain":
        reading.change(codec=reading.fonts.get(reading.default_font, reading.page), is_hidden=False)
    elif word == "deff":
        reading.default_font = number
    elif word in ("ansicpg", "mac", "pc", "pca"):
        page = f"cp{number}" if word == "ansicpg" else word
        reading.page = _codec(_PAGES.get(page, page))
        reading.change(codec=reading.page)


def _codec(name: str) -> str:
    try:
        return codecs.lookup(name).name
    except LookupError:
        return "cp1252"
