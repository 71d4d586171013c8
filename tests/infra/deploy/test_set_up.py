"""What set-up installs is what the packages say they need, and what is missing is said with its extra."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

import infra.deploy.closure as closure_script
from infra.deploy.closure import closure
from infra.deploy.set_up import EXTRAS, HEAVY

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "infra" / "deploy"


def names(part: str) -> list[str]:
    return (DEPLOY / f"{part}.txt").read_text().split()


def without(modules: tuple[str, ...], *arguments: str) -> str:
    """A command's line to standard error where these modules are not installed."""
    script = (
        f"import sys, importlib.util\nfor name in {modules}: sys.modules[name] = None\n"
        "real = importlib.util.find_spec\n"
        f"importlib.util.find_spec = lambda name, *more: None if name in {modules} else real(name, *more)\n"
        "from flows.cli import main; main()"
    )
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False).stderr


@pytest.mark.parametrize("purpose", ["run", "test"])
def test_the_lists_are_what_the_metadata_says(purpose: str) -> None:
    wanted = closure(set(EXTRAS[purpose].split(",")))
    listed = set(names("run")) | (set(names("test")) if purpose == "test" else set())
    assert listed == wanted, "make lock writes them"


def test_every_listed_package_has_one_version() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    pinned = {canonicalize_name(line.partition("==")[0]) for line in lines}
    assert {*names("run"), *names("test")} <= pinned
    assert not set(names("run")) & set(names("test"))
    assert set(HEAVY) <= {*names("run"), *names("test")}


def test_a_run_needs_no_tests_linters_or_clusters() -> None:
    assert not {"pytest", "ruff", "mypy", "ray", "playwright", "transformers", "gensim", "lm-eval"} & set(names("run"))


def test_the_corpus_part_needs_neither_torch_nor_servers() -> None:
    assert not {"torch", "deepspeed", "prefect", "mlflow", "transformers"} & closure(set())


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> list[str]:
        if name == "numpy":
            raise PackageNotFoundError(name)
        return ["numpy"]

    monkeypatch.setattr(closure_script, "requires", nothing)
    with pytest.raises(PackageNotFoundError, match="numpy"):
        closure(set())


def test_what_an_older_python_3_11_needs_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    needs = {
        "deepmill": ["redis"],
        "redis": ['async-timeout; python_full_version < "3.11.3"', 'tomli; python_version < "3.11"'],
    }
    monkeypatch.setattr(closure_script, "requires", lambda name: needs.get(name, []))
    assert closure(set()) == {"redis", "async-timeout"}


@pytest.mark.parametrize(
    ("modules", "command", "extra"),
    [
        (("prefect",), ("run", "nothing.yaml"), None),  # the recipe is looked at first
        (("mlflow",), ("models",), "orchestrate"),
        (("prefect",), ("up",), "orchestrate"),
        (("prometheus_client",), ("serve", "model"), "orchestrate"),
        (("markupsafe",), ("report",), "orchestrate"),
    ],
)
def test_what_is_missing_is_said_with_its_extra(
    modules: tuple[str, ...], command: tuple[str, ...], extra: str | None
) -> None:
    said = without(modules, *command)
    assert said.count("\n") == 1
    if extra:
        assert said.startswith(f"error {modules[0]} is not installed: pip install 'deepmill[{extra}]' brings it")
    else:
        assert "nothing.yaml" in said


def test_a_module_that_nothing_brings_is_a_fault_with_its_traceback() -> None:
    assert "Traceback" in without(("json",), "models")
