"""The documentation builds as a site, its links lead somewhere, and its reference has all that the code has."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built with every warning an error."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "-q", "-f", str(ROOT / "docs/site/mkdocs.yml"), "-d", folder]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_key_of_the_recipe_is_there(site: Path) -> None:
    from flows.recipe.keys import all_keys, sections_of

    page = (site / "reference/recipe/index.html").read_text()
    shown = set(re.findall(r"<code>([\w.&;-]+)</code>", page))
    keys = {key.path.replace("<", "&lt;").replace(">", "&gt;") for key in all_keys() if not sections_of(key)}
    assert len(keys) > 400
    assert not keys - shown


def test_every_command_is_there(site: Path) -> None:
    import typer

    from flows.cli import app

    page = (site / "reference/commands/index.html").read_text()
    commands = {name for name, command in typer.main.get_command(app).commands.items() if not command.hidden}  # type: ignore[attr-defined]
    assert {"run", "plan", "serve", "new"} <= commands
    assert not [name for name in commands if f">deepmill {name}" not in page]


def test_every_route_and_every_key_of_a_request_is_there(site: Path) -> None:
    from flows.serving.openapi import OPERATIONS

    page = (site / "reference/http/index.html").read_text()
    for each in OPERATIONS:
        assert f">{each.method.upper()} {each.path}" in page
        assert not each.body or not [key for key in each.body.model_fields if f"<code>{key}</code>" not in page]


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    loaded = [
        (page.name, address)
        for page in site.rglob("*.html")
        for address in re.findall(r"<(?:script|img|iframe)[^>]*? src=\"?(https?:[^\" >]+)", page.read_text())
        + re.findall(r"<link[^>]*? rel=\"?stylesheet\"?[^>]*? href=\"?(https?:[^\" >]+)", page.read_text())
    ]
    assert not loaded


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "SECURITY.md"])
def test_links_within_the_repository(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text)
    assert not [target for target in targets if not (ROOT / target).exists()]
