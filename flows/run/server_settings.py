"""Settings of the servers that `deepmill up` runs: all from ``DEEPMILL_*``, and secrets from nowhere else."""

from __future__ import annotations

import socket
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, SecretStr

from infra.credentials import Credential
from infra.errors import UserError
from infra.settings import Environment, Settings

__all__ = ["LOOPBACK", "ServerSettings"]

LOOPBACK = ("127.0.0.1", "localhost", "::1")
WILDCARDS = ("0.0.0.0", "::")
"""Bound to these, the servers answer on every address of the machine."""
DEFAULT_CRON = "0 2 * * *"
OWN_RECIPES = "recipes"
"""Folder where a team's recipes are looked for, below the one that `deepmill up` is called in."""


class ServerSettings(Environment):
    """Read from the environment, prefix ``DEEPMILL_``."""

    home: Path | None = None
    """Folder for the servers' state and logs; beside the store when left out."""
    host: str = "127.0.0.1"
    """What the servers bind to. Anything but loopback needs `login`."""
    prefect_port: int = Field(4200, ge=0, le=65535)
    mlflow_port: int = Field(5000, ge=0, le=65535)
    pages_port: int = Field(4280, ge=0, le=65535)
    """Overview, reports and metrics."""
    login: SecretStr = SecretStr("")
    """``user:password`` that Prefect, MLflow and the pages ask for; one is made where this is empty."""
    database: SecretStr = SecretStr("")
    """``postgresql://user:password@host:port``: the databases `prefect` and `mlflow` there; empty means SQLite."""
    artifacts: str = ""
    """Where MLflow keeps its artifacts, ``s3://bucket/prefix`` say; empty means beside the store."""
    pools: str = "default"
    """Work pools that this machine serves, separated by commas; empty means none (servers only)."""
    deploy_pools: str = ""
    """Work pools that flows are deployed to; those that this machine serves when left out."""
    servers: str = ""
    """Host where `deepmill up` runs, for workers and runs on other machines; empty means this one."""
    runs_at_once: int = Field(2, ge=1)
    """Flow runs that one worker takes on at the same time."""
    cron: str = DEFAULT_CRON
    """When the nightly run of the first recipe starts; empty switches it off."""
    timezone: str = "UTC"
    """Of `cron`."""
    recipes: str = ""
    """Recipes to deploy (presets or files), separated by commas; the first one runs nightly. When empty, the sample and
    every file of the folder `recipes`."""
    allowed_hosts: str = ""
    """Names under which the servers may be reached besides their own (``name`` or ``name:port``), separated by commas:
    that of a proxy before them, say. A request under any other name is turned away."""
    notify_webhook: SecretStr = SecretStr("")
    """Address that gets a JSON POST when a run fails, a stage is stuck, or a model is promoted."""
    notify_email: str = ""
    """Addresses, separated by commas, that get the same as mail, through `smtp`."""
    smtp: SecretStr = SecretStr("")
    """``smtp://user:password@host:port`` or ``smtps://``."""

    def folder(self, settings: Settings) -> Path:
        """Where the servers keep their state."""
        return self.home or settings.local_root / ".services"

    @property
    def pool_names(self) -> list[str]:
        return _list(self.pools)

    @property
    def deployed_pools(self) -> list[str]:
        return _list(self.deploy_pools) or self.pool_names or ["default"]

    @property
    def addresses(self) -> dict[str, str]:
        """Of the servers, for clients."""
        return {"prefect": self.prefect_url, "mlflow": self.mlflow_url, "pages": self.pages_url}

    @property
    def recipe_names(self) -> list[str]:
        """What is deployed: the sample and the team's own recipes, which lie in `recipes/`, unless the settings say."""
        return _list(self.recipes) or ["sample", *sorted(map(str, Path(OWN_RECIPES).glob("*.yaml")))]

    @property
    def reached_at(self) -> str:
        """Host that people and clients use."""
        if self.servers:
            return self.servers
        return "127.0.0.1" if self.host in (*LOOPBACK, *WILDCARDS) else self.host

    @property
    def prefect_url(self) -> str:
        return f"http://{_bracketed(self.reached_at)}:{self.prefect_port}"

    @property
    def mlflow_url(self) -> str:
        return f"http://{_bracketed(self.reached_at)}:{self.mlflow_port}"

    @property
    def pages_url(self) -> str:
        return f"http://{_bracketed(self.reached_at)}:{self.pages_port}"

    @property
    def host_names(self) -> tuple[str, ...]:
        """Names by which a request may address the servers."""
        from infra.http_guard import LOOPBACK_NAMES

        names = [*LOOPBACK_NAMES, _bracketed(self.reached_at), *_list(self.allowed_hosts)]
        if self.host not in LOOPBACK:
            names.append(socket.gethostname())
            names += _own_addresses() if self.host in WILDCARDS else [_bracketed(self.host)]
        return tuple(dict.fromkeys(name.lower() for name in names))

    def credentials(self) -> Credential | None:
        """The login that the environment names; None where it names none.

        Raises:
            UserError: `login` has no colon, or the password is too short for MLflow.
        """
        text = self.login.get_secret_value()
        if not text:
            return None
        user, colon, password = text.partition(":")
        if not colon or not user or len(password) < 12:
            raise UserError("DEEPMILL_LOGIN: write it as user:password, the password with 12 characters or more")
        return Credential(user, password)

    def check(self) -> None:
        """Refuse what would be unsafe or cannot work.

        Raises:
            UserError: the servers would be open to others, a package is missing, or a port is taken.
        """
        if self.host not in LOOPBACK and self.credentials() is None:
            raise UserError(
                f"DEEPMILL_HOST={self.host}: the servers would be open to the network; "
                "set DEEPMILL_LOGIN=user:password first, or stay on 127.0.0.1"
            )
        address = self.database.get_secret_value()
        if address and urlsplit(address).scheme not in ("postgresql", "postgres"):
            raise UserError("DEEPMILL_DATABASE: write it as postgresql://user:password@host:port")
        for setting, wanted, package in (
            ("DATABASE", bool(address), "psycopg"),
            ("ARTIFACTS", self.artifacts.startswith("s3://"), "boto3"),
            ("LOGIN", self.credentials() is not None, "flask_wtf"),
        ):
            if wanted and find_spec(package) is None:
                raise UserError(f"DEEPMILL_{setting} needs the package {package}: pip install 'deepmill[cluster]'")
        for name in ("prefect_port", "mlflow_port", "pages_port"):
            port = getattr(self, name)
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((self.host, port))
                except OSError as error:
                    raise UserError(
                        f"port {port}: {error.strerror}; free it or choose another with DEEPMILL_{name.upper()}"
                    ) from None


def _bracketed(address: str) -> str:
    """An address as it stands in a URL."""
    return f"[{address}]" if ":" in address and not address.startswith("[") else address


def _own_addresses() -> list[str]:
    import psutil

    families = (socket.AF_INET, socket.AF_INET6)
    every = [each for addresses in psutil.net_if_addrs().values() for each in addresses]
    return [_bracketed(each.address.partition("%")[0]) for each in every if each.family in families]


def _list(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]
