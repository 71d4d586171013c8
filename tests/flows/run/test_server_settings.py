"""What the servers refuse before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.operations.deployments import plan_deployments
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


def test_what_is_deployed_is_what_the_team_uses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DEEPMILL_RECIPES", raising=False)
    assert ServerSettings().recipe_names == ["sample"]
    (tmp_path / "recipes").mkdir()
    for name in ("web.yaml", "books.yaml", "notes.txt"):
        (tmp_path / "recipes" / name).write_text("{}")
    assert ServerSettings().recipe_names == ["sample", "recipes/books.yaml", "recipes/web.yaml"]
    assert ServerSettings(recipes="laptop, mine.yaml").recipe_names == ["laptop", "mine.yaml"]


def test_only_the_first_recipe_has_a_schedule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    planned = plan_deployments(ServerSettings(recipes="sample,laptop"))
    scheduled = [(item.flow, item.name) for item in planned if item.cron and "upkeep" not in item.tags]
    assert scheduled == [("flows.mill:mill", "sample")]
