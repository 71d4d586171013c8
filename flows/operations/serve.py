"""Serves Prefect, MLflow or the pages behind the guards: ``python -m flows.operations.serve prefect|mlflow|pages``.

The login is in the environment (`DEEPMILL_LOGIN`), which `ps` does not show. Every server answers under its own names
and to pages of its own origin only (`infra.http_guard`), and only to whoever has the login (`infra.login_guard`).
"""

from __future__ import annotations

import os
import sys

from starlette.types import ASGIApp

from flows.run.server_settings import ServerSettings
from infra.credentials import Credential
from infra.errors import DeepmillError, UserError
from infra.http_guard import OriginGuard
from infra.imports import importing
from infra.private_files import PRIVATE_UMASK
from infra.settings import Settings

__all__ = ["application"]


def application(name: str, servers: ServerSettings) -> tuple[ASGIApp, int]:
    """The guarded application of a server, and its port.

    Raises:
        UserError: the environment has no login, or no server is called so.
    """
    credential = servers.credentials()
    if credential is None:
        raise UserError("DEEPMILL_LOGIN is not set; deepmill up starts the servers, and gives them a login")
    if name == "prefect":
        return _prefect(servers, credential), servers.prefect_port
    if name == "mlflow":
        return _mlflow(servers, credential), servers.mlflow_port
    if name == "pages":
        from flows.operations.pages import create_app

        return OriginGuard(create_app(Settings(), servers), servers.host_names), servers.pages_port
    raise UserError(f"{name}: no such server; there are prefect, mlflow and pages")


def _prefect(servers: ServerSettings, credential: Credential) -> ASGIApp:
    from flows.run.prefect_app import guarded_prefect

    return guarded_prefect(credential, servers.host_names)


def _mlflow(servers: ServerSettings, credential: Credential) -> ASGIApp:
    from flows.operations.mlflow_app import guarded_mlflow

    return guarded_mlflow(credential, servers.host_names)


def main(name: str) -> None:
    """Serve until SIGTERM."""
    from flows.run.prefect_app import serve_app

    os.umask(PRIVATE_UMASK)
    servers = ServerSettings()
    with importing():
        app, port = application(name, servers)
    serve_app(app, servers.host, port)


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except DeepmillError as problem:
        sys.exit(str(problem))
