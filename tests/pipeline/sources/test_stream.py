"""Compressed files: any number of members, and every way of breaking off is noticed."""

from __future__ import annotations

import bz2
import gzip
import lzma
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from backports import zstd

from pipeline.sources.stream import Damaged, Part, open_stream, tidy
from tests.pipeline.sources.raw import external

CONTENT = random.Random(1).randbytes(3000) + b"plain and simple " * 500
KINDS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": lambda data: zstd.compress(data, options={zstd.CompressionParameter.checksum_flag: 1}),
}


def _content(path: Path, data: bytes) -> bytes:
    with open_stream(Part(external(path, data))) as stream:
        return stream.read()


@pytest.mark.parametrize("compress", [*KINDS.values(), bytes], ids=[*KINDS, "plain"])
@pytest.mark.parametrize("members", [0, 1, 3])
def test_all_members_are_read(tmp_path: Path, compress: Callable[[bytes], bytes], members: int) -> None:
    assert _content(tmp_path / "f", compress(CONTENT) * members) == CONTENT * members


def test_more_than_a_chunk(tmp_path: Path) -> None:
    data = random.Random(2).randbytes(2_500_000)
    assert _content(tmp_path / "f", gzip.compress(data, 1) + gzip.compress(b"end")) == data + b"end"
    zeros = bytes(30_000_000)
    assert _content(tmp_path / "g", gzip.compress(zeros)) == zeros, "a small input with a large output"


@pytest.mark.parametrize("name", KINDS)
def test_every_cut_but_between_members_is_noticed(tmp_path: Path, name: str) -> None:
    member = KINDS[name](CONTENT[:150])
    data = member * 2
    for end in range(6, len(data)):
        if end == len(member):
            assert _content(tmp_path / "f", data[:end]) == CONTENT[:150]
        else:
            with pytest.raises(Damaged, match="truncated"):
                _content(tmp_path / "f", data[:end])


@pytest.mark.parametrize("name", KINDS)
def test_corruption_and_trailing_rubbish_are_noticed(tmp_path: Path, name: str) -> None:
    data = bytearray(KINDS[name](CONTENT))
    data[len(data) // 2] ^= 0x55
    with pytest.raises(Damaged, match=f"corrupt {name} data"):
        _content(tmp_path / "f", bytes(data))
    with pytest.raises(Damaged, match=f"corrupt {name} data"):
        _content(tmp_path / "f", KINDS[name](CONTENT) + b"rubbish that is long enough")


def test_zero_padding_is_no_rubbish(tmp_path: Path) -> None:
    assert _content(tmp_path / "f", gzip.compress(CONTENT) + bytes(512)) == CONTENT


def test_other_compressions_are_named(tmp_path: Path) -> None:
    with pytest.raises(Damaged, match="this is a zip archive, which is not read here"):
        _content(tmp_path / "f", b"PK\x03\x04 rest")


def test_tidy() -> None:
    assert tidy("  a \t\r\n\n \n\n  b\u00a0\nc ") == "a\n\n  b\nc"
