"""One recipe in many places: here on one worker and on two, on Slurm, on Ray, on disk and on S3. The same bytes.

Plan, runner and store are those of every run; Prefect and MLflow, which have their own tests, are left out.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

import infra.digests
import infra.object_store
from flows.recipe.plan import make_plan, on_cluster
from flows.recipe.recipe import load_recipe
from flows.recipe.stages import Family
from infra.open_store import open_store
from infra.runner import make
from infra.settings import Settings
from tests.flows.tiny import RECIPE, write_corpus
from tests.infra import slurm

Contents = dict[str, list[tuple[str, str]]]
"""Path and checksum of the files of each artifact."""
NOTES = 3


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Raw files: a dump, and notes in several files, so that stages have several tasks."""
    folder = write_corpus(tmp_path_factory.mktemp("raw"))
    lines = (folder / "notes.jsonl").read_text().splitlines(keepends=True)
    (folder / "notes.jsonl").unlink()
    for number in range(NOTES):
        (folder / f"notes{number}.jsonl").write_text("".join(lines[number::NOTES]))
    return folder


def milled(folder: Path, raw: str, root: str, execution: dict[str, Any]) -> Contents:
    """Make the corpus of the tiny recipe from the files below `raw`, in a store at `root`."""
    sources = {f"notes{n}": {"kind": "jsonl", "paths": [f"{raw}/notes{n}.jsonl"]} for n in range(NOTES)}
    sources["wiki"] = {"kind": "wiki", "paths": [f"{raw}/wiki.xml.bz2"]}
    changes = {"execution": execution, "extract": {"sources": sources}, "recall": None}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE | changes))
    store = open_store(Settings(root=root, scratch=folder / "scratch"))
    contents: Contents = {}
    for item in make_plan(load_recipe(str(folder / "recipe.yaml")), store).stages:
        if item.stage.family is Family.CORPUS:
            elsewhere = on_cluster(item.job.execution, store)
            manifest, there = make(store, item.job, lambda event: None, elsewhere=elsewhere)
            assert not there
            contents[item.stage.name] = [(file.path, file.sha256) for file in manifest.files]
    return contents


@pytest.fixture(scope="module")
def reference(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Contents:
    """By one worker, on disk."""
    folder = tmp_path_factory.mktemp("reference")
    contents = milled(folder, str(raw), str(folder / "store"), {"workers": 1})
    assert len([path for path, _ in contents["extract"] if path.startswith("documents/")]) > NOTES
    assert any(path.startswith("train/") for path, _ in contents["shards"])
    return contents


@pytest.mark.drill
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("executor", "place"),
    [
        ("ray", "s3"),
        *(  # `tests.flows.test_places` has a flow with a local executor on S3, `test_executors` stages on Slurm
            pytest.param(*pair, marks=pytest.mark.nightly)
            for pair in (("local", "disk"), ("local", "s3"), ("slurm", "disk"), ("slurm", "s3"), ("ray", "disk"))
        ),
    ],
)
def test_the_bytes_are_the_same(
    executor: str,
    place: str,
    raw: Path,
    reference: Contents,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    variables: dict[str, str] = {}
    execution: dict[str, Any] = {"executor": executor, "workers": 2, "task_memory_gb": 0.5}
    if executor == "slurm":
        variables |= request.getfixturevalue("slurm_variables")
    if executor == "ray":
        address, key = request.getfixturevalue("ray_place")
        execution["ray"] = {"address": address}
        variables |= key
    files, root = str(raw), str(tmp_path / "store")
    if place == "s3":
        import s3fs

        variables |= request.getfixturevalue("s3")
        filesystem = s3fs.S3FileSystem(
            key=variables["AWS_ACCESS_KEY_ID"],
            secret=variables["AWS_SECRET_ACCESS_KEY"],
            endpoint_url=variables["AWS_ENDPOINT_URL"],
            skip_instance_cache=True,
        )
        files, root = f"s3://test/raw-{executor}", f"s3://test/store-{executor}"
        for path in raw.iterdir():
            filesystem.put_file(str(path), f"{files}/{path.name}")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    for module in (infra.digests, infra.object_store):  # checksums and uploads are the cluster's work too
        monkeypatch.setattr(module, "MANY_BYTES", 0)
    assert milled(tmp_path, files, root, execution) == reference
    if executor == "slurm":
        assert slurm.jobs(variables) == []
    shutil.rmtree(tmp_path)
