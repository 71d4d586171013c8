"""What `deepmill up` runs: Prefect, MLflow, the pages, the deployments, a worker per pool."""

from __future__ import annotations

import os
import secrets
import socket
import sys
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

from flows.operations.connection import client_environment, known_login
from flows.run.prefect_server import PREFECT_GUARDED
from flows.run.server_settings import ServerSettings
from infra.credentials import Credential, make_login
from infra.http_guard import LOOPBACK_NAMES
from infra.private_files import close_files, private_folder
from infra.relocation import relocate
from infra.services import Group, Service
from infra.settings import DATABASE, Settings

__all__ = ["database_url", "service_group", "worker_group"]

WORKER_STOP_SECONDS = 20.0
"""A worker first stops its flows, which stop their stages, which save; then it goes."""
AUTH_CACHE_SECONDS = 60
"""How long MLflow knows a password that was right: comparing one takes 0.1 s, at each request without this."""
FIXED = ("--type", "process", "--no-create-pool-if-not-found", "--install-policy", "never")
WORKER = {
    "PREFECT_WORKER_QUERY_SECONDS": "2",
    "PREFECT_WORKER_CANCELLATION_POLL_SECONDS": "3",
}
"""A run that someone starts in the UI should begin soon, and one that they cancel should end soon."""


def service_group(settings: Settings, servers: ServerSettings) -> Group:
    """Every program of this machine, in the order it starts; makes the login that they ask for where none is set.

    Raises:
        UserError: the folder for their state belongs to another user.
    """
    folder = private_folder(servers.folder(settings))
    close_files(_kept_in(settings))
    credential = servers.credentials() or make_login(folder)
    client = _client(settings, servers, credential)
    python = sys.executable
    serve = [python, "-m", "flows.operations.serve"]
    first = 1 if servers.database.get_secret_value() else 0  # Prefect makes its SQLite file itself
    services = [
        Service(
            name="databases",
            command=[python, "-m", "flows.operations.databases"],
            environment=client,
            once=True,
        ),
        Service(
            name="prefect",
            wave=first,
            command=[*serve, "prefect"],
            environment=_prefect_environment(folder, servers, credential),
            ready=f"{servers.prefect_url}/api/health",
            address=servers.prefect_url,
        ),
        Service(
            name="mlflow",
            wave=1,
            command=[*serve, "mlflow"],
            environment=_mlflow_environment(settings, servers, credential),
            ready=f"{servers.mlflow_url}/health",
            address=servers.mlflow_url,
        ),
        Service(
            name="pages",
            command=[*serve, "pages"],
            environment=client | {"DEEPMILL_LOGIN": credential.text},
            ready=f"{servers.pages_url}/health",
            address=servers.pages_url,
        ),
        Service(
            name="deployments",
            wave=first + 1,
            command=[python, "-m", "flows.operations.deployments"],
            environment=client,
            once=True,
        ),
    ]
    services += _workers(servers, client)
    return Group(services=services, facts=_facts(settings, servers))


def worker_group(settings: Settings, servers: ServerSettings) -> Group:
    """The workers of this machine alone, for servers that are elsewhere."""
    client = _client(settings, servers, known_login(settings, servers))
    return Group(services=_workers(servers, client), facts=_facts(settings, servers))


def _kept_in(settings: Settings) -> list[Path]:
    """What an older version, or runs without servers, left open in the local store: the database, records, logs."""
    root = settings.local_root
    return [*root.glob(f"{DATABASE}*"), *(root / name for name in ("runs", ".staging", ".leases"))]


def _workers(servers: ServerSettings, client: dict[str, str]) -> list[Service]:
    worker = [sys.executable, "-m", "flows.operations.worker"]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])  # finds our python
    return [
        Service(
            name=f"worker-{pool}",
            wave=3,
            # no --limit: the pool's queue `runs` has one, and upkeep must not wait behind it
            command=[*worker, "--pool", pool, "--name", f"{socket.gethostname()}-{pool}", *FIXED],
            environment=client | WORKER | {"DEEPMILL_POOL": pool, "PATH": path},
            child_first=WORKER_STOP_SECONDS,
        )
        for pool in servers.pool_names
    ]


