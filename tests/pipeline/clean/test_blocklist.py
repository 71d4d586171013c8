from __future__ import annotations

import pytest
from datatrove.data import Document
from datatrove.pipeline.filters.url_filter import URLFilter
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.clean.blocklist import FastURLFilter, SortedLines
from tests.examples import examples

_RULE = FastURLFilter()
LINES = st.sets(st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]), min_size=1), min_size=1)


@given(LINES, LINES, st.booleans())
@settings(deadline=None)
def test_lines_are_those_of_the_file(
    tmp_path_factory: pytest.TempPathFactory, some: set[str], others: set[str], end: bool
) -> None:
    path = tmp_path_factory.mktemp("lines") / "list"
    path.write_bytes(b"\n".join(sorted(line.encode() for line in some)) + b"\n" * end)
    lines = SortedLines(path)
    assert all(line in lines for line in some)
    assert [line for line in others if line in lines] == [line for line in others if line in some]
    assert "" not in lines


def test_the_lists_are_sorted_so_that_all_of_them_are_found() -> None:
    rule = FastURLFilter()
    for lines in (rule.block_listed_domains, rule.block_listed_url):
        content = lines._bytes[:].split(b"\n")
        content = content[:-1] if not content[-1] else content
        assert len(content) > 10_000
        assert all(map(bytes.__lt__, content, content[1:])) or sorted(content) == content
        assert not any(
            line != line.strip() or not line or line.startswith(b"#") for line in content[:: len(content) // 5000]
        )
        assert all(line.decode() in lines for line in content[:: len(content) // 500])


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://0-1avsex.com/a", "domain"),
        ("http://www.0-1avsex.com/a", "domain"),
        ("http://example.com/a", None),
        ("http://example.com/xxx-porn/a", "hard_blacklisted"),
    ],
)
def test_verdicts(url: str, reason: str | None) -> None:
    verdict = FastURLFilter().filter(Document(text="", id="", metadata={"url": url}))
    assert verdict is True if reason is None else verdict == (False, reason)


PARTS = st.lists(
    st.sampled_from(["news", "blog", *sorted(_RULE.soft_banned_words)[::9], *sorted(_RULE.banned_words)[::40]])
)
HOSTS = st.sampled_from(["example.com", "0-1avsex.com", "a.b.co.uk", "www.0-1avsex.com", "localhost", "8.8.8.8"])


@given(HOSTS, PARTS.map("-".join), st.sampled_from(["", "", *sorted(_RULE.banned_subwords)[::7]]))
@settings(deadline=None, max_examples=examples(200))
def test_verdicts_are_datatroves(host: str, words: str, inside: str) -> None:
    document = Document(text="", id="", metadata={"url": f"http://{host}/{words}/a{inside}b"})
    assert _RULE.filter(document) == URLFilter.filter(_RULE, document)
