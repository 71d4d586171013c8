"""The deployment files pass the linters of their kinds, the schemas, and the project's own rules of safety."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from model.architecture.varlen import PACKAGES, Kernel

DEPLOY = Path(__file__).parents[3] / "infra" / "deploy"
MANIFESTS = sorted(path for path in (DEPLOY / "kubernetes").glob("*.yaml") if path.name != "kustomization.yaml")
KUBERNETES = "1.31"


def program(name: str) -> str:
    """A linter that came as a wheel: beside the interpreter, or on the PATH."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (it comes with the extra dev)")
    return found


def said(*command: str, **variables: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=os.environ | variables)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def documents() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in MANIFESTS:
        for document in yaml.safe_load_all(path.read_text()):
            yield f"{path.name}:{document['kind']}/{document['metadata'].get('name', '')}", document


def pod(document: dict[str, Any]) -> dict[str, Any] | None:
    return document["spec"]["template"]["spec"] if document["kind"] in ("Deployment", "StatefulSet", "Job") else None


def containers() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    for name, document in documents():
        if spec := pod(document):
            for container in spec["containers"]:
                yield f"{name}/{container['name']}", spec, container


@pytest.mark.drill
@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.cuda"])
def test_hadolint(name: str) -> None:
    said(program("hadolint"), str(DEPLOY / name))


@pytest.mark.drill
@pytest.mark.parametrize("path", sorted((DEPLOY / "slurm").glob("*.sbatch")), ids=lambda path: path.name)
def test_shellcheck(path: Path) -> None:
    said(program("shellcheck"), str(path))


@pytest.mark.drill
def test_yamllint() -> None:
    rules = "{extends: relaxed, rules: {line-length: disable}}"
    said(program("yamllint"), "--strict", "-d", rules, str(DEPLOY))


@pytest.mark.drill
def test_kubernetes_schemas() -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed (extra dev)")
    found = list(documents())
    assert len(found) >= 12
    for _, document in found:
        validate.validate(document, KUBERNETES, strict=True)
    broken = dict(found[2][1]) | {"spec": {"replicas": "many"}}
    with pytest.raises(validate.ValidationError):
        validate.validate(broken, KUBERNETES, strict=True)


@pytest.mark.drill
def test_kustomize_makes_what_the_schemas_allow() -> None:
    """What `kubectl apply -k` sends; no API server is to be had from the package registries to send it to."""
    if not (kubectl := shutil.which("kubectl")):
        pytest.skip("kubectl is not installed (Debian: kubernetes-client)")
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed (extra dev)")
    made = list(yaml.safe_load_all(said(kubectl, "kustomize", str(DEPLOY / "kubernetes"))))
    for document in made:
        validate.validate(document, KUBERNETES, strict=True)
    listed = {(each["kind"], each["metadata"]["name"]) for name, each in documents() if "run-job" not in name}
    assert {(each["kind"], each["metadata"]["name"]) for each in made} == listed


@pytest.mark.drill
def test_compose_schema(tmp_path: Path) -> None:
    check = [program("check-jsonschema"), "--builtin-schema", "vendor.compose-spec"]
    said(*check, str(DEPLOY / "compose.yaml"))
    broken = tmp_path / "compose.yaml"
    broken.write_text((DEPLOY / "compose.yaml").read_text().replace("restart:", "restarts:"))
    with pytest.raises(AssertionError, match="restarts"):
        said(*check, str(broken))


def test_compose_wants_what_the_example_lists_and_opens_nothing() -> None:
    text = (DEPLOY / "compose.yaml").read_text()
    example = (DEPLOY / "compose.env.example").read_text()
    assert set(re.findall(r"\$\{(\w+):\?", text)) == set(re.findall(r"^(\w+)=", example, re.MULTILINE))
    assert not re.search(r"\$\{\w+\}", text)  # each is required: none is empty by mistake
    services = yaml.safe_load(text)["services"]
    assert set(services) == {"postgres", "s3", "mill"}
    assert all(port.startswith("127.0.0.1:") for service in services.values() for port in service.get("ports", []))


def test_every_file_is_in_the_kustomization() -> None:
    listed = yaml.safe_load((DEPLOY / "kubernetes" / "kustomization.yaml").read_text())["resources"]
    assert sorted([*listed, "run-job.yaml"]) == [path.name for path in MANIFESTS]


@pytest.mark.parametrize(
    ("name", "spec", "container"), list(containers()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_pods_are_confined(name: str, spec: dict[str, Any], container: dict[str, Any]) -> None:
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    context = container["securityContext"]
    assert context == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"]["memory"]
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    there = {volume["name"] for volume in spec["volumes"]} | {"data"}  # `data` may be a claim template
    assert mounted <= there


def test_secrets_are_only_named() -> None:
    """A password is a reference to a Secret, an environment variable to be set, or an example without a value."""
    for name, _, container in containers():
        for variable in container["env"]:
            if any(word in variable["name"] for word in ("LOGIN", "SECRET", "KEY", "DATABASE", "PASSWORD")):
                assert "valueFrom" in variable, f"{name}: {variable['name']}"
    example = (DEPLOY / "compose.env.example").read_text().splitlines()
    assert all(line.endswith("=") for line in example if line and not line.startswith("#"))


def test_the_settings_that_the_files_name_exist() -> None:
    from flows.run.server_settings import ServerSettings
    from infra.settings import Settings

    known = {f"DEEPMILL_{field.upper()}" for model in (Settings, ServerSettings) for field in model.model_fields}
    files = [path for path in DEPLOY.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    text = "".join(path.read_text() for path in files)
    named = set(re.findall(r"DEEPMILL_[A-Z_]+", text))
    assert named
    assert named <= known, named - known


def test_the_flash_attention_that_is_installed_is_one_that_is_taken() -> None:
    """The extra and the image pin versions of which the kernel's rule says that gradients repeat."""
    image = (DEPLOY / "Dockerfile.cuda").read_text()
    (pinned,) = re.findall(r'^ARG FLASH_ATTENTION="(.+)"$', image, re.MULTILINE)
    extras = tomllib.loads((DEPLOY.parents[1] / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for line, kernel in ((pinned, Kernel.FLASH3), (*extras["gpu"], Kernel.FLASH2)):
        requirement, package = Requirement(line), PACKAGES[kernel]
        (pin,) = requirement.specifier
        assert (requirement.name, pin.operator) == (package.name, "==")
        assert pin.version in package.versions
    others = [line for name, lines in extras.items() if name != "gpu" for line in lines]
    assert not [line for line in others if "flash" in line or "gpu" in line], "set-up and CI have no CUDA compiler"


def test_the_images_hold_what_the_code_needs() -> None:
    """Both images install the project with its constraints, run as nobody in particular, and start what exists."""
    from flows.cli import app

    commands = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    for name in ("Dockerfile", "Dockerfile.cuda"):
        lines = (DEPLOY / name).read_text().splitlines()
        assert any("--constraint constraints.txt" in line for line in lines)
        assert [line for line in lines if line.startswith("USER ")] == ["USER 10001"]
        (last,) = [line for line in lines if line.startswith("CMD ")]
        assert yaml.safe_load(last.removeprefix("CMD "))[1] in commands
