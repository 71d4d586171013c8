"""Makes the databases that are missing, before the servers look for them: ``python -m flows.operations.databases``."""

from __future__ import annotations

import sys

from flows.operations.servers import database_url
from flows.run.server_settings import ServerSettings
from infra.errors import DeepmillError, UserError
from infra.settings import DATABASE, Settings, without_password

__all__ = ["make_databases"]


def make_databases() -> None:
    """The SQLite file of MLflow, or the databases `prefect` and `mlflow` on the PostgreSQL server of the settings.

    Raises:
        UserError: PostgreSQL cannot be reached, or the login may not create databases.
    """
    settings, servers = Settings(), ServerSettings()
    if servers.database.get_secret_value():
        _make_on_postgres(servers)
    elif not (settings.local_root / DATABASE).exists():
        from infra.tracking import make_database

        settings.local_root.mkdir(parents=True, exist_ok=True)
        make_database(settings.local_root)


def _make_on_postgres(servers: ServerSettings) -> None:
    import psycopg

    address = database_url(servers, "postgres", "")
    try:
        with psycopg.connect(address, autocommit=True, connect_timeout=10) as connection:
            there = {name for (name,) in connection.execute("select datname from pg_database").fetchall()}
            for name in ("prefect", "mlflow"):
                if name not in there:
                    connection.execute(f'create database "{name}"')
    except psycopg.Error as error:
        reason = str(error).strip().splitlines()[-1]
        raise UserError(f"{without_password(address)}: {reason}; check DEEPMILL_DATABASE") from None


if __name__ == "__main__":
    try:
        make_databases()
    except DeepmillError as problem:
        sys.exit(str(problem))
