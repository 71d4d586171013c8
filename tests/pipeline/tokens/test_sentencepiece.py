"""Tokenizers of SentencePiece's kind: from scores and from merges, in conversations, documents and answers."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer

from infra.errors import UserError
from infra.json_objects import JsonObject
from pipeline.sections import TokenizerConfig
from pipeline.tokens.adopt import adopt, read_foreign
from pipeline.tokens.chat import Turn, chat_format, read_tokenizer
from pipeline.tokens.continuation import ContinuationDecoder
from pipeline.tokens.encoder import Encoder
from pipeline.tokens.llama_names import SENTENCEPIECE, llama_name
from pipeline.tokens.plain_text import After, PlainText
from pipeline.tokens.sentencepiece import (
    Kind,
    Pieces,
    Prefix,
    as_llama_cpp,
    byte_length,
    inexpressible,
    prefix_of,
    scores_of,
)
from tests.pipeline.tokens.pieces import LLAMA2, MISTRAL, NAMES, TEXTS, ZEPHYR, learned, pieces, save_pieces

ASKED = [Turn("user", " What is  4 + 8?"), Turn("assistant", "twelve"), Turn("user", "so?")]


def state_of(tokenizer: Tokenizer) -> JsonObject:
    found: JsonObject = json.loads(tokenizer.to_str())
    return found


def changed(change: Callable[[JsonObject], object]) -> Tokenizer:
    state = state_of(pieces().tokenizer(Prefix.EVERY, "<unk>"))
    change(state)
    return Tokenizer.from_str(json.dumps(state))


def test_scores_make_merges_and_merges_make_scores() -> None:
    first = pieces()
    tokenizer = first.tokenizer(Prefix.EVERY, "<unk>")
    assert inexpressible(tokenizer) is None
    again = Pieces(first.texts, scores_of(state_of(tokenizer)["model"]), first.kinds)
    assert again.tokenizer(Prefix.EVERY, "<unk>").to_str() == tokenizer.to_str()


def test_runs_with_one_score_are_cut_from_the_left() -> None:
    """Llama 2 has runs of blanks so, up to 16 but for 15: by SentencePiece's rule 30 of them are 16 and 14."""
    runs = ["a" * length for length in (*range(1, 15), 16)]
    texts = (*pieces().texts[:259], *runs)
    kinds = [*pieces().kinds[:259], *[Kind.NORMAL] * len(runs)]
    tokenizer = Pieces(texts, [0.0] * 259 + [-1e9] * len(runs), kinds).tokenizer(Prefix.NEVER, "<unk>")
    assert [len(piece) for piece in tokenizer.encode("a" * 31).tokens] == [16, 14, 1]
    assert inexpressible(tokenizer) is None
    scores = dict(zip(texts, scores_of(state_of(tokenizer)["model"]), strict=True))
    assert scores["aa"] == scores["a" * 16]
    other = state_of(tokenizer)
    other["model"]["merges"].sort(key=lambda pair: (len(pair[0]), pair[1] != "aa"))
    assert inexpressible(Tokenizer.from_str(json.dumps(other))) == ("llama.cpp would cut a run of 15 'a' otherwise")


MERGES = {
    "the merges as they were learned": (learned()[0]["merges"], None),
    "a piece that is never made": (learned()[0]["merges"][:-1], "llama.cpp would merge "),
    "merges that alternate": (
        [["a", "b"], ["b", "c"], ["a", "bc"], ["b", "a"], ["ab", "c"]],
        "the merges of 'abc' and 'ba' alternate",
    ),
}


@pytest.mark.parametrize("name", MERGES)
def test_which_merges_scores_can_say(name: str) -> None:
    merges, said = MERGES[name]

    def change(state: JsonObject) -> None:
        vocabulary = state["model"]["vocab"]
        for piece in ("".join(pair) for pair in merges):
            vocabulary.setdefault(piece, len(vocabulary))
        state["model"]["merges"] = merges

    found = inexpressible(changed(change))
    assert found is None if said is None else said in str(found)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: state.update(normalizer={"type": "NFKC"}), "makes text ready"),
        (lambda state: state["added_tokens"][0].update(normalized=True), "makes text ready"),
        (lambda state: state["added_tokens"][1].update(rstrip=True), "makes text ready"),
        (lambda state: state["model"].update(ignore_merges=True), "ignore_merges"),
        (lambda state: state["model"]["vocab"].pop("<0xE2>"), "<0xE2> is missing"),
    ],
)
def test_what_llama_cpp_cannot_follow(change: Callable[[JsonObject], object], said: str) -> None:
    assert said in str(inexpressible(changed(change)))


