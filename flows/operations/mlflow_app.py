"""MLflow's server behind the guards of our own.

MLflow lets pages of every port of this machine in, and asks nobody who they are unless its own users are switched on.
They are where the login was set by hand (`MLFLOW_AUTH_CONFIG_PATH`), so that more users can be added beside it; the
guard then leaves other logins than its own to MLflow.
"""

from __future__ import annotations

import os

from starlette.types import ASGIApp, Scope

from infra.credentials import Credential
from infra.login_guard import guarded

__all__ = ["guarded_mlflow"]

PROBES = ("/health", "/version")


def guarded_mlflow(credential: Credential, hosts: tuple[str, ...]) -> ASGIApp:
    """MLflow's application over the stores that `MLFLOW_BACKEND_STORE_URI` and `MLFLOW_DEFAULT_ARTIFACT_ROOT` name.

    Clients write artifacts where the experiment says, with their own credentials: the same with and without a server.
    """
    from mlflow.environment_variables import _MLFLOW_SGI_NAME
    from mlflow.server.constants import (
        ARTIFACT_ROOT_ENV_VAR,
        BACKEND_STORE_URI_ENV_VAR,
        REGISTRY_STORE_URI_ENV_VAR,
    )

    database, artifacts = os.environ["MLFLOW_BACKEND_STORE_URI"], os.environ["MLFLOW_DEFAULT_ARTIFACT_ROOT"]
    os.environ |= {  # what `mlflow server` hands to the process that serves; this is that process
        BACKEND_STORE_URI_ENV_VAR: database,
        REGISTRY_STORE_URI_ENV_VAR: database,
        ARTIFACT_ROOT_ENV_VAR: artifacts,
        _MLFLOW_SGI_NAME.name: "uvicorn",
    }
    from mlflow.server.handlers import initialize_backend_stores

    initialize_backend_stores(database, database, artifacts)
    has_users = bool(os.environ.get("MLFLOW_AUTH_CONFIG_PATH"))
    return guarded(_application(has_users), credential, hosts, is_open=_is_open, delegates=has_users)


def _application(has_users: bool) -> ASGIApp:
    if has_users:
        from mlflow.server.auth import create_app

        return create_app()
    from mlflow.server.fastapi_app import app

    return app


def _is_open(scope: Scope) -> bool:
    return scope["type"] == "http" and scope["path"] in PROBES and scope["method"] in ("GET", "HEAD")
