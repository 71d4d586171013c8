"""Clusters for people: who stays, who went, how alike they are and through whom."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.errors import UserError
from pipeline.dedup.duplicates import changes, find_clusters, jaccard, shingles_of, sizes
from pipeline.dedup.section import DedupConfig
from pipeline.dedup.stage import dedup
from tests.pipeline.corpus import words, write_documents

LONG = words(1, 300)


def _changed(text: str, *places: int) -> str:
    parts = text.split()
    for place in places:
        parts[place] = f"changed{place}"
    return " ".join(parts)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dedup")
    rows = [
        ("wiki-1", "wiki", LONG),
        ("web-1", "web", _changed(LONG, 150)),
        ("web-2", "web", LONG),
        ("book-1", "book", words(2, 200)),
        ("web-3", "web", words(2, 200).upper()),
        ("alone", "web", words(3, 200)),
    ]
    (folder / "out").mkdir()
    dedup(DedupConfig(), {"clean": write_documents(folder / "in", rows[:3], rows[3:])}, folder / "out")
    return folder / "out"


def test_the_largest_come_first(artifact: Path) -> None:
    assert sizes(artifact) == {"wiki-1": 2, "book-1": 1}


def test_a_cluster_is_found_by_any_of_its_members(artifact: Path) -> None:
    for name in ("wiki-1", "web-1", "web-2"):
        (cluster,) = find_clusters(artifact, [name])
        assert cluster.kept.id == "wiki-1"
        assert [(member.document.id, member.rule) for member in cluster.members] == [
            ("web-2", "exact"),
            ("web-1", "minhash"),
        ]
        assert cluster.members[0].likeness == 1
        expected = jaccard(shingles_of(LONG), shingles_of(_changed(LONG, 150)))
        assert cluster.members[1].likeness == pytest.approx(expected)
        assert 0.9 < expected < 1


def test_what_has_no_copy_is_said(artifact: Path) -> None:
    with pytest.raises(UserError, match="alone has no copies"):
        find_clusters(artifact, ["alone"])


def test_a_member_of_a_chain_names_the_link(artifact: Path, tmp_path: Path) -> None:
    from pipeline.tasks.documents import DocumentWriter, RejectWriter
    from tests.pipeline.corpus import only

    link, far = _changed(LONG, *range(0, 300, 13)), _changed(LONG, *range(0, 300, 13), *range(6, 300, 13))
    kept = only(find_clusters(artifact, ["wiki-1"])).kept
    list(DocumentWriter(tmp_path).run([kept]))
    with RejectWriter(tmp_path, 0) as rejects:
        for name, text in (("far", far), ("link", link)):
            document = type(kept)(text=text, id=name, metadata={"source": "web", "url": "", "kept": "wiki-1"})
            rejects.write(document, "minhash")
    members = {member.document.id: member for member in only(find_clusters(tmp_path, ["far"])).members}
    assert members["far"].likeness < 0.5
    assert members["far"].through == "link"


def test_changes_are_the_lines_that_differ() -> None:
    assert changes("a\nb\nc", "a\nB\nc") == ["-b", "+B"]
    assert changes("\n".join("abcd"), "", most=2) == ["-a", "-b", "... 2 more"]
    assert jaccard(frozenset(), frozenset()) == 1
