"""A trimmed tokenizer: texts of kept tokens in the same pieces, everything else still writable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from infra.errors import UserError
from pipeline.sections import TokenizerConfig
from pipeline.tokens.chat_template import SPECIAL_TOKENS
from pipeline.tokens.sentencepiece import Prefix, inexpressible
from pipeline.tokens.tokenizer import train_tokenizer
from pipeline.tokens.trim import kept_tokens, new_numbers, write_trimmed
from tests.pipeline.tokens.pieces import TEXTS, save_pieces

DOMAIN = "the theorem holds for the other theorems, therefore they hold there"
OTHER = "quick brown foxes; naïve 漢字 🦙\n\tquicker browner"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tokenizer")
    config = TokenizerConfig(vocabulary=340, min_frequency=1)
    train_tokenizer(config, iter([DOMAIN * 3, OTHER * 4])).save(str(made / "tokenizer.json"))
    settings = {"bos_token": "<|bos|>", "added_tokens_decoder": {"0": {"content": "<|bos|>"}}}
    (made / "tokenizer_config.json").write_text(json.dumps(settings))
    return made


def _state(folder: Path) -> Any:
    return json.loads((folder / "tokenizer.json").read_text())


def _trim(folder: Path, target: Path, text: str = DOMAIN) -> tuple[Tokenizer, Tokenizer, list[int]]:
    before = Tokenizer.from_file(str(folder / "tokenizer.json"))
    kept = kept_tokens(_state(folder), before.encode(text).ids)
    write_trimmed(folder, target, kept, [text])
    return before, Tokenizer.from_file(str(target / "tokenizer.json")), kept


def test_texts_of_kept_tokens_are_cut_the_same_and_others_finer(folder: Path, tmp_path: Path) -> None:
    before, after, kept = _trim(folder, tmp_path)
    assert 256 + len(SPECIAL_TOKENS) < len(kept) < before.get_vocab_size() == 317
    assert after.get_vocab_size() == len(kept)
    for text in (DOMAIN, "they hold the other theorem"):
        assert after.encode(text).tokens == before.encode(text).tokens
        assert after.encode(text).ids == [new_numbers(kept)[number] for number in before.encode(text).ids]
    assert after.decode(after.encode(OTHER).ids) == OTHER
    assert len(after.encode(OTHER).ids) > len(before.encode(OTHER).ids)
    assert [after.id_to_token(new) for new in range(len(kept))] == [before.id_to_token(old) for old in kept]


def test_the_merges_of_a_kept_token_are_kept_to_the_last(folder: Path, tmp_path: Path) -> None:
    _trim(folder, tmp_path)
    model = _state(tmp_path)["model"]
    assert len(model["merges"]) == len(model["vocab"]) - 256 - len(SPECIAL_TOKENS)  # each token has the merge it is of
    assert all({left, right, left + right} <= model["vocab"].keys() for left, right in model["merges"])
    whole = _state(folder)["model"]["merges"]
    assert [merge for merge in whole if merge in model["merges"]] == model["merges"]


def test_merges_as_text_and_a_template_of_control_tokens(folder: Path, tmp_path: Path) -> None:
    state = _state(folder)
    state["model"]["merges"] = [" ".join(pair) for pair in state["model"]["merges"]]
    last = state["added_tokens"][-1] | {"id": 317, "content": "<|last|>", "special": True}
    state["added_tokens"].append(last)  # after all others, as in adopted vocabularies
    piece = {"SpecialToken": {"id": "<|last|>", "type_id": 0}}
    state["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [piece, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [piece, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<|last|>": {"id": "<|last|>", "ids": [317], "tokens": ["<|last|>"]}},
    }
    source = tmp_path / "source"
    source.mkdir()
    (source / "tokenizer.json").write_text(json.dumps(state))
    before, after, kept = _trim(source, tmp_path / "target")
    assert after.encode("the theorem").tokens == before.encode("the theorem").tokens
    assert after.token_to_id("<|last|>") == len(kept) - 1 == after.encode("the").ids[0]


def test_settings_number_their_tokens_anew(folder: Path, tmp_path: Path) -> None:
    _trim(folder, tmp_path)
    found = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert found == {"bos_token": "<|bos|>", "added_tokens_decoder": {"0": {"content": "<|bos|>"}}}


def test_of_several_merges_of_a_token_those_that_make_it_are_kept(folder: Path, tmp_path: Path) -> None:
    """As vocabularies have them that were tiktoken's, whose lists hold every pair of parts that makes a token."""
    state = _state(folder)
    vocabulary = state["model"]["vocab"]
    state["model"]["merges"] = [
        [token[:place], token[place:]]
        for token in sorted(vocabulary, key=vocabulary.__getitem__)
        for place in range(1, len(token))
        if {token[:place], token[place:]} <= vocabulary.keys()
    ]
    assert len(state["model"]["merges"]) > len(_state(folder)["model"]["merges"])
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "tokenizer.json").write_text(json.dumps(state))
    before, after, _ = _trim(tmp_path / "source", tmp_path / "target")
    assert after.encode(DOMAIN).tokens == before.encode(DOMAIN).tokens


@pytest.mark.parametrize("prefix", [Prefix.EVERY, Prefix.NEVER])
def test_sentencepieces_vocabulary(prefix: Prefix, tmp_path: Path) -> None:
    source = save_pieces(tmp_path / "source", prefix)
    kept_text = "the then there    four aaaaaaa  twelve"
    before, after, kept = _trim(source, tmp_path / "target", kept_text)
    assert 259 < len(kept) < before.get_vocab_size()
    assert after.encode(kept_text).tokens == before.encode(kept_text).tokens
    assert inexpressible(after) is None  # by scores, for llama.cpp
    for text in (OTHER, "▁ x", *TEXTS):
        assert after.decode(after.encode(text).ids) == before.decode(before.encode(text).ids), text
    assert after.token_to_id("<unk>") == 0


def test_another_kind_is_refused() -> None:
    state = {"model": {"type": "WordPiece", "vocab": {}}, "added_tokens": [], "decoder": None}
    with pytest.raises(UserError, match="only the vocabulary of a BPE that knows all bytes can be trimmed; set it to"):
        kept_tokens(state, [])
