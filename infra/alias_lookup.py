"""Which version an alias of the registry names, read from MLflow's own SQLite file.

MLflow takes seconds to import; a run that finds everything cached asks this one question of it. Read only, and only
where the file has the tables that are known here: else the caller asks MLflow.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from urllib.parse import quote

from infra.settings import Settings

__all__ = ["CannotTellError", "version_behind"]

PREFIX = "sqlite:///"
COLUMNS = {"name", "alias", "version", "workspace"}
BUSY_SECONDS = 5.0


class CannotTellError(Exception):
    """The registry is no SQLite file of this machine, or one of another version of MLflow."""


def version_behind(settings: Settings, model: str, alias: str) -> str | None:
    """The version that `alias` of `model` names; None where it names none.

    Raises:
        CannotTellError: only MLflow can tell.
    """
    path = Path(settings.mlflow_uri.removeprefix(PREFIX))
    if not settings.mlflow_uri.startswith(PREFIX) or not path.is_file():
        raise CannotTellError(settings.mlflow_uri)
    try:
        address = f"file:{quote(str(path.absolute()))}?mode=ro"
        with contextlib.closing(sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS)) as rows:
            known = {str(row[1]) for row in rows.execute("PRAGMA table_info(registered_model_aliases)")}
            if known != COLUMNS:
                raise CannotTellError("another version of MLflow")
            found = rows.execute(
                "SELECT version FROM registered_model_aliases WHERE name = ? AND alias = ? AND workspace = 'default'",
                (model, alias),
            ).fetchall()
    except sqlite3.Error as error:
        raise CannotTellError(str(error)) from None
    return str(found[0][0]) if found else None
