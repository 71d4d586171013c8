"""The same recipe in other places: on S3, and without any network. The artifacts are those of the golden run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from infra.open_store import open_store
from infra.settings import Settings
from tests.flows.golden import golden
from tests.flows.prepared import prepare_mlflow, prepare_prefect
from tests.flows.tiny import SECONDS, deepmill, environment, write_recipe


def corpus_only(root: Path) -> str:
    """A program that runs the flow `corpus` alone, as a scheduler would."""
    write_recipe(root)
    return (
        "from flows.mill import corpus; from flows.recipe.recipe import load_recipe\n"
        "from flows.run.prefect_server import PrefectServer\n"
        "with PrefectServer() as server:\n    server.wait()\n    corpus(load_recipe('tiny.yaml'))\n"
    )


@pytest.mark.drill
@pytest.mark.usefixtures("on_s3", "on_prefect")
def test_the_corpus_flow_gives_the_golden_artifacts_on_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = corpus_only(tmp_path)
    places = {"DEEPMILL_ROOT": "s3://test/places", "DEEPMILL_SCRATCH": str(tmp_path / "scratch")}
    subprocess.run(
        [sys.executable, "-c", program], env=environment(tmp_path) | places, cwd=tmp_path, check=True, timeout=SECONDS
    )
    for name, value in places.items():
        monkeypatch.setenv(name, value)
    store = open_store(Settings())
    contents = {item.identity: item.content for name in ("extract", "shards") for item in store.manifests(name)}
    assert len(contents) == 2
    assert contents.items() <= golden().made().items()
    (record,) = [store.read_run(name) for name in store.runs()]
    assert record is not None
    assert record["state"] == "completed"


@pytest.mark.drill
def test_without_a_network_it_is_the_same(tmp_path: Path) -> None:
    """In a network namespace with nothing but loopback: whatever calls home fails loudly or hangs."""
    program = corpus_only(tmp_path)
    prepare_mlflow(tmp_path / "store")
    prepare_prefect(tmp_path.parent / "prefect")
    inside = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$0" "$@"']
    if subprocess.run([*inside, "true"], capture_output=True, check=False).returncode:
        pytest.skip("network namespaces are not allowed here")
    done = subprocess.run(
        [*inside, sys.executable, "-c", program],
        env=environment(tmp_path),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr
    assert "All connection attempts failed" not in done.stderr
    assert "shards" in deepmill(tmp_path, "plan", "tiny.yaml")
