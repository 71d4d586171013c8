"""The registry: gates judge, aliases move one at a time, nothing is forgotten. On a real MLflow store in SQLite."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from flows.cli import app
from flows.recipe.sections import PromoteConfig
from flows.registry.aliases import CHALLENGER, GATES, IDENTITY
from flows.registry.audit import audit
from flows.registry.facts import FACTS, VersionFacts
from flows.registry.gates import judge
from flows.registry.release import promote_by_hand, released_version, rollback
from infra.errors import UserError
from infra.integrity import folder_digests
from infra.settings import Settings, without_password
from infra.tracking import registry_client
from model.release.card import NO_LICENCE, SECTIONS
from tests.flows.prepared import prepare_mlflow

GOOD: dict[str, Any] = {
    "accuracy": 0.6,
    "accuracy_low": 0.5,
    "accuracy_high": 0.7,
    "format_rate": 0.99,
    "quantization_kl": 0.02,
    "precision": "int4",
    "bytes": 1000,
}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    root = tmp_path_factory.mktemp("registry")
    prepare_mlflow(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEEPMILL_ROOT", str(root))
        yield Settings()


def versions(settings: Settings, name: str, *facts: dict[str, Any] | None, source: str = "") -> Any:
    """A registered model with a version for each of `facts`."""
    client = registry_client(settings)
    client.create_registered_model(name)
    for number, each in enumerate(facts, 1):
        tags = {IDENTITY: f"artifact{number}"} | ({FACTS: json.dumps(each)} if each else {})
        client.create_model_version(name, f"{source or Path(settings.root).as_uri()}/m{number}", tags=tags)
    return client


@pytest.mark.parametrize(
    ("change", "failed"),
    [
        ({}, []),
        ({"accuracy": 0.1}, ["accuracy"]),
        ({"format_rate": 0.2}, ["format"]),
        ({"quantization_kl": 0.5}, ["quantization"]),
        ({"accuracy_high": 0.45}, ["champion"]),
        ({"quantization_kl": float("nan")}, ["quantization"]),
    ],
)
def test_gates(change: dict[str, Any], failed: list[str]) -> None:
    config = PromoteConfig(min_accuracy=0.3, min_format_rate=0.9, max_quantization_kl=0.1)
    gates = judge(config, VersionFacts(**GOOD | change), VersionFacts(**GOOD))
    assert [gate.gate for gate in gates if not gate.passed] == failed
    assert len(judge(config, VersionFacts(**GOOD), None)) == 3


@pytest.mark.parametrize(("limit", "passes"), [(0.2, False), (2.0, True), (0.0, True)])
def test_a_first_version_may_not_have_forgotten_what_its_base_knew(limit: float, passes: bool) -> None:
    read = {"base": "pretrain", "bits_per_byte": {"book": 5.78, "web": 2.1}}
    facts = VersionFacts(**GOOD | read, bits_per_byte_base={"book": 1.96, "web": 2.0, "gone": 1.0})
    gates = judge(PromoteConfig(max_forgetting=limit), facts, None)
    failed = [gate for gate in gates if not gate.passed]
    assert not failed if passes else [gate.gate for gate in failed] == ["forgetting"]
    if not passes:
        assert failed[0].told.startswith("forgetting: 1.949, the limit is 0.2 (rise of bits per byte of book since ")
        assert "replay.text" in failed[0].told


def test_gates_of_a_release_that_was_measured_itself_say_so() -> None:
    read = {
        "measured": "release",
        "base": "pretrain",
        "bits_per_byte": {"web": 3.0},
        "bits_per_byte_base": {"web": 2.0},
    }
    gates = {gate.gate: gate for gate in judge(PromoteConfig(min_accuracy=0.99), VersionFacts(**GOOD | read), None)}
    assert "answered right, by the served weights, at least" in gates["accuracy"].told
    assert not gates["forgetting"].passed
    assert "less with fewer experts pruned" in gates["forgetting"].told


def test_promotion_rollback_and_their_trail(settings: Settings) -> None:
    client = versions(settings, "trail", GOOD, GOOD | {"accuracy": 0.65}, GOOD | {"quantization_kl": 0.4})
    config = PromoteConfig()
    promote_by_hand(settings, "trail", "1", config, force=False)
    promote_by_hand(settings, "trail", "2", config, force=False)
    with pytest.raises(UserError, match=r"version 3 does not pass the gate quantization: 0\.4, the limit is 0\.1"):
        promote_by_hand(settings, "trail", "3", config, force=False)
    assert str(client.get_model_version_by_alias("trail", "champion").version) == "2"
    promote_by_hand(settings, "trail", "3", config, force=True)
    assert client.get_model_version("trail", "3").tags["deepmill.promoted_why"] == "forced by hand"
    assert rollback(settings, "trail") == "2"
    assert rollback(settings, "trail") == "1"
    with pytest.raises(UserError, match="nothing to go back to"):
        rollback(settings, "trail")
    audit = [
        json.loads(value)
        for key, value in sorted(client.get_registered_model("trail").tags.items())
        if key.startswith("deepmill.audit.")
    ]
    assert [(entry["from"], entry["version"]) for entry in audit] == [
        (None, "1"),
        ("1", "2"),
        ("2", "3"),
        ("3", "2"),
        ("2", "1"),
    ]


def test_two_promotions_at_once_leave_a_whole_history(settings: Settings) -> None:
    client = versions(settings, "race", GOOD, GOOD, GOOD)
    promote_by_hand(settings, "race", "1", PromoteConfig(), force=False)
    with ThreadPoolExecutor(2) as pool:
        list(
            pool.map(
                lambda version: promote_by_hand(settings, "race", version, PromoteConfig(), force=False), ["2", "3"]
            )
        )
    champion = str(client.get_model_version_by_alias("race", "champion").version)
    first = {"2": "3", "3": "2"}[champion]
    assert client.get_model_version("race", champion).tags["deepmill.previous"] == first
    assert client.get_model_version("race", first).tags["deepmill.previous"] == "1"


def test_what_is_not_there_or_not_ours(settings: Settings) -> None:
    versions(settings, "foreign", None)
    with pytest.raises(UserError, match="foreign version 1: not registered by deepmill"):
        promote_by_hand(settings, "foreign", "1", PromoteConfig(), force=True)
    with pytest.raises(UserError, match="foreign version 9: not in the registry"):
        promote_by_hand(settings, "foreign", "9", PromoteConfig(), force=False)
    with pytest.raises(UserError, match="no version is its champion"):
        rollback(settings, "foreign")


def test_a_version_is_found_by_its_artifact(settings: Settings) -> None:
    client = versions(settings, "found", GOOD, GOOD)
    assert released_version(client, "found", "artifact2") == "2"
    assert released_version(client, "found", "artifact9") is None
    assert CHALLENGER == "challenger"


def test_passwords_are_not_kept() -> None:
    assert without_password("https://me:secret@host:5000/x") == "https://host:5000/x"
    assert without_password("sqlite:////a/b@c.db") == "sqlite:////a/b@c.db"


CARD = "\n\n".join(f"## {title}\n\nsomething" for title in SECTIONS)


def registered(settings: Settings, name: str, folder: Path, card: str) -> Any:
    """A version with real files and a card."""
    (folder / "weights").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "weights" / "model.safetensors").write_bytes(b"weights")
    client = registry_client(settings)
    artifact = Path(settings.root) / "files" / name
    (artifact / "artifacts").mkdir(parents=True)
    shutil.copytree(folder, artifact / "artifacts" / "model")
    client.create_registered_model(name)
    tags = {IDENTITY: "one", FACTS: json.dumps(GOOD | {"files": folder_digests(folder)})}
    client.create_model_version(name, artifact.as_uri(), tags=tags, description=card)
    return artifact / "artifacts" / "model"


def test_files_and_card_are_judged(settings: Settings, tmp_path: Path) -> None:
    there = registered(settings, "whole", tmp_path / "a", CARD)
    gates = promote_by_hand(settings, "whole", "1", PromoteConfig(), force=False)
    assert [(gate.gate, gate.passed) for gate in gates[-2:]] == [("checksums", True), ("card", True)]
    (there / "weights" / "model.safetensors").write_bytes(b"weights, but others")
    (there / "more.bin").write_bytes(b"")
    with pytest.raises(UserError, match=r"gate checksums: 2, .*\(more\.bin, weights/model\.safetensors\)"):
        promote_by_hand(settings, "whole", "1", PromoteConfig(), force=False)
    assert promote_by_hand(settings, "whole", "1", PromoteConfig(check_files=False), force=False)
    registered(settings, "silent", tmp_path / "b", CARD.replace("## Loading\n\nsomething", "## Loading"))
    with pytest.raises(UserError, match=r"gate card: 1, .*\(Loading\)"):
        promote_by_hand(settings, "silent", "1", PromoteConfig(), force=False)
    registered(settings, "free", tmp_path / "c", f"{CARD}\n{NO_LICENCE}")
    promote_by_hand(settings, "free", "1", PromoteConfig(), force=False)
    with pytest.raises(UserError, match=r"\(licence\)"):
        promote_by_hand(settings, "free", "1", PromoteConfig(require_licence=True), force=False)


def test_a_version_that_answers_nothing_is_no_champion(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    """A floor holds where there is no champion to be compared with; a recipe may lower it."""
    nothing = GOOD | {"accuracy": 0.0, "accuracy_low": 0.0, "accuracy_high": 0.04}
    client = versions(settings, "nothing", nothing, nothing)
    with pytest.raises(UserError, match=r"version 1 does not pass the gate accuracy: 0, the limit is 0\.01"):
        promote_by_hand(settings, "nothing", "1", force=False)
    client.set_registered_model_alias("nothing", "champion", "1")
    assert audit(settings, "nothing").version is None
    client.set_model_version_tag("nothing", "2", GATES, PromoteConfig(min_accuracy=0).model_dump_json())
    assert promote_by_hand(settings, "nothing", "2", force=False)
    app(["models"], standalone_mode=False)
    assert "0.0%" in capsys.readouterr().out


def test_a_version_is_judged_by_the_gates_it_carries(settings: Settings, tmp_path: Path) -> None:
    """Not by those of the preset `sample`, on any of the ways to promote; another recipe's are asked for by name."""
    from prefect.logging import disable_run_logger

    from flows.registry.promotion import promote

    client = versions(settings, "own", GOOD, GOOD | {"quantization_kl": 0.4})
    strict = PromoteConfig(min_accuracy=0.9).model_dump_json()
    client.set_model_version_tag("own", "1", GATES, strict)
    client.set_model_version_tag("own", "2", GATES, PromoteConfig(max_quantization_kl=0.5).model_dump_json())
    with pytest.raises(UserError, match=r"version 1 does not pass the gate accuracy: 0\.6, the limit is 0\.9"):
        app(["promote", "own", "1"], standalone_mode=False)
    with disable_run_logger(), pytest.raises(UserError, match="gate accuracy"):
        promote.fn("own", "1")
    app(["promote", "own", "2"], standalone_mode=False)
    assert str(client.get_model_version_by_alias("own", "champion").version) == "2"
    app(["promote", "own", "1", "--recipe", "sample"], standalone_mode=False)
    assert str(client.get_model_version_by_alias("own", "champion").version) == "1"


def test_gates_that_cannot_be_read_pass_nothing(settings: Settings) -> None:
    client = versions(settings, "torn", GOOD)
    client.set_model_version_tag("torn", "1", GATES, '{"min_accuracy": "most"}')
    with pytest.raises(UserError, match=r"torn version 1: its gates .* cannot be read .*--recipe"):
        promote_by_hand(settings, "torn", "1", force=False)
    client.set_registered_model_alias("torn", "champion", "1")
    assert audit(settings, "torn").version is None
