"""Hosts and paths of a field, by the share of their pages that were recalled."""

from __future__ import annotations

import pytest

from pipeline.recall.discovery import Pages, below, host_of, paths_of


@pytest.mark.parametrize(
    ("url", "host", "paths"),
    [
        ("https://www.h.org/a/b/c/d/page.html?x=1#y", "h.org", ["h.org/a", "h.org/a/b", "h.org/a/b/c"]),
        ("http://h.org:8080/a/", "h.org:8080", ["h.org:8080/a"]),
        ("http://h.org:80/page", "h.org", []),
        ("http://h.org", "h.org", []),
        ("no address", "", []),
        ("http://[broken/a/b", "", []),
        ("", "", []),
    ],
)
def test_addresses_are_taken_apart(url: str, host: str, paths: list[str]) -> None:
    assert host_of(url) == host
    assert [path for path in paths_of(url) if host] == paths


def test_a_beginning_ends_at_a_folder() -> None:
    assert below("https://www.h.org/a/b", ["h.org/a"])
    assert below("https://h.org/a", ["h.org/a/"]) is False
    assert below("https://h.org/a", ["h.org/a"])
    assert not below("https://h.org/ab", ["h.org/a"])
    assert below("https://h.org/ab", ["x.org", "h.org"])
    assert not below("https://h.org.evil/", ["h.org"])
    assert not below("", ["h.org"])


def pages(**places: tuple[int, int]) -> Pages:
    """Pages below each path of one host: how many were recalled, of how many."""
    found = Pages()
    for path, (recalled, total) in places.items():
        for number in range(total):
            found.count(f"http://h.org/{path.replace('_', '/')}/{number}", number < recalled)
    return found


def test_a_host_counts_above_the_share_and_not_at_it() -> None:
    assert pages(a=(1, 10)).hosts(0.1, 10) == []
    assert pages(a=(2, 10)).hosts(0.1, 10) == ["h.org"]
    assert pages(a=(9, 9)).hosts(0.1, 10) == []


def test_the_highest_path_stands_for_those_below_it() -> None:
    found = pages(a=(10, 10), a_b=(10, 10), news=(0, 10), news_maths=(9, 10))
    assert found.paths(["h.org"], 0.5, 5) == ["h.org/a", "h.org/news/maths"]
    assert found.paths(["x.org"], 0.5, 5) == []


def test_a_path_is_no_beginning_of_a_longer_name() -> None:
    found = Pages()
    for path in ("a", "a-b", "a/b"):
        for number in range(5):
            found.count(f"http://h.org/{path}/{number}", path != "a" or number < 4)
    assert found.paths(["h.org"], 0.5, 5) == ["h.org/a", "h.org/a-b"]
