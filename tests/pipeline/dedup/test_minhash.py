from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from datatrove.data import Document
from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets, MinhashDedupSignature

import pipeline.dedup.minhash
from pipeline.dedup.minhash import FastMinhashBuckets, FastMinhashSignature, pairs
from pipeline.text.words import WORDS
from tests.pipeline.corpus import published, words

LONG = words(1, 300)
NEAR = LONG.replace(LONG.split()[150], "changed", 1)
TEXTS = [LONG, NEAR, "Too short.", words(2, 1000), "Crème brûlée, 12.5 kg! " * 20, "日本語の文章です。" * 9, "", LONG]


def _theirs(folder: Path, config: MinhashConfig, files: list[list[str]]) -> None:
    for rank, texts in enumerate(files):
        documents = [Document(text=text, id=str(number)) for number, text in enumerate(texts)]
        MinhashDedupSignature(str(folder), config, language=WORDS).run(iter(documents), rank, len(files))


def _ours(folder: Path, config: MinhashConfig, files: list[list[str]]) -> None:
    for rank, texts in enumerate(files):
        documents = [Document(text=text, id=str(number)) for number, text in enumerate(texts)]
        FastMinhashSignature(folder, config).run(iter(documents), rank, len(files))


@pytest.mark.parametrize("seed", [1, 7])
def test_signature_files_are_datatroves(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline.dedup.minhash, "BUFFERED", 3)
    config = MinhashConfig(seed=seed)
    files = [TEXTS, [], TEXTS[::-1] + [words(n, 60) for n in range(9)]]
    _ours(tmp_path / "ours", config, files)
    _theirs(tmp_path / "theirs", config, files)
    ours, theirs = published(tmp_path / "ours"), published(tmp_path / "theirs")
    assert ours == theirs
    assert len(ours) == 3 * config.num_buckets
    assert any(ours.values())


def test_equal_first_hashes_are_ordered_by_the_others(tmp_path: Path) -> None:
    """One hash that ties, seven that do not: the lowest word of both texts is the same."""
    config = MinhashConfig(n_grams=1, num_buckets=2, hashes_per_bucket=8)
    files = [[" ".join(["common", "words", *words(n, 3).split()]) for n in range(300)]]
    _ours(tmp_path / "ours", config, files)
    _theirs(tmp_path / "theirs", config, files)
    assert published(tmp_path / "ours") == published(tmp_path / "theirs")


@pytest.mark.parametrize("share", [1, 2])
@pytest.mark.parametrize("records", [1_000_000, 7])
def test_pairs_are_datatroves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: int, records: int) -> None:
    monkeypatch.setattr(pipeline.dedup.minhash, "RANGE_RECORDS", records)
    config = MinhashConfig(num_buckets=4, hashes_per_bucket=3)
    variants = [LONG.replace(word, "x", 1) for word in LONG.split()[::20]]
    files = [TEXTS, [], variants, [words(n, 60) for n in range(9)] + variants[:3]]
    _theirs(tmp_path / "signatures", config, files)
    ours = FastMinhashBuckets(tmp_path / "signatures", tmp_path / "ours", config)
    theirs = MinhashDedupBuckets(str(tmp_path / "signatures"), str(tmp_path / "theirs"), config=config)
    for rank in range(share * config.num_buckets):
        ours.run(None, rank, share * config.num_buckets)
    for rank in range(config.num_buckets):
        theirs.run(None, rank, config.num_buckets)
    expected = sorted(pairs(tmp_path / "theirs"))
    assert sorted(pairs(tmp_path / "ours")) == expected
    assert len(expected) > 10
    if share == 1:
        assert published(tmp_path / "ours") == published(tmp_path / "theirs")


def test_remainder_by_shifts_at_the_edges() -> None:
    from pipeline.text.kernels import min_hashes

    p = (1 << 61) - 1
    step = MinhashDedupSignature("unused", MinhashConfig(), language=WORDS)
    a, b = step.parameters
    for shingle in (0, 1, p - 1, p, p + 1, 2 * p, 2**64 - 1):
        hashes = np.asarray([shingle], dtype=np.uint64)
        out = np.empty(step.num_hashes, dtype=np.uint64)
        min_hashes(hashes, a[0], b[0], out)
        assert out.tolist() == [h for bucket in step.get_signature(hashes.reshape(-1, 1)) for h in bucket]
