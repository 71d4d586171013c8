"""What a request for removal asks for, without the text: an address, and signatures of texts.

A signature is the hash of the folded text and hashes of its runs of five words: all of them, or for a long text those
that a whole number divides, some `MOST_HASHES` (FracMinHash, Irber et al., doi 10.1101/2022.01.11.475838). Other than a
MinHash signature it tells what share of one text stands in the other, so that a page which holds the removed text
among much else is found, and so is a chapter of it.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from infra.errors import UserError
from infra.facts import Facts
from infra.hashing import digest
from infra.storage import open_file, resolve
from pipeline.dedup.section import FOLDINGS
from pipeline.dedup.shingles import fold_of, folded_words, shingles
from pipeline.sections import ExtractConfig, Profile
from pipeline.tasks.documents import Document
from pipeline.tasks.profiles import PROFILE

__all__ = ["REMOVED", "Ask", "Kind", "Match", "Removals", "Signature", "address_key", "read_removals", "sign"]

REMOVED = "removed"
"""The rule in ledgers and among rejects."""
RUN = 5
"""Words that are hashed together."""
MOST_HASHES = 4096
"""Of a signature, about: 32 KiB."""
LEAST = 8
"""Hashes that the shorter of two texts must have for what they share to mean anything: 12 words, more of a long text.
Shorter ones are copies where they are the same, folded."""
FOLDING = fold_of(FOLDINGS[Profile.WEB])
"""What copies may differ in: as pages and books may."""


class Kind(StrEnum):
    """How a document was named."""

    URL = "url"
    ID = "id"
    FILE = "file"


class Signature(Facts):
    """A text by its hashes."""

    digest: str
    """BLAKE2b of the folded words."""
    every: int
    """Hashes are kept that this divides."""
    hashes: str
    """XXH64 of runs of `RUN` words, ascending, as little-endian uint64 in base64."""

    def array(self) -> np.ndarray:
        """The hashes, uint64."""
        return np.frombuffer(base64.b64decode(self.hashes), dtype="<u8").astype(np.uint64)


class Ask(Facts):
    """What is to be left out. It holds nobody's text, and neither who asked nor when: equal asks are one."""

    kind: Kind
    address: str = ""
    """Of pages; one that ends in * means all that begin so."""
    texts: tuple[Signature, ...] = ()
    """Of the documents that were found when it was asked, or of the file that was given."""

    @property
    def name(self) -> str:
        """By which the store keeps it."""
        return digest(self.model_dump(mode="json"))[:16]


