"""What a document is, as the stage that read it wrote down."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.sections import Profile

__all__ = ["PROFILE", "profile_of"]

PROFILE = "profile"
"""Key of a document's metadata."""
_BY_NAME = {
    "web": Profile.WEB,
    "wiki": Profile.REFERENCE,
    "book": Profile.PROSE,
    "code": Profile.CODE,
}
"""Documents of artifacts that are older than profiles were judged by the names of their sources."""


def profile_of(metadata: Mapping[str, Any]) -> Profile:
    """The profile of the document with this metadata, `source` included."""
    if said := metadata.get(PROFILE):
        return Profile(said)
    return _BY_NAME.get(metadata["source"], Profile.PROSE)
