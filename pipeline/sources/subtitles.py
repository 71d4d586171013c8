"""Subtitles and captions, SubRip (.srt) or WebVTT (.vtt): what is said in a film or a lecture, a document per file.

Numbers, timings, positions and tags go. A line that goes on in lower case joins the one before, a long silence begins a
paragraph. Live captions roll: a cue says again what the one before it ended with, and is kept once. Descriptions of
sounds, for those who cannot hear them, are nothing that anybody says.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import PurePosixPath
from typing import Any

from infra.storage import ExternalFile
from pipeline.sections import SubtitlesSource
from pipeline.sources import charset
from pipeline.sources.charset import NotText
from pipeline.sources.stream import Damaged, Found, Limits, Part, open_stream
from pipeline.tasks.documents import Document
from pipeline.tasks.ledger import note_record

__all__ = ["parts", "read"]

_CLOCK = r"(?:(\d{1,3}):)?(\d{1,2}):(\d{2})[.,](\d{1,3})"
_TIMING = re.compile(rf"\s*{_CLOCK}\s*-->\s*{_CLOCK}(?:\s.*)?")
_BEGUN = re.compile(r"\s*[\d:]{4,9}[.,]\d{1,3} +-(?:-(?:>[\s\d:.,]*)?)?")
"""The beginning of a line of timing."""
_TAG = re.compile(r"</?[A-Za-z][^<>\n]{0,200}>|<[\d:.]{4,16}>|\{\\[^{}\n]{0,200}\}")
_SOUND = re.compile(r"\[[^\[\]\n]{1,80}\]|\([^()\n]{1,80}\)|[♪♫]+")
_DASH = re.compile(r"[-–—‐]\s?(?=\S)")
_CONTIGUOUS = 0.1
"""Seconds between cues of captions that roll."""
_ROLLED = 4
"""Lines that a cue of such may say again."""


@dataclass(frozen=True)
class _Cue:
    begin: float
    end: float
    lines: list[str]
    """Without tags."""


def parts(source: SubtitlesSource, file: ExternalFile, size: int) -> list[Part]:
    """One: a file is a record."""
    return [Part(file)]


def read(source: SubtitlesSource, part: Part, limits: Limits) -> Iterator[Found]:
    """The text of a file.

    Raises:
        Damaged: the file breaks off.
    """
    metadata: dict[str, Any] = {"url": "", "title": PurePosixPath(part.file.name).name.partition(".")[0]}
    with open_stream(part) as stream:
        content = stream.read(limits.bytes + 1)
    if len(content) > limits.bytes:
        yield Document(text="", id="", metadata=metadata), "too_large"
        return
    try:
        text = charset.decode(content)[0].replace("\r\n", "\n").replace("\r", "\n")
    except NotText as finding:
        yield Document(text="", id="", metadata=metadata | {"failure": str(finding)}), "failure/encoding"
        return
    cues = list(_cues(text))
    if not cues:
        metadata["failure"] = "no cue (00:00:01,000 --> 00:00:04,000) is in it"
        note_record(metadata, len(text))
        yield Document(text="", id="", metadata=metadata), "failure/subtitles"
        return
    cut = {"sounds": 0, "repeated": 0}
    said = _joined(_spoken(_once(cues, cut), cut, keep=source.sounds), source.pause)
    note_record(metadata, len(text), **cut)
    yield Document(text=said, id="", metadata=metadata), None if len(said) >= source.min_characters else "too_short"


def _cues(text: str) -> Iterator[_Cue]:
    """What follows each line of timing; in WebVTT an empty line ends it, for remarks and styles stand alone.

    Raises:
        Damaged: the last line of timing is not whole.
    """
    lines = text.split("\n")
    is_vtt = lines[0].startswith("WEBVTT")
    timings = [(at, found) for at, line in enumerate(lines) if (found := _TIMING.fullmatch(line))]
    ends = [at for at, _ in timings[1:]] + [len(lines)]
    for (at, found), end in zip(timings, ends, strict=False):
        said = lines[at + 1 : end]
        if is_vtt:
            said = [html.unescape(line) for line in takewhile(str.strip, said)]
        elif end < len(lines) and said and said[-1].strip().isdecimal():
            said.pop()  # the number of the next
        bare = (" ".join(_TAG.sub("", line).split()) for line in said)
        clock = found.groups("0")
        yield _Cue(_seconds(clock[:4]), _seconds(clock[4:]), [line for line in bare if line])
    if _BEGUN.fullmatch(lines[-1]):
        raise Damaged(f"line {len(lines)}", "truncated: the last line of timing is not whole")


def _seconds(clock: tuple[str, ...]) -> float:
    hours, minutes, seconds, fraction = clock
    return int(hours) * 3600 + int(minutes) * 60 + int(seconds) + float(f"0.{fraction}")


def _once(cues: list[_Cue], cut: dict[str, int]) -> Iterator[_Cue]:
    """The cues without the lines at their beginning that the cue right before them ends with."""
    before = _Cue(0, -1, [])
    for cue in cues:
        rolls = abs(cue.begin - before.end) <= _CONTIGUOUS or before.begin <= cue.begin < before.end
        most = min(_ROLLED, len(cue.lines))
        again = max((n for n in range(1, most + 1) if before.lines[-n:] == cue.lines[:n]), default=0)
        fresh = cue.lines[again:] if rolls else cue.lines
        cut["repeated"] += sum(map(len, cue.lines)) - sum(map(len, fresh))
        yield _Cue(cue.begin, cue.end, fresh)
        before = cue


def _spoken(cues: Iterator[_Cue], cut: dict[str, int], *, keep: bool) -> Iterator[_Cue]:
    for cue in cues:
        lines = cue.lines if keep else [" ".join(_SOUND.sub("", line).split()) for line in cue.lines]
        cut["sounds"] += sum(map(len, cue.lines)) - sum(map(len, lines))
        yield _Cue(cue.begin, cue.end, [line for line in lines if line.strip("-–—‐ ")])


def _joined(cues: Iterator[_Cue], pause: float) -> str:
    """Lines of text: one that goes on in lower case joins the one before."""
    pieces: list[str] = []
    end: float | None = None
    for cue in cues:
        for number, line in enumerate(cue.lines):
            is_late = number == 0 and end is not None and cue.begin - end > pause
            goes_on = line[0].islower() or (number > 0 and not _DASH.match(line))
            if pieces:
                hyphen = pieces[-1].endswith("-")
                pieces.append("\n\n" if is_late else "\n" if not goes_on else "" if hyphen else " ")
            pieces.append(line)
        end = cue.end if cue.lines else end
    return "".join(pieces)