def _facts(settings: Settings, servers: ServerSettings) -> dict[str, str]:
    return servers.addresses | {"store": settings.root}


def _client(settings: Settings, servers: ServerSettings, credential: Credential | None) -> dict[str, str]:
    """The environment of the workers, their flows and the pages, with every path made absolute."""
    return client_environment(_facts(settings, servers), credential) | {
        "DEEPMILL_HOME": str(servers.folder(settings)),
        "DEEPMILL_ROOT": settings.root if "://" in settings.root else str(settings.local_root),
        "DEEPMILL_SCRATCH": str(settings.scratch.absolute()),
    }


def database_url(servers: ServerSettings, name: str, driver: str) -> str:
    """The address of one of the databases, with the driver that its program wants."""
    parts = urlsplit(servers.database.get_secret_value())
    return urlunsplit(parts._replace(scheme=f"postgresql+{driver}" if driver else "postgresql", path=f"/{name}"))


def _prefect_environment(folder: Path, servers: ServerSettings, credential: Credential) -> dict[str, str]:
    found = PREFECT_GUARDED | {
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_API_URL": f"{servers.prefect_url}/api",
        "PREFECT_SERVER_API_PORT": str(servers.prefect_port),
        "PREFECT_SERVER_UI_API_URL": f"{servers.prefect_url}/api",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_SERVER_UI_V2_ENABLED": "false",  # its pages call home; `PAGE_POLICY` keeps them from it as well
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
        "PREFECT_SERVER_DATABASE_TIMEOUT": "60",  # SQLite on a busy machine
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": servers.prefect_url,
        "PREFECT_SERVER_API_AUTH_STRING": credential.text,
        "PREFECT_API_AUTH_STRING": credential.text,
        "DEEPMILL_LOGIN": credential.text,
    }
    if servers.database.get_secret_value():
        found["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = database_url(servers, "prefect", "asyncpg")
    return found


def mlflow_database(settings: Settings, servers: ServerSettings) -> str:
    """Address of MLflow's own database."""
    if servers.database.get_secret_value():
        return database_url(servers, "mlflow", "psycopg")
    return f"sqlite:///{settings.local_root / DATABASE}"


def _mlflow_environment(settings: Settings, servers: ServerSettings, credential: Credential) -> dict[str, str]:
    relocate(settings.local_root)  # a store that was moved: else runs would write to where it was
    # the address may hold a password, so it goes by the environment, which `ps` does not show
    found = {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_BACKEND_STORE_URI": mlflow_database(settings, servers),
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": servers.artifacts or (settings.local_root / "mlartifacts").as_uri(),
        "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(_mlflow_hosts(servers)),
        "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": ",".join(_mlflow_origins(servers)),
        "DEEPMILL_LOGIN": credential.text,
    }
    if servers.credentials():  # who set a login may want more users beside it
        found |= {
            "MLFLOW_AUTH_ADMIN_USERNAME": credential.user,
            "MLFLOW_AUTH_ADMIN_PASSWORD": credential.password,
            "MLFLOW_AUTH_CONFIG_PATH": str(_auth_config(servers.folder(settings))),
            "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(32),
        }
    return found


def _mlflow_hosts(servers: ServerSettings) -> list[str]:
    """The patterns by which MLflow itself knows its names, with and without a port."""
    names = servers.host_names
    return [*names, *(f"{name.replace('[', '[[]', 1)}:*" for name in names)]


def _mlflow_origins(servers: ServerSettings) -> list[str]:
    names = [name for name in servers.host_names if name not in LOOPBACK_NAMES]
    return [servers.mlflow_url, *(f"{scheme}://{name}" for name in names for scheme in ("https", "http"))]


def _auth_config(folder: Path) -> Path:
    """MLflow's configuration of logins: who is not named may read nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "mlflow-auth.ini"
    path.write_text(
        "[mlflow]\n"
        "default_permission = NO_PERMISSIONS\n"
        f"database_uri = sqlite:///{quote(str(folder / 'mlflow-auth.db'))}\n"
        f"auth_cache_ttl_seconds = {AUTH_CACHE_SECONDS}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    path.chmod(0o600)
    return path
