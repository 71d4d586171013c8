from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from datatrove.data import Document
from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature
from datatrove.utils.text import simplify_text
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.errors import UserError
from pipeline.dedup import dedup
from pipeline.documents import read_documents
from pipeline.minhash import FastMinhashSignature, clusters, simplify
from pipeline.sections import DedupConfig
from pipeline.words import WORDS
from tests.pipeline.corpus import only, published, set_workers, words, write_documents

LONG = words(1, 300)
NEAR = LONG.replace(LONG.split()[150], "changed", 1)


@given(st.text())
@settings(deadline=None)
def test_simplify_is_datatroves(text: str) -> None:
    assert simplify(text, MinhashConfig()) == simplify_text(text)


@pytest.mark.parametrize("seed", [1, 7])
def test_signature_files_are_datatroves(tmp_path: Path, seed: int) -> None:
    config = MinhashConfig(seed=seed)
    texts = [LONG, NEAR, "Too short.", words(2, 1000), "Crème brûlée, 12.5 kg! " * 20, "日本語の文章です。" * 9, ""]
    documents = [Document(text=text, id=str(number)) for number, text in enumerate(texts)]
    for step, name in (
        (MinhashDedupSignature(str(tmp_path / "theirs"), config, language=WORDS), "theirs"),
        (FastMinhashSignature(tmp_path / "ours", config), "ours"),
    ):
        step.run(iter(documents), 0, 1)
        assert len(list((tmp_path / name).rglob("*.sig"))) == config.num_buckets
    ours, theirs = published(tmp_path / "ours"), published(tmp_path / "theirs")
    assert ours == theirs
    assert any(ours.values())


def test_remainder_by_shifts_at_the_edges() -> None:
    config = MinhashConfig()
    step = FastMinhashSignature(Path("unused"), config)
    p = (1 << 61) - 1
    shingles = np.asarray([0, 1, p - 1, p, p + 1, 2 * p, 2**64 - 1], dtype=np.uint64).reshape(-1, 1)
    assert step.get_signature(shingles) == MinhashDedupSignature.get_signature(step, shingles)


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=40), st.randoms())
def test_clusters_do_not_depend_on_order(edges: list[tuple[int, int]], source: random.Random) -> None:
    keys = {node: (node * 7) % 23 for node in range(21)}
    expected = {node: {node} for edge in edges for node in edge}
    for _ in edges:  # slow and plain: spread the reachable sets until nothing changes
        for a, b in edges:
            joined = expected[a] | expected[b]
            for node in joined:
                expected[node] = joined
    shuffled = [edge[::-1] if source.random() < 0.5 else edge for edge in source.sample(edges, len(edges))]
    found = clusters(shuffled, keys)
    assert found == {node: min(group, key=keys.__getitem__) for node, group in expected.items()}


def _run(tmp_path: Path, name: str, files: list[list[tuple[str, str, str]]], **keys: object) -> Path:
    out = tmp_path / f"out-{name}"
    out.mkdir()
    dedup(DedupConfig(**keys), {"clean": write_documents(tmp_path / f"in-{name}", *files)}, out)  # type: ignore[arg-type]
    return out


def _corpus() -> list[tuple[str, str, str]]:
    return [
        ("web-copy", "web", LONG),
        ("web-near", "web", NEAR),
        ("wiki-copy", "wiki", LONG.upper() + "!"),
        ("book-other", "book", words(3, 300)),
        ("short-a", "web", "Two words."),
        ("short-b", "web", "two WORDS"),
    ]


def test_precedence_keeps_the_wiki_copy_and_names_it(tmp_path: Path) -> None:
    out = _run(tmp_path, "a", [_corpus()])
    assert {document.id for document in read_documents(out)} == {"wiki-copy", "book-other", "short-a"}
    rejects = {document.id: document.metadata for document in read_documents(out, "rejects")}
    assert rejects["web-copy"]["rule"] == "exact"
    assert rejects["web-near"]["rule"] == "minhash"
    assert (rejects["web-near"]["kept"], rejects["web-near"]["kept_source"]) == ("wiki-copy", "wiki")
    assert (rejects["short-b"]["rule"], rejects["short-b"]["kept"]) == ("exact", "short-a")


def test_precedence_can_be_turned_round(tmp_path: Path) -> None:
    out = _run(tmp_path, "a", [_corpus()], precedence=("web", "wiki"))
    assert {document.id for document in read_documents(out)} == {"web-copy", "book-other", "short-a"}


def test_without_minhash_near_copies_stay(tmp_path: Path) -> None:
    out = _run(tmp_path, "a", [_corpus()], minhash=False)
    assert only(d.id for d in read_documents(out) if d.id == "web-near")


def test_without_exact_short_copies_stay(tmp_path: Path) -> None:
    out = _run(tmp_path, "a", [_corpus()], exact=False)
    assert {d.id for d in read_documents(out)} == {"wiki-copy", "book-other", "short-a", "short-b"}


def test_what_stays_depends_on_no_file_order(tmp_path: Path) -> None:
    rows = _corpus()
    kept = set()
    for name, files in {
        "a": [rows],
        "b": [rows[3:], rows[:3]],
        "c": [rows[::-1]],
        "d": [[row] for row in rows],
    }.items():
        kept.add(frozenset(document.id for document in read_documents(_run(tmp_path, name, files))))
    assert len(kept) == 1


def test_same_bytes_for_any_number_of_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = _corpus()
    results = []
    for workers in (1, 2):
        set_workers(monkeypatch, workers)
        (tmp_path / str(workers)).mkdir()
        results.append(published(_run(tmp_path / str(workers), "a", [rows[:3], rows[3:]])))
    assert results[0] == results[1]


def test_no_documents_is_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no documents"):
        _run(tmp_path, "a", [[]])
