"""Bytes of a raw file, or of a part of one, as its reader wants them: decompressed, counted, never silently cut short.

A part is a range of the file's own bytes. What it holds are the records that begin in it, so it may read on beyond its
end. Every decompressed byte has an origin: its place in a plain file, the beginning of its member where members are
many, the place of the chunk that it came out of where there is only one (such a part decodes the file from its
beginning, which costs little beside what is then done with the text). All parts of a file see the same origins.

The libraries in between each have a case in which a file that breaks off looks like one that ends, so the ends are
checked here. After a corrupt member `resync` goes on with the next one that is whole.
"""

from __future__ import annotations

import codecs
import contextlib
import itertools
import math
import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import IO

from infra import events
from infra.storage import ExternalFile, open_file
from infra.web_files import TooLargeError
from pipeline.sources.codecs import CHUNK, DECODER_ERRORS, find_member, recognise
from pipeline.sources.signatures import file_of
from pipeline.tasks.documents import Document

__all__ = [
    "CHUNK",
    "Damaged",
    "Foreign",
    "Found",
    "Limits",
    "Part",
    "Stream",
    "Walk",
    "most_decoded",
    "open_stream",
    "tidy",
    "wide_encoding",
]

FREE = 1 << 30
"""Bytes that any compressed file may become."""
EXPANSION = 200
"""Times its own size that a larger one may become: text becomes three, and a hundred if it repeats itself."""
READS = 1_000_000
"""Lines and records that any file may have beyond two for each of its bytes, empty ones included."""
MOST_DAMAGES = 1000
"""Times that reading goes on after damage."""
SLICE = 1 << 16
"""Bytes given to a decoder at once."""
_INK = re.compile(rb"[^\0]")
LONGEST_MARK = 32
"""Bytes of the longest mark that a reader looks for."""
TAIL = 256

Found = tuple[Document, str | None]
"""What a reader yields: a document, and the rule that rejects it or None. `failure/...` says it could not be read."""


@dataclass(frozen=True)
class Limits:
    """What one record may cost."""

    bytes: int = 16_000_000
    """Larger ones are rejected; no more than a few times this is held in memory."""
    seconds: float = 30.0
    """Of processor time to turn one into text."""


class Damaged(Exception):  # noqa: N818  (the state of a file, raised where reading it ends)
    """A file cannot be read on. `place` says where in it, `problem` what is wrong; neither names the file."""

    def __init__(self, place: str, problem: str) -> None:
        super().__init__(place, problem)

    def __str__(self) -> str:
        return ": ".join(self.args)

    @property
    def remedy(self) -> str:
        """What to do, for the end of a sentence."""
        return "get the file again"


class Foreign(Damaged):
    """A file is whole, but something else than its reader reads: `what`, and the `remedy`."""

    def __str__(self) -> str:
        return f"this is {self.args[0]}, which is not read here"

    @property
    def remedy(self) -> str:
        return str(self.args[1])


def most_decoded(size: int) -> int:
    """Bytes that a compressed file of `size` bytes may become: more than any text does, and less than a bomb."""
    return max(FREE, EXPANSION * size)


class Walk(StrEnum):
    """How a part of a file is reached."""

    SEEK = "seek"
    """Its first byte is read first: the file is not compressed."""
    MEMBERS = "members"
    """It begins with a member."""
    DECODE = "decode"
    """What comes before is decoded first: the file has a single member."""


@dataclass(frozen=True)
class Part:
    """The records of `file` that begin from byte `begin` on and, if there is an `end`, before it."""

    file: ExternalFile
    begin: int = 0
    end: int | None = None
    walk: Walk = Walk.SEEK
    hop: bool = False
    """The stream begins with the file, for its reader must hop from record to record, each of which says how long it
    is: where one begins cannot be told from the bytes. Without meaning where a part begins with a member."""

    @property
    def size(self) -> int:
        """Bytes of the file in it."""
        return (self.file.size if self.end is None else self.end) - self.begin