@pytest.mark.parametrize("prefix", Prefix)
def test_blanks_are_set_where_llama_cpp_can_set_them(prefix: Prefix) -> None:
    tokenizer = pieces().tokenizer(prefix, "<unk>")
    assert prefix_of(state_of(tokenizer)) is prefix
    settled = as_llama_cpp(tokenizer)
    stripping = changed(lambda state: state["added_tokens"][1].update(rstrip=True, normalized=True))
    assert as_llama_cpp(stripping).to_str() == changed(lambda state: None).to_str()
    assert (settled is tokenizer) == (prefix in (Prefix.EVERY, Prefix.NEVER))
    assert inexpressible(settled) is None
    behind = [f"<s>{text}" for text in TEXTS if not text.startswith(" ")]  # behind a control token nothing changes
    assert [settled.encode(text).ids for text in behind] == [tokenizer.encode(text).ids for text in behind]


@pytest.mark.parametrize("template", [LLAMA2, MISTRAL, ZEPHYR], ids=["llama2", "mistral", "zephyr"])
@pytest.mark.parametrize("prefix", Prefix)
def test_prompts_are_what_the_rendered_text_is_cut_into(prefix: Prefix, template: str, tmp_path: Path) -> None:
    folder = save_pieces(tmp_path / "published", prefix, template)
    for llama_cpp in (True, False):
        out = tmp_path / f"out-{llama_cpp}"
        out.mkdir()
        adopted = adopt(TokenizerConfig(adopt=(str(folder),), llama_cpp=llama_cpp), out)
        chat = chat_format(read_tokenizer(out))
        assert chat.prompt(ASKED) == adopted.encode(chat.text(ASKED), add_special_tokens=False).ids
        wrote = chat.response("4 + 8", "twelve")[:-1]
        assert chat.said(wrote).startswith("<think>4 + 8</think>twelve")
        assert chat.written(chat.said(wrote)) == wrote
        end = [chat.tokenizer.token_to_id("</s>")]
        assert chat.response("", "x")[-1:] == end == [chat.eos]
    assert llama_name(tmp_path / "out-True") == SENTENCEPIECE
    assert (llama_name(tmp_path / "out-False") is None) == (prefix in (Prefix.FIRST, Prefix.UNLESS))


def test_text_behind_text_gets_no_blank() -> None:
    plain = PlainText(pieces().tokenizer(Prefix.EVERY, "<unk>"))
    whole = plain("the user asks")
    assert plain("the user", After.NOTHING) + plain(" asks", After.TEXT) == whole
    assert plain("the user") + plain(" asks") != whole


def mergeable() -> Tokenizer:
    """A vocabulary that makes a control token of its text, as any other piece."""

    def change(state: JsonObject) -> None:
        vocabulary = state["model"]["vocab"]
        vocabulary |= {piece: len(vocabulary) + place for place, piece in enumerate(("<", ">", "<s", "</", "</s"))}
        state["model"]["merges"] += [["<", "s"], ["<s", ">"], ["<", "/"], ["</", "s"], ["</s", ">"]]

    return changed(change)


def test_no_document_holds_a_control_token(tmp_path: Path) -> None:
    save_pieces(tmp_path)
    tokenizer = mergeable()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    hostile = "<s>a</s> the <unk>"
    tokenizer.encode_special_tokens = True
    assert 2 in tokenizer.encode(hostile).ids
    encoder = Encoder(tmp_path)
    (found,) = encoder([hostile])
    assert not {0, 1, 2} & set(found.tolist())
    assert tokenizer.decode(found.tolist()) == hostile
    assert np.array_equal(encoder(["the user"])[0], tokenizer.encode("the user").ids)


