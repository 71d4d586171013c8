"""What the servers refuse before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.run import server_settings as settings
from flows.run.server_settings import ServerSettings
from infra.errors import UserError
from tests.flows.tiny import deepmill

LOGIN = "team:not-a-secret-in-a-test"


def test_open_to_the_network_only_with_a_login(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="would be open to the network; set DEEPMILL_LOGIN=user:password first"):
        ServerSettings(host="0.0.0.0").check()
    with pytest.raises(UserError, match="12 characters or more"):
        ServerSettings(host="0.0.0.0", login="admin:short").check()  # type: ignore[arg-type]
    ServerSettings(host="0.0.0.0", login=LOGIN, prefect_port=0, mlflow_port=0, pages_port=0).check()  # type: ignore[arg-type]
    assert "nothing was up" in deepmill(tmp_path, "down")


def test_a_setting_whose_package_is_missing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything starts, not when the first run writes to MLflow."""
    monkeypatch.setattr(settings, "find_spec", lambda name: None if name == "boto3" else object())
    with pytest.raises(
        UserError, match=r"DEEPMILL_ARTIFACTS needs the package boto3: pip install 'deepmill\[cluster\]'"
    ):
        ServerSettings(artifacts="s3://bucket/mlflow").check()