class Stream:
    """Decompressed bytes of a part and of what follows it, with the few ways of reading that the formats need."""

    def __init__(self, raw: IO[bytes], part: Part, signature: bytes = b"", *, is_look: bool = False) -> None:
        self._raw, self._part, self._signature = raw, part, signature
        try:
            self.codec, self._ahead = recognise(raw)
        except DECODER_ERRORS as error:
            raise Damaged("byte 0", f"corrupt zstd dictionary ({error})") from None
        if foreign := file_of(self._ahead, part.file.name):
            raise Foreign(*foreign)
        """`_ahead` was read before the beginning was asked for: not every server can send a file from the middle."""
        self._member = 0
        self._room = most_decoded(part.file.size)
        """Decoded bytes that may still come."""
        self._reads = READS + 2 * part.file.size
        """Times that it may still be read from."""
        self._damages = 0
        self._reported: float = math.inf if is_look else part.begin
        """Up to where progress was told: what is read again, and what lies beyond the part, is none."""
        self._hops = part.hop and part.walk is not Walk.MEMBERS
        self._plain_at = 0 if self._hops else part.begin
        self._blocks: Iterator[tuple[int, bytes]] = self._decoded(part.begin) if self.codec else self._plain()
        self._buffer = bytearray()
        self.position = 0
        """Decompressed bytes consumed since the part's first."""
        self.tail = b""
        """The last bytes that `skip_to` has passed over."""
        self._begin: int | None = part.begin if self._hops and not self.codec else None
        """Where the reader hops: position of the first byte whose origin is in the part, once it is known."""
        self._end: int | None = None
        """Position of the first byte whose origin is beyond the part, once it is known."""

    def _read(self, at: int, size: int = 0) -> bytes:
        size = size or CHUNK
        try:
            data = self._ahead[:size] + self._raw.read(max(0, size - len(self._ahead)))
        except TooLargeError as error:
            raise Damaged(f"byte {at}", str(error)) from None
        self._ahead = self._ahead[size:]
        ends = at + len(data) if self._part.end is None else min(at + len(data), self._part.end)
        if ends > self._reported:
            events.advance(ends - max(at, int(self._reported)))
            self._reported = ends
        return data

    def _seek(self, at: int) -> None:
        if at or not self._ahead:
            self._ahead = b""
            self._raw.seek(at)

    def _plain(self) -> Iterator[tuple[int, bytes]]:
        """Blocks with the origin of their first byte; none spans the end of the part."""
        end = self._part.end
        self._seek(self._plain_at)
        while True:
            at = self._plain_at
            data = self._read(at, CHUNK if end is None or at >= end else min(CHUNK, end - at))
            if not data:
                return
            self._plain_at += len(data)
            yield at, data

    def _decoded(self, start: int) -> Iterator[tuple[int, bytes]]:
        """Blocks with their origin; an empty one where a member begins."""
        assert self.codec
        whole = self._part.walk is Walk.DECODE
        at = 0 if whole else start
        self._seek(at)
        chunk, used = b"", 0
        while True:
            while not (begin := _INK.search(chunk, used)):  # tapes are padded with zeros
                chunk, used = self._read(at), 0
                if not chunk:
                    return
                at += len(chunk)
            used = begin.start()
            self._member = origin = at - len(chunk) + used
            decoder = self.codec.new()
            yield origin, b""
            while not decoder.eof:
                try:
                    # Little at once: what a decoder does not use it gives back as a copy, and members may be small.
                    piece = chunk[used : used + SLICE]
                    used += len(piece)
                    data = decoder.decompress(piece, CHUNK)
                    if not data and not decoder.eof and used == len(chunk):
                        origin = at if whole else origin
                        chunk, used = self._read(at), 0
                        at += len(chunk)
                        if not chunk:
                            raise Damaged(f"byte {at}", f"truncated: the {self.codec.name} data breaks off")
                except DECODER_ERRORS as error:
                    raise self._undecodable(error, at) from None
                self._room -= len(data)
                if self._room < 0:
                    raise Damaged(f"byte {at}", f"the {self.codec.name} data becomes more than a text of this size can")
                if data and (origin >= start or self._hops or not whole):
                    yield origin, data
            used -= len(decoder.unused_data)

    def _undecodable(self, error: Exception, at: int) -> Damaged:
        """Why nothing more can be decoded; of a whole file it is said at its beginning."""
        assert self.codec
        begins, said = not self.position and not self._buffer, str(error).lower()
        if begins and "memory" in said:
            return Foreign(f"{self.codec.name} data that takes too much memory", "compress it with a smaller window")
        if begins and "dictionary" in said:
            return Foreign(f"{self.codec.name} data with a dictionary that is elsewhere", "decompress it with that")
        return Damaged(f"between bytes {self._member} and {at}", f"corrupt {self.codec.name} data ({error})")

    def _more(self) -> bool:
        """Take a further block in; whether there was one."""
        for origin, data in self._blocks:
            if self._hops and self._begin is None and origin >= self._part.begin:
                self._begin = self.position + len(self._buffer)
            end = self._part.end
            if end is not None and self._end is None and origin >= end:
                self._end = self.position + len(self._buffer)
                if self._part.walk is Walk.MEMBERS and origin != end:
                    raise Damaged(
                        f"byte {end}",
                        "what looks like the start of a member lies within another; "
                        "set extract.split_bytes larger than the file",
                    )
            if data:
                self._buffer += data
                return True
        return False

    def mine(self, back: int = 0) -> bool:
        """Whether there is a further byte, and the one `back` before it is of this part and not of the next."""
        while not self._buffer:
            if not self._more():
                return False
        return self._end is None or self.position - back < self._end

    def resync(self) -> bool:
        """After damage: go on with the next whole member, if there is one. What was not consumed is lost."""
        self._damages += 1
        spent = self._room < 0 or self._reads < 0 or self._damages > MOST_DAMAGES
        if self.codec is None or self._part.walk is Walk.DECODE or spent:
            return False
        try:
            place = find_member(self._raw, self.codec, self._member + 1, None, self._signature)
        except (OSError, ValueError):  # a web server that cannot send a part of a file
            return False
        if place is None:
            return False
        self.position += len(self._buffer)
        self._buffer.clear()
        self._blocks = self._decoded(place)
        return True

    def _take(self, size: int) -> bytes:
        self._reads -= 1
        if self._reads < 0:
            raise Damaged(f"decoded byte {self.position}", "more lines or records than a file of this size can hold")
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        self.position += len(data)
        return data

    def read(self, size: int = -1) -> bytes:
        """`size` bytes, or all that are left."""
        while (size < 0 or len(self._buffer) < size) and self._more():
            pass
        return self._take(len(self._buffer) if size < 0 else size)

    def skip(self, size: int) -> int:
        """Pass over `size` bytes without holding them; how many there were."""
        left = size - len(self._take(min(size, len(self._buffer))))
        far = min(left, self._part.file.size - self._plain_at) // CHUNK * CHUNK
        if self.codec is None and self._hops and far > 0:
            self._plain_at += far
            self.position += far
            self._seek(self._plain_at)
            left -= far
        while left and (self._buffer or self._more()):
            left -= len(self._take(min(left, len(self._buffer))))
        return size - left

    @property
    def before(self) -> bool:
        """Whether the next byte (`mine` has seen to it) is of an earlier part: only where a reader hops."""
        return self._hops and (self._begin is None or self.position < self._begin)

    def readline(self, most: int) -> bytes:
        """A line with its end, or the first `most` bytes of it."""
        searched = 0
        while True:
            at = self._buffer.find(b"\n", searched)
            if at >= 0 or len(self._buffer) >= most:
                return self._take(min(at + 1, most) if at >= 0 else most)
            searched = len(self._buffer)
            if not self._more():
                return self._take(len(self._buffer))

    def take_through(self, mark: re.Pattern[bytes], most: int) -> bytes:
        """What comes before `mark` and the mark; empty where that is more than `most` bytes or has no end."""
        searched = 0
        while True:
            found = mark.search(self._buffer, searched)
            end = found.end() if found else 0
            del found  # it holds the buffer
            if 0 < end <= most:
                return self._take(end)
            searched = max(0, len(self._buffer) - LONGEST_MARK)
            if end or searched > most or not self._more():
                return b""

    def skip_to(self, mark: re.Pattern[bytes]) -> bool:
        """Pass over what comes before `mark`; False where there is none, and then everything is passed over."""
        while True:
            found = mark.search(self._buffer)
            begin = found.start() if found else -1
            del found
            if begin >= 0:
                self.tail = (self.tail + self._take(begin)[-TAIL:])[-TAIL:]
                return True
            self.tail = (self.tail + self._take(max(0, len(self._buffer) - LONGEST_MARK))[-TAIL:])[-TAIL:]
            if not self._more():
                self.tail = (self.tail + self._take(len(self._buffer)))[-TAIL:]
                return False

    def sample(self, most: int) -> bytes:
        """The next bytes, which stay to be read: `most`, or a little more, or as many as there are."""
        while len(self._buffer) < most and self._more():
            pass
        return bytes(self._buffer)

    def give_back(self, data: bytes) -> None:
        """Let the last bytes that were read be read again."""
        self._buffer[:0] = data
        self.position -= len(data)

    def recode(self, encoding: str = "") -> None:
        """Go over to UTF-8, once, at the beginning of a file that shows to be UTF-16 or UTF-32.

        Args:
            encoding: that of the file, by the name of Python's codec, where it does not.
        """
        if encoding := wide_encoding(self.sample(_WIDE)) or encoding:
            blocks = itertools.chain([(0, bytes(self._buffer))], self._blocks)
            self._buffer.clear()
            decoder = codecs.getincrementaldecoder(encoding)("replace")
            self._blocks = ((origin, decoder.decode(data).encode("utf-8", "replace")) for origin, data in blocks)

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(self._blocks, Generator):
            self._blocks.close()


