"""Opens the artifact store that the settings name: a folder, or a prefix of an object store."""

from __future__ import annotations

from pathlib import Path

from infra.errors import UserError
from infra.settings import Settings
from infra.store import LocalStore, Store

__all__ = ["open_store"]


def open_store(settings: Settings) -> Store:
    """The store that the settings name.

    Raises:
        UserError: it cannot be written to.
    """
    if "://" not in settings.root:
        return LocalStore(Path(settings.root))
    from infra.object_store import ObjectStore  # brings fsspec and the client of the object store

    try:
        return ObjectStore(settings.root, settings.scratch)
    except (ImportError, ValueError, OSError) as error:
        raise UserError(f"{settings.root}: cannot open the store ({error}); check the address and AWS_*") from None
