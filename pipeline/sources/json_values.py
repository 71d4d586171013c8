"""JSON values of a file whose records are no lines: an array of them, or objects over several lines each.

Where they end is told by brackets and quotes alone, so that no more than one is held, and one that is no JSON costs
itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator

from pipeline.sources.stream import CHUNK, Damaged, Stream

__all__ = ["BLANK", "are_values", "held_at", "is_open", "json_values"]

BLANK = b" \t\r\n\0\x1a\x1e\xef\xbb\xbf"
"""What may stand around a record, and on a line of none: some systems end a text with Control-Z or fill it up with
NULs, files that were joined have byte order marks within, and RFC 7464 has a mark before each record."""
_BEGINS = re.compile(rb"\[\s*(?:[\[{\"]|\]?\s*\Z)|\{[ \t]*(?:\r?\n\s*(?:[\"}]|\Z)|\Z)")
_MARK, _MARK_WITHIN = re.compile(rb"[\"\[\]{},]"), re.compile(rb"[\"\[\]{}]")
"""What may end a value, and what may end what stands within one."""
_HEAD = 1 << 16
"""Bytes of an object in which the key stands that holds all records."""
_OBJECT = re.compile(r"\{\s*")
_KEY = re.compile(r"\"([^\"\\]*)\"\s*:\s*")
_HOLDERS = ("data", "rows", "records", "examples", "train", "instances")
"""Keys of an object that holds all records of a file."""
_OF_OBJECTS = re.compile(r"\[\s*[{\]]")
_COMMA = re.compile(r"\s*,\s*")
_DECODER = json.JSONDecoder(strict=False)
_OF_STRING = re.compile(rb"[^\"\\]*+(?:\\.[^\"\\]*+)*+", re.DOTALL)


def are_values(head: bytes) -> bool:
    """Whether a file that begins so is of values that are no lines."""
    return _BEGINS.match(head.lstrip(BLANK)) is not None


def is_open(line: bytes) -> bool:
    """Whether brackets or quotes of a line have no end."""
    cutter = _Cutter(0)
    _ = list(cutter.of(line))
    return cutter.is_open


def held_at(stream: Stream, own: Collection[str], most: int) -> int:
    """Bytes before the list of objects in which a file that is one object holds its records; 0 of any other file.

    Args:
        own: keys of a record: an object with one of them before the list is itself one. With none, nothing is held.
        most: bytes that are looked through for a second object.
    """
    head = stream.sample(_HEAD)[:_HEAD] if own else b""
    begin = len(head) - len(head.lstrip(BLANK))
    at = _held_at(head[begin:].decode("latin-1"), own)  # in which a byte is a character
    if not at:
        return 0
    cutter = _Cutter(0)
    objects = len(list(cutter.of(stream.sample(most)))) + cutter.is_open
    return begin + at if objects == 1 else 0


def _held_at(head: str, own: Collection[str]) -> int:
    opened = _OBJECT.match(head)
    while opened and (key := _KEY.match(head, opened.end())) and key[1] not in own:
        if key[1] in _HOLDERS and _OF_OBJECTS.match(head, key.end()):
            return key.end()
        try:
            opened = _COMMA.match(head, _DECODER.raw_decode(head, key.end())[1])
        except (ValueError, RecursionError):
            break
    return 0


def json_values(stream: Stream, most: int, *, is_one_array: bool = False) -> Iterator[bytes | None]:
    """Each value in the bytes of the file, those of an array one by one; None for one of more than `most` bytes.

    Args:
        is_one_array: of the array that comes next alone.

    Raises:
        Damaged: the file breaks off.
    """
    cutter = _Cutter(most, is_one_array=is_one_array)
    number = 0
    for piece in _pieces(stream):
        for value in cutter.of(piece):
            number += 1
            yield value
        if cutter.is_over:
            return
    if cutter.is_open:
        raise Damaged(f"record {number + 1}", "truncated: the JSON does not end")
    yield from cutter.value()


def _pieces(stream: Stream) -> Iterator[bytes]:
    """The bytes of a file, those before the place where it is damaged too."""
    try:
        while piece := stream.read(CHUNK):
            yield piece
    except Damaged:
        yield stream.sample(0)
        raise


class _Cutter:
    """Cuts the pieces of a file where values end."""

    def __init__(self, most: int, *, is_one_array: bool = False) -> None:
        self._most, self._is_one_array = most, is_one_array
        self._held, self._size = bytearray(), 0
        """What is there of the next value, and of how many bytes that is: of too many nothing is held."""
        self._depth = 0
        self._in_array = self._in_string = self._is_escaped = False
        self.is_over = False
        """Whether the one array has ended."""

    @property
    def is_open(self) -> bool:
        """Whether something has begun that has not ended."""
        return bool(self._depth) or self._in_array or self._in_string

    def of(self, piece: bytes) -> Iterator[bytes | None]:
        """The values that end in the next piece."""
        at = begin = 0
        while at < len(piece):
            if self._in_string:
                at = self._pass_string(piece, at)
                continue
            if not (mark := (_MARK_WITHIN if self._depth else _MARK).search(piece, at)):
                break
            at, sign = mark.end(), mark[0]
            if sign == b'"':
                self._in_string = True
            elif sign == b"[" and not (self.is_open or self._held.strip(BLANK) or piece[begin : at - 1].strip(BLANK)):
                self._in_array, begin = True, at
            elif sign in b"[{":
                self._depth += 1
            elif sign == b"," and not self._depth:
                self._hold(piece[begin : at - 1])
                begin = at
                yield from self.value()
            elif sign in b"]}":
                is_end = sign == b"]" and not self._depth
                self._hold(piece[begin : at - 1 if is_end else at])
                begin = at
                self._depth = max(0, self._depth - 1)
                if is_end:
                    self._in_array = False
                if not self._depth:
                    yield from self.value()
                if is_end and self._is_one_array:
                    self.is_over = True
                    return
        self._hold(piece[begin:])

    def _pass_string(self, piece: bytes, at: int) -> int:
        """The byte after the string, or after the piece."""
        at = _OF_STRING.match(piece, at + self._is_escaped).end()  # type: ignore[union-attr]
        self._in_string = piece[at : at + 1] != b'"'
        self._is_escaped = at == len(piece) - 1 and piece.endswith(b"\\")
        return at + 1

    def _hold(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > self._most:
            self._held.clear()
        else:
            self._held += data

    def value(self) -> Iterator[bytes | None]:
        """The value that has ended, if there is one."""
        value, size = bytes(self._held).strip(BLANK), self._size
        self._held.clear()
        self._size = 0
        if value or size > self._most:
            yield value if size <= self._most else None
