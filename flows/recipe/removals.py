"""Requests for removal, as a store keeps them: who asked for what, when and why, and what it reached then.

Nothing is ever changed: a request is a note of its own, taking one back is another, and what is asked for is kept by
its content (`pipeline.removal.asks`), so that a rerun of an old run finds what that run was told. All recipes whose
runs see the store heed them: the plan gives them to `extract`, into whose identity they enter by content.
"""

from __future__ import annotations

import getpass
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import PurePath

from pydantic import Field

from infra.errors import UserError
from infra.facts import Facts
from infra.json_objects import JsonObject
from infra.manifest import Manifest
from infra.store import Store

__all__ = [
    "FoundDocument",
    "Reached",
    "Request",
    "active",
    "asked",
    "find_request",
    "heeded",
    "keep",
    "requests",
    "take_back",
]

ASK, LOG = "removal-ask-", "removal-log-"
"""How the names of notes begin: what is asked for, and who asked."""


class FoundDocument(Facts):
    """A document that a request names, or a copy of one, and where it was found."""

    artifact: str
    """``stage/identity``"""
    id: str
    source: str
    url: str = ""
    characters: int = 0
    how: str
    """address, text (the same words) or copy."""
    overlap: float = 1.0


class Reached(Facts):
    """An artifact that the documents of a request went into."""

    artifact: str
    """``stage/identity``"""
    files: dict[str, int] = Field(default_factory=dict)
    """Documents in each of its files, by path; none where it was learned from, and holds no text."""
    passed_on: bool = True
    """Whether later stages read them there; rejects are read by none."""

    @property
    def holds_text(self) -> bool:
        """Whether the artifact has the text in it."""
        return bool(self.files)


class Request(Facts):
    """An entry of the record."""

    id: str
    at: str
    """UTC, ISO 8601."""
    by: str
    """The user."""
    why: str = ""
    kind: str = ""
    """url, id or file;"""
    value: str = ""
    """the address or id, or the name of the file."""
    ask: str = ""
    """What is asked for, by its name; empty where a request is taken back."""
    takes_back: str = ""
    """The request that this one takes back."""
    looked_at: tuple[str, ...] = ()
    """The `extract` artifacts that there were, as ``stage/identity``."""
    found: tuple[FoundDocument, ...] = ()
    reached: tuple[Reached, ...] = ()
    versions: tuple[str, ...] = ()
    """Registered versions whose training text had them, as MODEL/VERSION."""

    def reached_lines(self) -> list[str]:
        """What it reached: artifacts that hold the text, those that learned from it, registered versions."""
        holding = [each.artifact for each in self.reached if each.holds_text]
        learned = [each.artifact for each in self.reached if not each.holds_text]
        found = [("its text is in", holding), ("made of it", learned), ("learned by", self.versions)]
        return [f"{what}: {', '.join(which)}" for what, which in found if which]


def keep(store: Store, ask: str, body: JsonObject, **told: object) -> Request:
    """Add a request to the record; `ask` is the name of what is asked for, `body` the same as JSON."""
    store.write_note(f"{ASK}{ask}", body)
    return _write(store, ask=ask, **told)


def take_back(store: Store, request: Request, why: str) -> Request:
    """Add to the record that a request is no longer made."""
    return _write(store, takes_back=request.id, kind=request.kind, value=request.value, why=why)


def _write(store: Store, **told: object) -> Request:
    now = datetime.now(UTC)
    name = f"{now:%Y%m%d-%H%M%S}-{now.microsecond:06d}-{secrets.token_hex(2)}"
    entry = Request.model_validate(
        {"id": name, "at": now.isoformat(timespec="seconds"), "by": getpass.getuser(), **told}
    )
    store.write_note(f"{LOG}{name}", entry.model_dump(mode="json"))
    return entry


def requests(store: Store) -> Iterator[Request]:
    """The whole record, oldest first."""
    for name in store.notes(LOG):
        if (body := store.read_note(name)) is not None:
            yield Request.model_validate(body)


def active(store: Store) -> list[Request]:
    """The requests that were not taken back, oldest first."""
    every = list(requests(store))
    back = {each.takes_back for each in every}
    return [each for each in every if each.ask and each.id not in back]


def asked(store: Store) -> tuple[str, ...]:
    """The files of what is asked for now, for `extract.removed`; each once, in order of their names."""
    return tuple(store.note_place(f"{ASK}{name}") for name in sorted({each.ask for each in active(store)}))


def heeded(manifest: Manifest) -> set[str]:
    """What an `extract` artifact left out, by the names of what was asked for."""
    return {PurePath(each).stem.removeprefix(ASK) for each in manifest.config.get("removed", ())}


def find_request(store: Store, name: str) -> Request:
    """The one request that is made and whose id begins so.

    Raises:
        UserError: there is none, or more.
    """
    found = [each for each in active(store) if each.id.startswith(name)]
    if len(found) != 1:
        told = f"{len(found)} requests begin so" if found else "no such request for removal"
        raise UserError(f"{name}: {told}; see deepmill remove --list")
    return found[0]
