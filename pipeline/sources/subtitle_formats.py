"""The cues of a file of subtitles: SubRip, WebVTT, SubViewer, Advanced SubStation, MicroDVD, MPL2, LRC, SAMI, TTML.

A format is told by how its lines are, not by the name of the file.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import takewhile

from pipeline.sources.stream import Damaged

__all__ = ["Cue", "cues_of"]

_CLOCK = r"-?(?:(\d{1,3}):)?(\d{1,2}):(\d{2})(?:[.,:] ?(\d{1,3}))?"
_TIMING = re.compile(rf"\s*{_CLOCK}\s*(?:--?>|,)\s*{_CLOCK}(?:\s.*)?")
_BEGUN = re.compile(r"\s*[\d:]{4,9}[.,]\d{1,3} +-(?:-(?:>[\s\d:.,]*)?)?")
"""The beginning of a line of timing."""
_READING = re.compile(r"<r[tp]>.{0,200}?(?:</r[tp]>|(?=</ruby>))", re.IGNORECASE)
_LINE_END = re.compile(r"<br\s*/?>|\\N|\\n(?![a-z])|\[br\]", re.IGNORECASE)
_TAG = re.compile(r"</?[A-Za-z][^<>\n]{0,200}>|<[\d:.]{4,16}>|\{(?:\\|[A-Za-z]:)[^{}\n]{0,200}\}")
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z]{2,8});")
_UNSEEN = re.compile("[\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]|\\\\h")
"""Which way a line is written, and hard spaces of Advanced SubStation."""

_DIALOGUE = re.compile(r"Dialogue:\s*(.*)")
_FORMAT = re.compile(r"Format:(.*,\s*Text\s*)\Z", re.IGNORECASE)
_FIELDS = 10
_DRAWING = re.compile(r"\{[^{}]*\\p[1-9].*?(?:\{[^{}]*\\p0[^{}]*\}|\Z)")
_FRAMES = re.compile(r"(?:\{(\d+)\}\{(\d*)\}|\[(\d+)\]\[(\d*)\])(.*)")
_FRAMES_A_SECOND, _TENTHS = 25.0, 10.0
_SUNG = re.compile(r"((?:\[\d{1,3}:\d{2}(?:[.:]\d{1,3})?\])+)(.*)")
_SUNG_CLOCK = re.compile(r"\[(\d{1,3}):(\d{2})(?:[.:](\d{1,3}))?\]")
_SYNC = re.compile(
    r"<SYNC\s[^<>]{0,200}?Start\s{0,9}=\s{0,9}[\"']?(\d{1,12})[^<>]{0,200}>(.*?)(?=<SYNC\b|</BODY|\Z)",
    re.IGNORECASE | re.DOTALL,
)
_TIMED = re.compile(r"<(?:\w{1,20}:)?p\b([^<>]{0,500})>(.{0,5000}?)</(?:\w{1,20}:)?p\s{0,9}>", re.DOTALL)
_TIME = re.compile(r"\b(begin|end)\s*=\s*[\"'](?:(\d+):(\d+):(\d+)(?:[.:](\d+))?|(\d+(?:\.\d+)?)(h|m|s|ms|f|t)?)[\"']")
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "f": 1 / 25, "t": 1e-7, "": 1.0}


@dataclass(frozen=True)
class Cue:
    """What is said at a time, in seconds."""

    begin: float
    end: float
    lines: list[str]
    """Without tags."""


def cues_of(text: str) -> list[Cue]:
    r"""The cues of a file whose lines end in `\n`; none, where it is no file of subtitles.

    Raises:
        Damaged: the last line of timing is not whole.
    """
    return next((found for read in _READERS if (found := list(read(text)))), [])


def _cue(begin: float, end: float, said: list[str]) -> Cue:
    lines = _LINE_END.sub("\n", _READING.sub("", "\n".join(said))).split("\n")
    bare = (_ENTITY.sub(lambda found: html.unescape(found[0]), _TAG.sub("", line)) for line in lines)
    whole = (" ".join(_UNSEEN.sub("", line).split()) for line in bare)
    return Cue(begin, end, [line for line in whole if line])


def _timed(text: str) -> Iterator[Cue]:
    """What follows each line of timing; in WebVTT an empty line ends it, for remarks and styles stand alone."""
    lines = text.split("\n")
    is_vtt = lines[0].startswith("WEBVTT")
    timings = [(at, found) for at, line in enumerate(lines) if (found := _TIMING.fullmatch(line))]
    ends = [at for at, _ in timings[1:]] + [len(lines)]
    for (at, found), end in zip(timings, ends, strict=False):
        said = lines[at + 1 : end]
        if is_vtt:
            said = list(takewhile(str.strip, said))
        elif end < len(lines) and said and said[-1].strip().isdecimal():
            said.pop()  # the number of the next
        clock = found.groups("0")
        yield _cue(_seconds(clock[:4]), _seconds(clock[4:]), said)
    if _BEGUN.fullmatch(lines[-1]):
        raise Damaged(f"line {len(lines)}", "truncated: the last line of timing is not whole")


def _seconds(clock: tuple[str, ...]) -> float:
    hours, minutes, seconds, fraction = clock
    return int(hours) * 3600 + int(minutes) * 60 + int(seconds) + float(f"0.{fraction}")


def _substation(text: str) -> Iterator[Cue]:
    """In the order of time, which is not that of the file; drawings are no text."""
    fields, cues = _FIELDS, []
    for line in text.split("\n"):
        if named := _FORMAT.match(line):
            fields = named[1].count(",") + 1
        elif said := _DIALOGUE.match(line):
            row = said[1].split(",", fields - 1)
            clocks = [re.fullmatch(_CLOCK, each.strip()) for each in row[1:3]]
            if len(row) == fields and len(clocks) == 2 and clocks[0] and clocks[1]:
                begin, end = (_seconds(clock.groups("0")) for clock in clocks if clock)
                cues.append(_cue(begin, end, [_DRAWING.sub("", row[-1])]))
    yield from sorted(cues, key=lambda cue: cue.begin)


def _framed(text: str) -> Iterator[Cue]:
    for line in text.split("\n"):
        if found := _FRAMES.fullmatch(line.strip()):
            rate = _FRAMES_A_SECOND if found[1] else _TENTHS
            begin, end = int(found[1] or found[3]) / rate, int(found[2] or found[4] or 0) / rate
            yield _cue(begin, end or begin, [each.removeprefix("/") for each in found[5].split("|")])


def _sung(text: str) -> Iterator[Cue]:
    """Lines of a song; one with several times is sung so often."""
    cues = [
        (_seconds(("0", *clock.groups("0"))), found[2])
        for line in text.split("\n")
        if (found := _SUNG.fullmatch(line.strip()))
        for clock in _SUNG_CLOCK.finditer(found[1])
    ]
    for begin, words in sorted(cues, key=lambda cue: cue[0]):
        yield _cue(begin, begin, [words])


def _synchronised(text: str) -> Iterator[Cue]:
    found = [(int(match[1]) / 1000, match[2]) for match in _SYNC.finditer(text)]
    for number, (begin, words) in enumerate(found):
        end = found[number + 1][0] if number + 1 < len(found) else begin
        if (cue := _cue(begin, end, [" ".join(words.split())])).lines:
            yield cue


def _of_xml(text: str) -> Iterator[Cue]:
    for match in _TIMED.finditer(text):
        if "begin" not in match[1]:
            continue
        times = {"begin": 0.0, "end": 0.0}
        for name, hours, minutes, seconds, fraction, value, unit in _TIME.findall(match[1]):
            clock = (hours, minutes, seconds, fraction or "0")
            times[name] = float(value) * _UNITS[unit] if value else _seconds(clock)
        yield _cue(times["begin"], times["end"], [" ".join(match[2].split())])


_READERS: tuple[Callable[[str], Iterator[Cue]], ...] = (_timed, _substation, _framed, _synchronised, _of_xml, _sung)
