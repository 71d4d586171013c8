"""Where a large file is cut into parts: work that runs side by side, and that a killed stage does not repeat.

The cuts follow from the file's bytes and `extract.split_bytes` alone. A plain file may be cut anywhere (its reader
finds the next record), one of many compressed members where a member begins. One that is a single member can only be
decoded from its beginning: each part does that anew, so there are few of them.
"""

from __future__ import annotations

from infra.storage import ExternalFile, open_file
from pipeline.sources.codecs import DECODER_ERRORS, find_member, first_member, recognise
from pipeline.sources.stream import Part, Walk

__all__ = ["MOST_DECODES", "split"]

MOST_DECODES = 8
"""Parts of a file with a single member: it is decoded about half as often."""


def split(file: ExternalFile, size: int, signature: bytes = b"", hop: bool = False) -> list[Part]:
    """`file` in parts of about `size` bytes; one that is not larger, or cannot be read from the middle, in one.

    `signature` is how the content of every member begins that a part may begin with. `hop` says that the records of
    the format tell their lengths, and that their beginnings cannot be told from their contents.
    """
    count = -(-file.size // size)
    if count < 2:
        return [Part(file)]
    with open_file(file) as raw:
        try:
            codec, _ = recognise(raw)
        except DECODER_ERRORS:  # whoever reads it says so
            return [Part(file)]
        try:
            raw.seek(file.size // 2)
        except (OSError, ValueError):  # a web server that cannot send a part of a file
            return [Part(file)]
        if codec is None:
            walk = Walk.SEEK
            cuts = [file.size * number // count for number in range(1, count)]
        elif (end := first_member(raw, codec)[1]) is not None and end < file.size:
            walk = Walk.MEMBERS
            aims = [file.size * number // count for number in range(1, count)]
            found = (
                find_member(raw, codec, aim, until, signature)
                for aim, until in zip(aims, [*aims[1:], file.size], strict=True)
            )
            cuts = [cut for cut in found if cut is not None]
        else:
            walk = Walk.DECODE
            count = min(count, MOST_DECODES)
            cuts = [file.size * number // count for number in range(1, count)]
    begins = [0, *cuts]
    return [Part(file, begin, end, walk, hop) for begin, end in zip(begins, [*cuts, None], strict=True)]
