"""Finding more examples of a field where many were found: hosts, and paths below them.

DeepSeekMath groups pages by host, takes a host for one of the field when more than a tenth of its pages were recalled,
and has people name the paths below it that hold such pages; what lies below these paths and was not recalled becomes an
example of the next round. Here a path is named by the share of its pages that were recalled; what people name is given
in the recipe, and goes before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

__all__ = ["Pages", "below", "host_of", "paths_of"]

DEPTH = 3
"""Most folders of a path."""


def _split(url: str) -> tuple[str, list[str]]:
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port not in (None, 80, 443) else ""
        host = (parts.hostname or "").removeprefix("www.") + port
    except ValueError:  # an address that is none
        return "", []
    return host, [folder for folder in parts.path.split("/")[:-1] if folder][:DEPTH]


def host_of(url: str) -> str:
    """The host of an address, without `www.`; empty where there is none."""
    return _split(url)[0]


def paths_of(url: str) -> Iterator[str]:
    """Host and path of each folder that the page lies in, the host itself left out: `h/a`, `h/a/b`."""
    host, folders = _split(url)
    for depth in range(1, len(folders) + 1):
        yield "/".join((host, *folders[:depth]))


def below(url: str, beginnings: Sequence[str]) -> bool:
    """Whether an address, without its scheme and `www.`, begins with one of these, which end at a folder."""
    address = url.partition("://")[2].removeprefix("www.")
    return any(address == each or address.startswith(each.rstrip("/") + "/") for each in beginnings)


@dataclass
class Pages:
    """How many pages of each host and path there are, and were recalled."""

    all: Counter[str] = field(default_factory=Counter)
    recalled: Counter[str] = field(default_factory=Counter)

    def count(self, url: str, recalled: bool) -> None:
        """Add a page."""
        if not (host := host_of(url)):
            return
        for place in (host, *paths_of(url)):
            self.all[place] += 1
            self.recalled[place] += recalled

    def hosts(self, share: float, least: int) -> list[str]:
        """Hosts of the field: more than `share` of at least `least` pages were recalled."""
        return self._above((place for place in self.all if "/" not in place), share, least)

    def paths(self, hosts: Iterable[str], share: float, least: int) -> list[str]:
        """The highest paths below these hosts with more than `share` of at least `least` pages recalled."""
        chosen: set[str] = set()
        wanted = set(hosts)
        below_hosts = (place for place in self.all if place.partition("/")[0] in wanted and "/" in place)
        for place in self._above(below_hosts, share, least):  # in order: a path comes before those below it
            parts = place.split("/")
            if not any("/".join(parts[:depth]) in chosen for depth in range(2, len(parts))):
                chosen.add(place)
        return sorted(chosen)

    def _above(self, places: Iterable[str], share: float, least: int) -> list[str]:
        return sorted(
            place for place in places if self.all[place] >= least and self.recalled[place] > share * self.all[place]
        )
