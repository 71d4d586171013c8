"""Searches by keys and blocks against looking everywhere, with pieces so small that every border is met."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.errors import UserError
from infra.ranges import RemoteFolder
from pipeline.index.card import CARD, IndexCard, PieceEntry
from pipeline.index.columns import Blocks, ColumnFile, FetchedColumn
from pipeline.index.search import Patterns, Piece, open_pieces
from pipeline.index.stage import keys_of, suffix_array

LARGEST = 65_535
"""A token that may be one, and stands in keys for the piece's end."""


@pytest.fixture
def small_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key for every other suffix, three keys to one of the level above, six bytes to a block."""
    monkeypatch.setattr("pipeline.index.card.KEY_EVERY", 2)
    monkeypatch.setattr("pipeline.index.card.FANOUT", 3)
    monkeypatch.setattr("pipeline.index.search.BLOCK", 8)
    monkeypatch.setattr("pipeline.index.search.LARGE_BLOCK", 8)
    monkeypatch.setattr("pipeline.index.search.FANOUT", 3)


def written(folder: Path, values: list[int]) -> list[Piece]:
    """A piece of these tokens, mapped and fetched."""
    tokens = np.asarray(values, "<u2")
    suffixes = suffix_array(tokens)
    (folder / "pieces").mkdir()
    starts = np.arange(0, len(values), 3)
    columns = {
        "tokens": tokens,
        "suffixes": suffixes.astype("<u4"),
        "keys": keys_of(tokens, suffixes),
        "starts": starts.astype("<u4"),
        "documents": (starts + 100).astype("<u8"),
    }
    for ending, column in columns.items():
        column.tofile(folder / "pieces" / f"p.{ending}")
    entry = PieceEntry(name="p", source="s", tokens=len(values), documents=len(starts))
    (folder / CARD).write_text(IndexCard(dtype="uint16", eos=0, pieces=[entry]).model_dump_json())
    return [open_pieces(place)[1][0] for place in (str(folder), f"file://{folder}")]


TOKENS = st.sampled_from([1, 2, 3, LARGEST - 1, LARGEST])


@pytest.mark.usefixtures("small_levels")
@given(st.lists(TOKENS, min_size=1, max_size=60), st.lists(TOKENS, min_size=1, max_size=12))
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_search_agrees_with_looking_everywhere(values: list[int], asked: list[int]) -> None:
    text = asked + values[len(values) // 3 :][:20]
    count = len(text)
    zeros = np.zeros(count, np.int64)
    patterns = Patterns(zeros[:1], zeros, zeros, np.asarray(text), np.arange(count), count - np.arange(count))
    with tempfile.TemporaryDirectory() as folder:
        for piece in written(Path(folder), values):
            longest = piece.longest(patterns).tolist()
            for begin, length in enumerate(longest):
                runs = [text[begin : begin + more] for more in range(1, count - begin + 1)]
                assert length == sum(any(values[at:][: len(run)] == run for at in range(len(values))) for run in runs)
            lows, highs = piece.ranges(patterns.cut(range(count), longest))
            for begin, (low, high) in enumerate(zip(lows.tolist(), highs.tolist(), strict=True)):
                run = text[begin : begin + longest[begin]]
                places = [at for at in range(len(values)) if values[at:][: len(run)] == run]
                assert sorted(piece.places(low, high).tolist()) == places
            everywhere = np.arange(len(values))
            assert piece.documents_at(everywhere).tolist() == (everywhere // 3 * 3 + 100).tolist()


def test_blocks_are_fetched_once_and_the_least_used_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.arange(10, dtype="<u2").tofile(tmp_path / "numbers")
    fetched: list[int] = []
    whole = RemoteFolder.ranges

    def watched(folder: RemoteFolder, wanted: list[tuple[str, int, int]]) -> list[bytes]:
        fetched.extend(begin // 4 for _, begin, _ in wanted)
        return whole(folder, wanted)

    monkeypatch.setattr(RemoteFolder, "ranges", watched)
    blocks = Blocks(RemoteFolder(f"file://{tmp_path}"), kept_bytes=8)
    column = FetchedColumn(blocks, ColumnFile("numbers", "<u2", (10,), 4))
    for rows, new in (
        ([[9, 0], [1, 8]], [0, 4]),
        ([9, 1], []),
        ([2], [1]),
        ([8, 3], []),
        ([0], [0]),
        ([9], []),
        ([2], [1]),
    ):
        fetched.clear()
        assert column.take(np.asarray(rows)).tolist() == rows
        assert fetched == new, rows
    (tmp_path / "numbers").unlink()
    with pytest.raises(UserError, match="numbers: it has gone; make the index again"):
        column.take(np.asarray([5]))


def test_an_index_of_another_format_is_told(tmp_path: Path) -> None:
    for body, why in (("{}", "damaged"), ('{"format": 1}', "format 1, 2 is wanted"), ('{"format": 2}', "damaged")):
        (tmp_path / CARD).write_text(body)
        with pytest.raises(UserError, match=f"index.json: {why}.*make the index again"):
            open_pieces(str(tmp_path))
