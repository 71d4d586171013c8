"""Spans of texts that stand in training documents, against plain searches through all of them."""

from __future__ import annotations

import random
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from infra.errors import UserError
from pipeline.index.columns import Column
from pipeline.index.search import Patterns, open_pieces
from pipeline.index.section import IndexConfig
from pipeline.index.spans import WORD, Sources, Span
from pipeline.index.stage import index, suffix_array
from pipeline.sections import ShardsConfig
from pipeline.tokens.shards import shards
from tests.examples import examples
from tests.pipeline.corpus import published, set_workers, words, write_documents
from tests.pipeline.tokens.test_tokenizer import small_tokenizer

ODD = (
    "<|eos|> is plain text here, as <think> is; naïve 漢字かな交じり文 and 🙂🙃 emoji, 12345 numbers."
    "\n\tTabs (too). self._x.__init__(_y)"
)


def corpus() -> dict[str, str]:
    """Texts by id: of words that few share, one of one word over and over, and one of odd characters."""
    texts = {f"d{i}": words(i, 10 + 7 * i % 90) for i in range(60)}
    return texts | {"same": "over and " * 60, "odd": ODD, "copy": f"Before. {ODD} After."}


TEXTS = corpus()


def make_shards(folder: Path, texts: dict[str, str] = TEXTS, own: Tokenizer | None = None) -> Path:
    """Folders `shards` and `tokenizer` of some texts, with a tokenizer in place of the small one."""
    rows = [(name, "wiki" if place % 3 else "web", text) for place, (name, text) in enumerate(texts.items())]
    inputs = {
        "decontaminate": write_documents(folder / "documents", rows[:20], rows[20:]),
        "tokenizer": small_tokenizer(folder / "tokenizer"),
    }
    if own is not None:
        own.save(str(folder / "tokenizer" / "tokenizer.json"))
    (folder / "shards").mkdir()
    shards(ShardsConfig(sequence_length=16, validation_fraction=0, rows_per_file=100), inputs, folder / "shards")
    shutil.rmtree(folder / "shards" / ".work")
    return folder


def make_index(folder: Path, name: str, piece_tokens: int) -> Path:
    """An index of the shards in `folder`."""
    (folder / name).mkdir()
    metrics = index(IndexConfig(piece_tokens=piece_tokens), {"shards": folder / "shards"}, folder / name)
    assert metrics.index_bytes == sum(file.stat().st_size for file in (folder / name / "pieces").iterdir())
    return folder / name


def values(column: Column) -> list[Any]:
    """All of a column."""
    found: list[Any] = column.take(np.arange(len(column))).tolist()
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shards(tmp_path_factory.mktemp("index"))


@pytest.fixture(scope="module", params=[160, pytest.param(700, marks=pytest.mark.nightly), 1 << 24])
def sources(made: Path, request: pytest.FixtureRequest) -> Sources:
    folder = make_index(made, f"index-{request.param}", request.param)
    return Sources(folder, made / "shards", made / "tokenizer")


def test_the_pieces_hold_each_document_of_the_rows_once(sources: Sources, made: Path) -> None:
    seen: dict[str, str] = {}
    for piece in sources.pieces:
        assert sorted(values(piece.suffixes)) == list(range(piece.entry.tokens))
        begins = values(piece.starts)
        for begin, end, document in zip(
            begins, [*begins[1:], piece.entry.tokens], values(piece.documents), strict=True
        ):
            ids = values(piece.tokens)[begin:end]
            name = sources.names[document]["id"]
            assert name not in seen
            seen[name] = sources.encoder.tokenizer.decode([token for token in ids if token != sources.card.eos])
            if ids[-1] == sources.card.eos:
                assert seen[name] == TEXTS[name]
            assert TEXTS[name].startswith(seen[name])
    assert len(seen) > 55  # what does not fill the last row of its source is in no row


def in_rows(sources: Sources) -> dict[str, str]:
    """The texts that are whole in the rows."""
    last = {sources.names[values(piece.documents)[-1]]["id"] for piece in sources.pieces
            if values(piece.tokens)[-1] != sources.card.eos}  # fmt: skip
    named = {sources.names[index]["id"] for piece in sources.pieces for index in values(piece.documents)}
    return {name: TEXTS[name] for name in named - last}


