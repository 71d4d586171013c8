"""Settings of the machine, not of the recipe: where things are kept and who is talked to. All from ``DEEPMILL_*``.

Secrets and addresses never enter a recipe, a manifest or a log; S3 credentials come from the usual ``AWS_*`` variables.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from infra.errors import UserError
from infra.wanted import wanted

__all__ = ["DATABASE", "Environment", "Settings", "quiet_network", "without_password"]

DATABASE = "mlflow.db"
"""MLflow's SQLite file beside the store."""


class Environment(BaseSettings):
    """Read from the environment, prefix ``DEEPMILL_``.

    Raises:
        UserError: a variable has a value that it cannot have.
    """

    model_config = SettingsConfigDict(env_prefix="DEEPMILL_", use_attribute_docstrings=True)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            name, said = f"DEEPMILL_{first['loc'][0]}".upper(), wanted(first) or first["msg"]
            raise UserError(f"{name}: {said}, not {first['input']}; unset it for the default") from None


class Settings(Environment):
    """Where things are kept."""

    root: str = "store"
    """The artifact store: a folder or ``s3://bucket/prefix``."""
    scratch: Path = Path(".deepmill")
    """Local folder for staging and fetched inputs when the store is on S3."""
    tracking_uri: str = Field("")
    """MLflow's tracking and registry address; empty means SQLite and files beside the store."""
    experiment: str = "deepmill"
    """MLflow experiment that the runs go to."""

    @property
    def local_root(self) -> Path:
        """A local folder for what must be local: the store itself, or the scratch folder of a store on S3."""
        return (self.scratch if "://" in self.root else Path(self.root)).absolute()

    @property
    def mlflow_uri(self) -> str:
        """`tracking_uri`, or the SQLite file beside the store."""
        return self.tracking_uri or f"sqlite:///{self.local_root / DATABASE}"

    @property
    def has_own_registry(self) -> bool:
        """Whether no other host can move this registry's aliases: a SQLite file."""
        return self.mlflow_uri.startswith("sqlite:")


def without_password(address: str) -> str:
    """An address as it may be kept and shown: what stands before the host's @ is left out."""
    parts = urlsplit(address)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if "@" in parts.netloc else address


QUIET = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
"""Nothing calls home, and no library draws over our lines: neither this process nor the ones it starts."""


def quiet_network() -> None:
    """Switch off every telemetry and hub access, where the user has not chosen otherwise."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