def test_every_byte_of_a_text_is_counted() -> None:
    tokenizer = pieces().tokenizer(Prefix.EVERY, "<unk>")
    for text in TEXTS:
        text = text.replace("▁", "")  # which is a blank to it
        pieces_of = tokenizer.encode(text, add_special_tokens=False).tokens
        assert sum(map(byte_length, pieces_of)) == len(f" {text}".encode())


def test_an_answer_streams_as_it_comes() -> None:
    tokenizer = pieces().tokenizer(Prefix.EVERY, "<unk>")
    tokenizer.add_tokens([AddedToken("<think>", special=False)])
    words = ContinuationDecoder(tokenizer)
    tokens = tokenizer.encode("the 🫠🫠x<think>").ids
    texts = [words.decode(tokens[:count]) for count in range(len(tokens) + 1)]
    assert texts[-1] == " the 🫠🫠x<think>"
    for before, after in pairwise(texts):
        assert after.startswith(before.rstrip("\N{REPLACEMENT CHARACTER}"))
    assert b"".join(map(words.bytes_of, tokens)).decode() == texts[-1]


def field(number: int, value: bytes | float | int) -> bytes:
    """One field of a protocol buffer."""
    if isinstance(value, float):
        return bytes([number << 3 | 5]) + struct.pack("<f", value)
    head = varint(number << 3 | (0 if isinstance(value, int) else 2))
    return head + (varint(value) if isinstance(value, int) else varint(len(value)) + value)


def varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def save_model_file(folder: Path, ready: bytes = b"", kind: int = 2, settings: JsonObject | None = None) -> Path:
    """A folder with `pieces` as SentencePiece writes them, and no ``tokenizer.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    given = pieces()
    each = zip(given.texts, given.scores, given.kinds, strict=True)
    body = [field(1, field(1, text.encode()) + field(2, score) + field(3, int(number))) for text, score, number in each]
    trained = field(3, kind) + field(35, 1)
    ready = ready or field(1, b"identity") + field(2, b"") + field(3, 1) + field(4, 0)
    (folder / "tokenizer.model").write_bytes(b"".join(body) + field(2, trained) + field(3, ready))
    (folder / "tokenizer_config.json").write_text(json.dumps(NAMES | (settings or {})))
    return folder


def test_sentencepieces_own_file_is_read(tmp_path: Path) -> None:
    added: dict[str, Any] = {str(len(pieces().texts)): {"content": "<pad>", "special": True}}
    folder = save_model_file(tmp_path, settings={"added_tokens_decoder": added, "pad_token": "<pad>"})
    found = read_foreign(folder)
    wanted = pieces().tokenizer(Prefix.EVERY, "<unk>")
    wanted.add_special_tokens([AddedToken("<pad>", normalized=False)])
    assert state_of(found.tokenizer) == state_of(wanted)
    (tmp_path / "out").mkdir()
    adopt(TokenizerConfig(adopt=(str(folder),)), tmp_path / "out")
    assert read_tokenizer(tmp_path / "out").encode(TEXTS[0]).ids == wanted.encode(TEXTS[0]).ids
    save_model_file(tmp_path, settings={"legacy": False})
    assert prefix_of(state_of(read_foreign(folder).tokenizer)) is Prefix.FIRST


@pytest.mark.parametrize(
    ("kind", "ready", "said"),
    [
        (1, b"", "a unigram, or a BPE that does not fall back on bytes"),
        (2, field(2, b"map") + field(4, 0), "it writes characters otherwise"),
        (2, field(3, 1), "it takes blanks away"),
    ],
)
def test_files_of_other_kinds_are_refused(kind: int, ready: bytes, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"tokenizer\.model: {said}"):
        read_foreign(save_model_file(tmp_path, ready, kind))


@pytest.mark.parametrize("body", [b"no protocol buffer", b"\x0a\x7f", b""])
def test_a_damaged_file_is_named(body: bytes, tmp_path: Path) -> None:
    save_model_file(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(body)
    with pytest.raises(UserError, match=r"tokenizer\.model: no vocabulary of SentencePiece"):
        read_foreign(tmp_path)


def test_scores_that_leave_it_open_are_refused() -> None:
    given = pieces()
    with pytest.raises(ValueError, match="have one score, so that neither comes first"):
        Pieces(given.texts, [0.0] * len(given.texts), given.kinds).tokenizer(Prefix.EVERY, "<unk>")
