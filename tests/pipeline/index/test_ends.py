"""Spans of scripts without spaces, whose tokens and those of the documents part before the characters do."""

from __future__ import annotations

import random
from itertools import chain, pairwise

import numpy as np
import pytest

from pipeline.index.spans import UNSPACED, Sources
from pipeline.sections import TokenizerConfig
from pipeline.tokens.tokenizer import train_tokenizer
from tests.pipeline.index.test_index import make_index, make_shards

SPACED = (
    "日本語 文章 東京 大学 研究 開発 情報 処理 確認 方法 必要 最初 中文 文本 模型 训练 数据 来源 许可 证书 システム "
    "パッケージ インストール データ サーバ ネットワーク を に は が で と から まで です ます した する "
    "こと もの ため など 、 。 「 」 (APT) v2"
)
PARTS = SPACED.split()
AROUND = "学習機械翻訳開語京本テタ"


def sentence(seed: int, parts: int) -> str:
    return "".join(random.Random(seed).choices(PARTS, k=parts))


TEXTS = {f"d{number}": sentence(number, 60) for number in range(60)}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    """Tokens of several characters, for which most of their places are no ends."""
    tokenizer = train_tokenizer(TokenizerConfig(vocabulary=700), iter(TEXTS.values()))
    made = make_shards(tmp_path_factory.mktemp("ends"), TEXTS, tokenizer)
    found = Sources(make_index(made, "index", 1 << 20), made / "shards", made / "tokenizer")
    assert any(len(UNSPACED.findall(token)) > 1 for token in decoded(found))
    return found


def decoded(sources: Sources) -> list[str]:
    return [sources.encoder.tokenizer.decode([token]) for token in range(sources.encoder.vocabulary)]


def whole_texts(sources: Sources) -> dict[str, str]:
    """What no row cuts, in the order of the index."""
    indices = [piece.documents.take(np.arange(len(piece.documents) - 1)).tolist() for piece in sources.pieces]
    return {name: TEXTS[name] for name in (sources.names[index]["id"] for index in chain.from_iterable(indices))}


def planted(sources: Sources, count: int) -> list[tuple[str, str, str]]:
    """Texts, what is planted in each between characters of others, and the document that has it."""
    random_ = random.Random(1)
    texts = whole_texts(sources)
    found: list[tuple[str, str, str]] = []
    while len(found) < count:
        name = random_.choice(sorted(texts))
        begin = random_.randrange(len(texts[name]) - 24)
        span = texts[name][begin : begin + random_.randrange(12, 24)]
        if UNSPACED.fullmatch(span[0]) and UNSPACED.fullmatch(span[-1]):
            around = ["".join(random_.choices(AROUND, k=6)) for _ in range(2)]
            found.append((span.join(around), span, name))
    return found


def test_a_planted_span_is_found_to_its_last_character(sources: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = planted(sources, 60)

    def whole() -> int:
        count = 0
        for text, span, name in asked:
            found = sources.find(text, min_words=5, documents=100)
            for each in found:
                assert text[each.begin : each.end] == each.text
                assert each.places >= len(each.documents) > 0
                assert all(each.text in TEXTS[document["id"]] for document in each.documents)
            hits = [
                each for each in found if each.begin <= text.index(span) and each.end >= text.index(span) + len(span)
            ]
            count += any(document["id"] == name for each in hits for document in each.documents)
        return count

    assert whole() == len(asked)
    monkeypatch.setattr("pipeline.index.spans.carried_on", lambda *arguments: arguments[-2:])
    assert whole() < len(asked) * 0.7


def test_nothing_is_carried_over_the_end_of_a_document(sources: Sources) -> None:
    """The neighbours in the index, as if they were one text."""
    names = list(whole_texts(sources))
    for one, other in pairwise(names):
        text = TEXTS[one][-9:] + TEXTS[other][:9]
        for span in sources.find(text, min_words=3, documents=100):
            assert all(span.text in TEXTS[document["id"]] for document in span.documents)
