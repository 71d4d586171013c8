"""Opens the artifact store that the settings name: a folder, or a prefix of an object store."""

from __future__ import annotations

from pathlib import Path

from infra.errors import UserError
from infra.settings import Settings
from infra.store import LocalStore, Store

__all__ = ["open_store"]


def open_store(settings: Settings, *, writes: bool = True) -> Store:
    """The store that the settings name; a folder is made where there is none, unless it is only looked into.

    Raises:
        UserError: it cannot be written to, though it is to be (`writes`).
    """
    if "://" not in settings.root:
        return LocalStore(Path(settings.root), writes=writes)
    from infra.object_store import ObjectStore  # brings fsspec and the client of the object store

    try:
        return ObjectStore(settings.root, settings.scratch)
    except (ImportError, ValueError, OSError) as error:
        raise UserError(f"{settings.root}: cannot open the store ({error}); check the address and AWS_*") from None
