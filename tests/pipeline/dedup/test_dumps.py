"""More dumps, more removed (DeepSeek-LLM, table 1), on small dumps made as `bench/dumps.py` makes them."""

from __future__ import annotations

import pytest
from datatrove.data import Document

from bench.dumps import measure
from tests.pipeline.corpus import set_workers, words


def test_every_further_dump_has_a_larger_share_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    set_workers(monkeypatch, 1)
    pages = [Document(text=words(seed, 150), id=str(seed), metadata={"url": ""}) for seed in range(40)]
    shares = [entry["ours"] for entry in measure(pages, [1, 2, 6])]
    assert 0 < shares[0] < shares[1] < shares[2] < 100
