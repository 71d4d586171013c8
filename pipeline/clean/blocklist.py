"""The rule about addresses: datatrove's `URLFilter`, which reads its lists where they lie.

datatrove makes Python sets of its lists, 4.6 million domains: seconds and hundreds of megabytes in every task of every
worker. The files are sorted, so a search by halves in the mapped file answers as well, at once, from pages that all
processes share.
"""

from __future__ import annotations

import mmap
import tarfile
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from datatrove.data import Document
from datatrove.io import safely_create_file
from datatrove.pipeline.filters.url_filter import URLFilter, get_list, normalize, normalizer
from datatrove.utils._import_utils import ASSETS_PATH
from huggingface_hub import cached_assets_path

__all__ = ["FastURLFilter", "SortedLines"]

ARCHIVE = "url_filterblacklistsv0_3_0.tar.gz"
"""In datatrove's wheel."""


class SortedLines:
    """The lines of a sorted file, as a set: `line in lines`.

    Sorted by bytes, without empty lines and without white space around them, as datatrove's lists are; the tests hold
    the version in use to that.
    """

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def __contains__(self, line: object) -> bool:
        wanted = str(line).encode(errors="surrogatepass")
        content, low, high = self._bytes, 0, len(self._bytes)
        while low < high:  # the line, if it is there, begins within low..high, both of them beginnings of lines
            begin = content.rfind(b"\n", low, (low + high) // 2) + 1 or low
            end = content.find(b"\n", begin)
            end = len(content) if end < 0 else end
            found = content[begin:end]
            if found == wanted:
                return True
            if found < wanted:
                low = end + 1
            else:
                high = begin
        return False


class FastURLFilter(URLFilter):
    """datatrove's filter with its own lists, read in place, and the public suffixes that come in tldextract's wheel."""

    def __init__(self) -> None:
        super().__init__(use_integrated_lists=False)
        self.tldextractor = _suffixes()
        lists = _lists()
        self.block_listed_domains, self.block_listed_url = lists.domains, lists.urls
        self.banned_words, self.soft_banned_words, self.banned_subwords = lists.banned, lists.soft, lists.subwords
        self.banned_subwords_automaton = lists.automaton
        self._is_listed = lru_cache(4096)(self.block_listed_domains.__contains__)  # a crawl comes host by host

    def filter(self, document: Document) -> bool | tuple[bool, str]:
        """datatrove's verdict, its words asked as sets."""
        url = document.metadata["url"]
        host = self.tldextractor(url)
        if self._is_listed(host.top_domain_under_public_suffix):
            return False, "domain"
        if self._is_listed(host.fqdn):
            return False, "subdomain"
        if url in self.block_listed_url:
            return False, "url"
        words = set(normalizer.split(url))
        if not words.isdisjoint(self.banned_words):
            return False, "hard_blacklisted"
        if len(words & self.soft_banned_words) >= self.soft_word_threshold:
            return False, "soft_blacklisted"
        if next(self.banned_subwords_automaton.iter(normalize(url)), False):
            return False, "blacklisted_subword"
        return True


class _Lists(NamedTuple):
    domains: SortedLines
    urls: SortedLines
    banned: set[str]
    soft: set[str]
    subwords: set[str]
    automaton: Any


@cache
def _lists() -> _Lists:
    """datatrove's lists, once per process; the two long ones are unpacked from its wheel once per machine."""
    import ahocorasick

    folder = Path(cached_assets_path(library_name="datatrove", namespace="filters", subfolder="url_filter"))
    archive = Path(ASSETS_PATH) / ARCHIVE

    def unpack() -> None:
        with tarfile.open(archive) as packed:
            packed.extractall(folder, filter="data")

    safely_create_file(str(folder / ARCHIVE), unpack)
    subwords = get_list(ASSETS_PATH, "banned_subwords.txt", set())
    automaton = ahocorasick.Automaton(ahocorasick.STORE_INTS)
    for number, word in enumerate(sorted(subwords)):
        automaton.add_word(word, number)
    automaton.make_automaton()
    return _Lists(
        SortedLines(folder / "domains"),
        SortedLines(folder / "urls"),
        get_list(ASSETS_PATH, "banned_words.txt", set()),
        get_list(ASSETS_PATH, "soft_banned_words.txt", set()),
        subwords,
        automaton,
    )


@cache
def _suffixes() -> Any:
    from tldextract import TLDExtract

    return TLDExtract(suffix_list_urls=(), cache_dir=None)  # the list in the wheel, no download
