from __future__ import annotations

import json
import subprocess
import sys
import unicodedata
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, pre_tokenizers

import pipeline.tokens.pretokenise
from pipeline.sections import TokenizerConfig
from pipeline.tokens.encoder import Encoder, kept_encoder
from pipeline.tokens.pretokenise import NUMBER, PieceTable, character_classes
from pipeline.tokens.tokenizer import train_tokenizer
from tests.examples import examples
from tests.pipeline.corpus import words
from tests.pipeline.tokens.test_tokenizer import PROSE, small_tokenizer

TRICKY = st.text(alphabet="aZ09 .,~'\n\r\t\u0300\u3000\u2028\x85\u00a0éßΩя日本한각٣Ⅷ½!（😀ऀ๑\u1c90")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return _encoder(tmp_path_factory.mktemp("encoder"))


def _encoder(root: Path, **changes: object) -> Encoder:
    return Encoder(small_tokenizer(root / "tokenizer"), **changes)  # type: ignore[arg-type]


@cache
def _multilingual() -> Tokenizer:
    texts = [PROSE * 5, words(0, 400), "日本語の文章です。" * 9, "Привет, мир! " * 9, "한국어 문장입니다. " * 9]
    return train_tokenizer(TokenizerConfig(vocabulary=500), iter(texts))


@given(st.text(st.characters(exclude_categories=["Cs"])) | TRICKY)
@settings(deadline=None, max_examples=examples(400))
def test_ids_are_the_librarys(encoder: Encoder, text: str) -> None:
    assert encoder.fast
    assert encoder([text])[0].tolist() == encoder.slowly([text])[0].tolist()


def test_every_character_is_of_the_librarys_class(encoder: Encoder) -> None:
    """Each after a letter, a space and a digit, and before them."""
    characters = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    known = [c for c in characters if unicodedata.category(c) != "Cn"] + characters[:: 1 << 8]
    for begin in range(0, len(known), 1 << 8):
        text = "".join(f"a{c} {c}1.{c} {c}" for c in known[begin : begin + (1 << 8)])
        assert np.array_equal(encoder([text])[0], encoder.slowly([text])[0])


def test_numbers_are_the_librarys() -> None:
    digits = pre_tokenizers.Digits(individual_digits=True)
    classes = character_classes()
    numbers = "".join(f"a{chr(code)}" for code in np.flatnonzero(classes & NUMBER))
    assert len(digits.pre_tokenize_str(numbers)) == len(numbers) > 3000
    rest = "".join(chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000 and not classes[c] & NUMBER)
    assert len(digits.pre_tokenize_str(rest)) == 1


def test_reasoning_marks_in_text_are_found_and_control_tokens_are_not(encoder: Encoder) -> None:
    text = "so <think>it is</think> 4 <|eos|><|user|>"
    assert encoder([text])[0].tolist() == encoder.slowly([text])[0].tolist()
    assert [i for i in encoder([text])[0].tolist() if i < 7] == [5, 6]


def test_a_full_table_starts_anew(encoder: Encoder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(pipeline.tokens.pretokenise, "MOST_PIECES", 50)
    fresh = _encoder(tmp_path)
    texts = [words(seed, 40) for seed in range(30)]
    for ids, expected in zip(fresh(texts), fresh.slowly(texts), strict=True):
        assert np.array_equal(ids, expected)
    assert fresh._pieces.pieces < 300


def test_a_table_grows(tmp_path: Path) -> None:
    asked: list[str] = []

    def bpe(pieces: list[str]) -> list[list[int]]:
        asked.extend(pieces)
        return [[len(piece), ord(piece[0])] for piece in pieces]

    table = PieceTable(bpe)
    text = " ".join(f"w{'abcdefghij'[i % 10]}{'x' * (i // 10)}" for i in range(4000))
    first = table.encode(text)
    assert len(asked) == len(set(asked)) == 4000
    assert np.array_equal(table.encode(text), first)
    assert first.reshape(-1, 2)[:, 0].sum() == len(text)


@pytest.mark.parametrize("change", ["pre_tokenizer", "normalizer", "dropout"])
def test_another_tokenizer_is_left_to_the_library(tmp_path: Path, change: str) -> None:
    folder = small_tokenizer(tmp_path / "tokenizer")
    state = json.loads((folder / "tokenizer.json").read_text())
    if change == "pre_tokenizer":
        state["pre_tokenizer"]["pretokenizers"].pop(0)
    elif change == "normalizer":
        state["normalizer"] = {"type": "NFC"}
    else:
        state["model"]["dropout"] = 0.1
    (folder / "tokenizer.json").write_text(json.dumps(state))
    assert not Encoder(folder).fast


def test_a_difference_is_seen(tmp_path: Path) -> None:
    wrong = _encoder(tmp_path)
    assert wrong.agrees([PROSE])
    wrong._pieces.encode(PROSE)
    wrong._pieces.ids[0] ^= 1
    assert not wrong.agrees([PROSE])


def test_other_scripts(tmp_path: Path) -> None:
    folder = small_tokenizer(tmp_path / "tokenizer")
    _multilingual().save(str(folder / "tokenizer.json"))
    encoder = Encoder(folder)
    assert encoder.fast
    assert encoder.agrees(["日本語 2024年、Привет 한국어입니다!", "naïve café ½ Ⅷ ٣", ""])


def test_a_process_keeps_the_encoder_of_a_folder_until_its_tokenizer_changes(tmp_path: Path) -> None:
    folder = small_tokenizer(tmp_path / "tokenizer")
    first = kept_encoder(folder)
    assert kept_encoder(folder) is first
    assert kept_encoder(folder, plain=True) is not first
    text = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(text + " ")
    again = kept_encoder(folder)
    assert again is not first
    assert np.array_equal(again(["the same ids"])[0], first(["the same ids"])[0])


def test_memory_does_not_grow_with_the_files_a_process_tokenises(tmp_path: Path) -> None:
    """In a process of its own, whose memory nothing else moves; a new encoder per file would add half a MB each."""
    folder = small_tokenizer(tmp_path / "tokenizer")
    program = f"""
import random
from pathlib import Path
from pipeline.tokens.encoder import kept_encoder
def used():
    line = next(line for line in open("/proc/self/status") if line.startswith("RssAnon"))
    return int(line.split()[1]) // 1024
def file(number):
    source = random.Random(number)
    texts = [" ".join(f"{{source.getrandbits(40):x}}" for _ in range(50)) for _ in range(400)]
    kept_encoder(Path({str(folder)!r}))(texts)
for number in range(60):
    file(number)
    if number == 19:
        early = used()
print(early, used())
"""
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    early, late = map(int, told.split())
    assert late - early <= 10, told
