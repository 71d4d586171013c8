"""Subtitles and captions (SubRip, WebVTT and others): what is said in a film or a lecture, a document per file.

Numbers, timings, positions and tags go. A line that goes on in lower case joins the one before, a long silence begins a
paragraph. Live captions roll: a cue says again what the one before it ended with, and is kept once. Descriptions of
sounds, for those who cannot hear them, are nothing that anybody says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from infra.storage import ExternalFile
from pipeline.sections import SubtitlesSource
from pipeline.sources import charset
from pipeline.sources.charset import NotText
from pipeline.sources.signatures import content_of
from pipeline.sources.stream import Found, Limits, Part, open_stream
from pipeline.sources.subtitle_formats import Cue, cues_of
from pipeline.tasks.documents import Document
from pipeline.tasks.ledger import note_record

__all__ = ["parts", "read"]

_SOUND = re.compile(
    r"\[[^\[\]]{1,80}\]|(?<!\w)\([^()]{1,80}\)|[♪♫♬]+"
    r"|［[^［］]{1,80}］|【[^【】]{1,80}】|^（[^（）]{1,80}）",
    re.MULTILINE,
)
"""Over two lines too; what stands in brackets right behind a word is a part of it."""
_DASH = re.compile(r"[-–—‐]\s?(?=\S)")
_HEAD = 512
_CONTIGUOUS = 0.1
"""Seconds between cues of captions that roll."""
_ROLLED = 4
"""Lines that a cue of such may say again."""


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
        metadata["failure"] = _named(content) or str(finding)
        yield Document(text="", id="", metadata=metadata), "failure/encoding"
        return
    cues = cues_of(text)
    if not cues:
        metadata["failure"] = _named(content) or "no cue (00:00:01,000 --> 00:00:04,000) is in it"
        note_record(metadata, len(text))
        yield Document(text="", id="", metadata=metadata), "failure/subtitles"
        return
    cut = {"sounds": 0, "repeated": 0}
    said = _joined(_spoken(_once(cues, cut), cut, keep=source.sounds), source.pause)
    note_record(metadata, len(text), **cut)
    yield Document(text=said, id="", metadata=metadata), None if len(said) >= source.min_characters else "too_short"


def _named(content: bytes) -> str:
    """What a file is that has no subtitles, with what to do; '' where that cannot be told."""
    told = content_of(content[:_HEAD])
    return f"this is {told[0]}; {told[1]}" if told else ""


def _once(cues: list[Cue], cut: dict[str, int]) -> Iterator[Cue]:
    """The cues without the lines at their beginning that the cue right before them ends with."""
    before = Cue(0, -1, [])
    for cue in cues:
        rolls = abs(cue.begin - before.end) <= _CONTIGUOUS or before.begin <= cue.begin < before.end
        most = min(_ROLLED, len(cue.lines))
        again = max((n for n in range(1, most + 1) if before.lines[-n:] == cue.lines[:n]), default=0)
        fresh = cue.lines[again:] if rolls else cue.lines
        cut["repeated"] += sum(map(len, cue.lines)) - sum(map(len, fresh))
        yield Cue(cue.begin, cue.end, fresh)
        before = cue


def _spoken(cues: Iterator[Cue], cut: dict[str, int], *, keep: bool) -> Iterator[Cue]:
    for cue in cues:
        said = "\n".join(cue.lines)
        lines = cue.lines if keep else [" ".join(line.split()) for line in _SOUND.sub("", said).split("\n")]
        cut["sounds"] += sum(map(len, cue.lines)) - sum(map(len, lines))
        yield Cue(cue.begin, cue.end, [line for line in lines if line.strip("-–—‐ ")])


def _joined(cues: Iterator[Cue], pause: float) -> str:
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