@contextlib.contextmanager
def open_stream(part: Part, signature: bytes = b"", *, is_look: bool = False) -> Iterator[Stream]:
    """The decompressed bytes of `part`. `signature` is how the content of a member begins, where that is known;
    a look is not told as progress.

    Raises:
        Damaged: while reading, where the compressed data is corrupt or breaks off.
    """
    with open_file(part.file) as raw, Stream(raw, part, signature, is_look=is_look) as stream:
        yield stream


_WIDE = 8
"""Bytes by which a text with more than one for every character is told."""
_WIDE_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_WIDE_ASCII = (
    (re.compile(rb"(?:[^\0]\0\0\0){2}"), "utf-32-le"),
    (re.compile(rb"(?:\0\0\0[^\0]){2}"), "utf-32-be"),
    (re.compile(rb"(?:[^\0]\0){4}"), "utf-16-le"),
    (re.compile(rb"(?:\0[^\0]){4}"), "utf-16-be"),
)
"""Two or four characters of ASCII, with which tables, lines of JSON and XML begin."""


def wide_encoding(head: bytes) -> str:
    """UTF-16 or UTF-32, by the name of Python's codec, where a text begins so; '' for any other."""
    marked = (name for mark, name in _WIDE_MARKS if head.startswith(mark))
    return next(marked, next((name for begins, name in _WIDE_ASCII if begins.match(head)), ""))


_GAPS = re.compile(r"\n{3,}")


def tidy(text: str) -> str:
    """Without white space at the ends of lines and of the text, and with at most one empty line in a row."""
    # Line by line: a pattern for the spaces before a line end is tried anew at each space of a long run.
    lines = [line.rstrip() for line in text.replace("\r\n", "\n").split("\n")]
    return _GAPS.sub("\n\n", "\n".join(lines)).strip()