def test_every_planted_span_is_found_and_nothing_else(sources: Sources) -> None:
    whole = in_rows(sources)
    random_ = random.Random(5)
    names = sorted(name for name in whole if name.startswith("d"))
    for number in range(600 // len(sources.pieces) + 10):
        name = random_.choice(names)
        spans = [match.span() for match in WORD.finditer(whole[name])]
        if len(spans) < 5:
            continue
        first = random_.randrange(len(spans) - 4)
        last = random_.randrange(first + 4, len(spans))
        planted = whole[name][spans[first][0] : spans[last][1]]
        text = f"{words(9000 + number, 6)}{random_.choice([' ', chr(10), ' (', ': “'])}{planted}"
        text += f"{random_.choice([' ', '.', '”, ', chr(10)])}{words(90000 + number, 6)}"
        begin = text.index(planted)
        found = sources.find(text, min_words=5, documents=100)
        hits = [span for span in found if span.begin <= begin and span.end >= begin + len(planted)]
        assert hits, (planted, found)
        assert name in {document["id"] for document in hits[0].documents}
        check_true(text, found)


def check_true(text: str, found: list[Span]) -> None:
    for place, span in enumerate(found):
        assert span.text == text[span.begin : span.end]
        assert span.documents
        assert span.places >= len(span.documents)
        for document in span.documents:
            assert span.text in TEXTS[document["id"]]
            assert document["url"] == f"http://h/{document['id']}"
        if place:  # none lies within another one
            assert span.begin > found[place - 1].begin
            assert span.end > found[place - 1].end


@given(st.lists(st.sampled_from(["d1", "d2", "same", "odd", "copy", "d30"]), min_size=1, max_size=4), st.data())
@settings(deadline=None, max_examples=examples(30))
def test_pieces_of_odd_texts_are_found_whole(made: Path, names: list[str], data: st.DataObject) -> None:
    folder = made / "index-odd"
    whole = Sources(
        folder if folder.exists() else make_index(made, "index-odd", 700), made / "shards", made / "tokenizer"
    )
    parts = []
    for name in names:
        begin = data.draw(st.integers(0, len(TEXTS[name])))
        parts.append(TEXTS[name][begin : data.draw(st.integers(begin, len(TEXTS[name])))])
    text = "".join(parts) + " some words more, which stand nowhere"
    check_true(text, whole.find(text, min_words=1, documents=100))


def test_control_tokens_are_plain_text(sources: Sources) -> None:
    (span,) = sources.find(ODD)
    assert span.text == ODD.removeprefix("<|").rstrip(")")  # from the first word to the last
    assert {document["id"] for document in span.documents} <= {"odd", "copy"}


def test_marks_that_join_do_not_hide_a_word(sources: Sources) -> None:
    """Tokens join "._" and "__(", but a span may begin and end between them."""
    found = sources.find("self._x.__init__[", min_words=2)
    assert [span.text for span in found] == ["self._x.__init"]
    found = sources.find("(_x.__init__(_y.", min_words=3)
    assert [span.text for span in found] == ["x.__init__(_y"]


def test_no_span_crosses_documents(sources: Sources) -> None:
    """Neighbours in the shards, as if they were one text, and with the control token written out between them."""
    for piece in sources.pieces:
        names = [sources.names[each]["id"] for each in values(piece.documents)[:-1]]
        for one, other in pairwise(names[:3]):
            for between in ("", " ", "<|eos|>"):
                text = TEXTS[one] + between + TEXTS[other]
                check_true(text, sources.find(text, documents=100, min_words=1))


def test_the_same_bytes_for_any_number_of_workers(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(made / "shards", tmp_path / "shards")
    monkeypatch.setattr("pipeline.index.stage.FEW", 0)
    set_workers(monkeypatch, 1)
    one = published(make_index(tmp_path, "one", 700))
    set_workers(monkeypatch, 2)
    assert published(make_index(tmp_path, "two", 700)) == one
    assert len(one) > 4


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.sampled_from(["u2", "u4"]), st.integers(0, 300))
def test_suffixes_are_sorted(values: list[int], kind: str, more: int) -> None:
    tokens = (np.asarray(values) * (more + 1)).astype(f"<{kind}")
    plain = sorted(range(len(values)), key=lambda place: values[place:])
    assert suffix_array(tokens).tolist() == plain


@given(st.lists(st.integers(3, 8), min_size=1, max_size=40))
@settings(deadline=None)
def test_a_search_agrees_with_looking_everywhere(sources_of_one: Sources, asked: list[int]) -> None:
    (piece,) = sources_of_one.pieces
    corpus_tokens = values(piece.tokens)
    low, high = min(corpus_tokens[:200]), 60
    text = [low + token * 7 % high for token in asked] + corpus_tokens[50:70]
    count = len(text)
    zeros = np.zeros(count, np.int64)
    patterns = Patterns(zeros[:1], zeros, zeros, np.asarray(text), np.arange(count), count - np.arange(count))
    longest = piece.longest(patterns).tolist()
    lows, highs = piece.ranges(patterns.cut(range(count), longest))
    for begin, length in enumerate(longest):
        run = text[begin : begin + length]
        places = [at for at in range(len(corpus_tokens)) if corpus_tokens[at : at + length] == run]
        assert places == sorted(values(piece.suffixes)[lows[begin] : highs[begin]])
        longer = text[begin : begin + length + 1]
        assert len(longer) == length or not any(
            corpus_tokens[at : at + length + 1] == longer for at in range(len(corpus_tokens))
        )


@pytest.fixture(scope="module")
def sources_of_one(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    folder = make_shards(tmp_path_factory.mktemp("one"), {f"d{i}": words(1, 40) for i in range(3)})
    made = make_index(folder, "index", 1 << 20)
    found = Sources(made, folder / "shards", folder / "tokenizer")
    found.pieces = found.pieces[:1]
    return found


def test_what_cannot_be_looked_up_is_told(sources: Sources, made: Path, tmp_path: Path) -> None:
    for text, why in (
        ("", "has 0 words"),
        ("four words are few", "at least 5 are sought"),
        ("a word " * 20_000, "50000 is the most"),
        ("one two three four five \udc80", "UTF-8"),
    ):
        with pytest.raises(UserError, match=why):
            sources.find(text)
    with pytest.raises(UserError, match="not an index artifact"):
        open_pieces(str(tmp_path))
    broken = make_index(made, f"broken-{len(sources.pieces)}", 700)
    next((broken / "pieces").glob("*.suffixes")).write_bytes(b"1234")
    with pytest.raises(UserError, match="make the index again"):
        open_pieces(str(broken))