def sign(text: str) -> Signature | None:
    """The signature of a text; None where it has no word."""
    words = folded_words(text, FOLDING)
    if not len(words[1]):
        return None
    found = np.unique(shingles(words, RUN))
    every = -(-len(found) // MOST_HASHES) or 1
    kept = found[found % np.uint64(every) == 0]
    return Signature(
        digest=_digest(words[0]), every=every, hashes=base64.b64encode(kept.astype("<u8").tobytes()).decode()
    )


def _digest(words: np.ndarray) -> str:
    return hashlib.blake2b(words.data, digest_size=16).hexdigest()


def address_key(address: str) -> str:
    """An address without what makes no other page of it: scheme, `www.`, the usual port, fragment, slash at the end."""
    try:
        parts = urlsplit(address.strip() if "://" in address else f"//{address.strip()}")
        host, port = (parts.hostname or "").removeprefix("www."), parts.port
    except ValueError:  # no address: an odd host or port
        return address.strip()
    shown = f"{host}:{port}" if port not in (None, 80, 443) else host
    query = f"?{parts.query}" if parts.query else ""
    return f"{shown}{parts.path}{query}".rstrip("/")


@dataclass(frozen=True)
class Match:
    """Why a document is to go."""

    ask: str
    """The name of what was asked."""
    how: str
    """address, text (the same words) or copy."""
    overlap: float = 1.0
    """Share of runs of words, of a copy."""


class Removals:
    """Finds the documents that asks name, and copies of them.

    Args:
        asks: by name.
        overlap: as `extract.removed_overlap`.
    """

    def __init__(self, asks: Iterable[tuple[str, Ask]], overlap: float) -> None:
        self.overlap = overlap
        self.asks = dict(sorted(asks))
        signed = [(name, text) for name, ask in self.asks.items() for text in ask.texts]
        self.owners = [name for name, _ in signed]
        self.digests = {text.digest: name for name, text in reversed(signed)}
        self.every = [text.every for _, text in signed]
        arrays = [text.array() for _, text in signed]
        self.sizes = [len(each) for each in arrays]
        hashes = np.concatenate(arrays) if arrays else np.empty(0, np.uint64)
        order = np.argsort(hashes, kind="stable")
        self.hashes = hashes[order]
        self.text_of = np.repeat(np.arange(len(arrays)), self.sizes)[order]
        keys = {name: ask.address for name, ask in self.asks.items() if ask.address}
        self.pages = {address_key(each): name for name, each in keys.items() if not each.endswith("*")}
        below = {name: each[:-1] for name, each in keys.items() if each.endswith("*")}
        self.below = {address_key(each) + "/" * each.endswith("/"): name for name, each in below.items()}

    def __bool__(self) -> bool:
        return bool(self.asks)

    def match(self, document: Document) -> Match | None:
        """Why a document is to go; None where it may stay."""
        return self._by_address(str(document.metadata.get("url") or "")) or self.match_text(document.text)

    def _by_address(self, address: str) -> Match | None:
        if not address or not (self.pages or self.below):
            return None
        key = address_key(address)
        name = self.pages.get(key) or next(
            (name for begun, name in self.below.items() if f"{key}/".startswith(begun)), None
        )
        return Match(name, "address") if name else None

    def redacted(self, document: Document, match: Match) -> Document:
        """What is kept of a document that goes: where it was, and why it went."""
        told = {name: document.metadata[name] for name in ("source", "url", PROFILE) if name in document.metadata}
        told |= {"asked": match.ask, "how": match.how, "overlap": round(match.overlap, 3)}
        return Document(text="", id=document.id, metadata=told)

    def match_text(self, text: str) -> Match | None:
        """The same of a text without an address."""
        if not self.owners:
            return None
        words = folded_words(text, FOLDING)
        if not len(words[1]):
            return None
        if name := self.digests.get(_digest(words[0])):
            return Match(name, "text")
        likeness, place = max(self._overlaps(np.unique(shingles(words, RUN))), default=(0.0, 0))
        return Match(self.owners[place], "copy", likeness) if likeness >= self.overlap else None

    def _overlaps(self, found: np.ndarray) -> Iterator[tuple[float, int]]:
        """Share and number of each removed text that has runs of words in common with those of a document."""
        begins, ends = (np.searchsorted(self.hashes, found, side) for side in ("left", "right"))
        hit = np.flatnonzero(ends > begins)
        if not len(hit):
            return
        places = np.concatenate([self.text_of[begins[at] : ends[at]] for at in hit])
        for place, shared in zip(*np.unique(places, return_counts=True), strict=True):
            shorter = min(self.sizes[place], int(np.count_nonzero(found % np.uint64(self.every[place]) == 0)))
            if shorter >= LEAST:
                yield float(shared) / shorter, int(place)


def read_removals(config: ExtractConfig) -> Removals:
    """What the files of `config.removed` ask for.

    Raises:
        UserError: a file is missing, or no request.
    """
    asks = []
    for file in resolve(config.removed) if config.removed else []:
        with open_file(file) as stream:
            try:
                asks.append((Path(file.name).stem.rpartition("-")[2], Ask.model_validate_json(stream.read())))
            except ValueError:
                raise UserError(f"{file.path}: no request for removal; deepmill remove writes them") from None
    return Removals(asks, config.removed_overlap)
