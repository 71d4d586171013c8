"""Promotions made by hand in MLflow: noticed, judged, kept or undone. On a real MLflow store in SQLite."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from flows.cli import app
from flows.recipe.sections import PromoteConfig
from flows.registry.aliases import PREVIOUS, audit_of, facts_of
from flows.registry.audit import audit
from flows.registry.facts import JudgedGate, VersionFacts
from flows.registry.gates import judge
from flows.registry.names import alias_holder
from flows.registry.release import promote_by_hand, rollback
from infra.errors import UserError
from infra.settings import Settings
from infra.tracking import registry_client
from tests.flows.prepared import prepare_mlflow
from tests.flows.registry.test_release import GOOD, versions


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    root = tmp_path_factory.mktemp("vetting")
    prepare_mlflow(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEEPMILL_ROOT", str(root))
        yield Settings()


def test_a_promotion_by_hand_is_judged(settings: Settings) -> None:
    client = versions(settings, "hand", GOOD, GOOD, GOOD | {"quantization_kl": 0.4}, None)
    promote_by_hand(settings, "hand", "1", PromoteConfig(), force=False)
    assert audit(settings, "hand").message == ""
    client.set_registered_model_alias("hand", "champion", "2")
    verdict = audit(settings, "hand")
    assert (verdict.version, "its gates pass" in verdict.message) == ("2", True)
    assert audit(settings, "hand").message == ""  # once is enough
    for bad, told in (("3", "quantization"), ("4", "not registered by deepmill")):
        client.set_registered_model_alias("hand", "champion", bad)
        verdict = audit(settings, "hand")
        assert (verdict.version, told in verdict.message) == ("2", True)
        assert alias_holder(client, "hand", "champion") == "2"
    client.set_registered_model_alias("hand", "champion", "1")  # a way back is open, whatever the gates
    assert audit(settings, "hand").version == "1"
    assert [entry.version for entry in audit_of(client, "hand")] == ["1", "2", "2", "2", "1"]


def test_a_first_champion_that_fails_is_none(settings: Settings) -> None:
    client = versions(settings, "first", GOOD | {"quantization_kl": 0.4})
    client.set_registered_model_alias("first", "champion", "1")
    assert audit(settings, "first").version is None
    assert alias_holder(client, "first", "champion") is None


def test_the_registered_gates_judge(settings: Settings) -> None:
    client = versions(settings, "strict", GOOD)
    client.set_model_version_tag("strict", "1", "deepmill.gates", PromoteConfig(min_accuracy=0.9).model_dump_json())
    client.set_registered_model_alias("strict", "champion", "1")
    assert "accuracy" in audit(settings, "strict").message


def test_a_domain_that_got_worse_fails() -> None:
    ours, theirs = ({"bits_per_byte": {"wiki": wiki, "book": 2.0}} for wiki in (1.5, 1.2))
    gates = judge(PromoteConfig(), VersionFacts(**GOOD | ours), VersionFacts(**GOOD | theirs))
    assert [gate.gate for gate in gates if not gate.passed] == ["domain wiki"]


def test_compare_shows_both(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    versions(settings, "pair", GOOD, GOOD | {"accuracy": 0.65, "bytes": 900})
    app(["compare", "pair/1", "pair/2", "--no-samples"], standalone_mode=False)
    shown = capsys.readouterr().out
    assert "pair/1" in shown
    assert "+0.05" in shown
    assert "-100" in shown


def test_the_flows_move_the_alias(settings: Settings) -> None:
    from flows.registry.promotion import audit_champion, promote, rollback

    client = registry_client(settings)
    versions(settings, "flows", GOOD, GOOD)
    for flow in (promote, rollback, audit_champion):
        assert flow.name in ("promote", "rollback", "audit-champion")
    from prefect.logging import disable_run_logger

    with disable_run_logger():
        assert audit_champion.fn("flows") is None
        promote_by_hand(settings, "flows", "1", PromoteConfig(), force=False)
        client.set_registered_model_alias("flows", "champion", "2")
        assert audit_champion.fn("flows") == "2"
        assert rollback.fn("flows") == "1"


def test_every_model_of_ours_is_looked_at_and_no_other(settings: Settings) -> None:
    from prefect.logging import disable_run_logger

    from flows.registry.promotion import audit_champion

    client = versions(settings, "nightly", GOOD | {"quantization_kl": 0.4})
    client.create_registered_model("theirs")
    client.create_model_version("theirs", "file:///nowhere")
    for name in ("nightly", "theirs"):
        client.set_registered_model_alias(name, "champion", "1")
    with disable_run_logger():
        audit_champion.fn()
    assert alias_holder(client, "nightly", "champion") is None
    assert alias_holder(client, "theirs", "champion") == "1"


def test_no_way_back_to_what_nobody_judged(settings: Settings) -> None:
    """A version was champion by hand for a moment and became "the one before": that is no judgement."""
    client = versions(settings, "back", GOOD, GOOD, GOOD | {"quantization_kl": 0.4}, None)
    promote_by_hand(settings, "back", "1", PromoteConfig(), force=False)
    for stranger, told in (("3", "quantization"), ("4", "not registered by deepmill")):
        client.set_registered_model_alias("back", "champion", stranger)
        client.set_model_version_tag("back", "1", PREVIOUS, stranger)
        verdict = audit(settings, "back")
        assert (verdict.version, told in verdict.message) == ("1", True)
        assert "its gates pass" not in verdict.message
        with pytest.raises(UserError, match=f"back version {stranger} cannot be its champion again"):
            rollback(settings, "back")
    assert alias_holder(client, "back", "champion") == "1"


def test_nothing_is_built_on_a_promotion_that_nobody_judged(settings: Settings) -> None:
    """A promotion looks at the holder first, so that neither its numbers nor a later way back are a stranger's."""
    client = versions(settings, "built", GOOD, GOOD | {"quantization_kl": 0.4, "accuracy_low": 0.99}, GOOD)
    promote_by_hand(settings, "built", "1", PromoteConfig(), force=False)
    client.set_registered_model_alias("built", "champion", "2")
    promote_by_hand(settings, "built", "3", PromoteConfig(), force=False)
    assert client.get_model_version("built", "3").tags[PREVIOUS] == "1"
    assert [entry.version for entry in audit_of(client, "built")] == ["1", "1", "3"]


def test_a_rollback_after_a_promotion_by_hand_goes_to_the_one_before_it(settings: Settings) -> None:
    client = versions(settings, "undo", GOOD, GOOD)
    promote_by_hand(settings, "undo", "1", PromoteConfig(), force=False)
    client.set_registered_model_alias("undo", "champion", "2")
    assert rollback(settings, "undo") == "1"


def test_what_a_person_forced_may_come_back(settings: Settings) -> None:
    client = versions(settings, "forced", GOOD | {"quantization_kl": 0.4}, GOOD, GOOD | {"format_rate": 0.0}, None)
    promote_by_hand(settings, "forced", "1", PromoteConfig(), force=True)
    promote_by_hand(settings, "forced", "2", PromoteConfig(), force=False)
    assert rollback(settings, "forced") == "1"
    client.set_registered_model_alias("forced", "champion", "4")
    assert audit(settings, "forced").version == "1"


def test_the_audit_keeps_what_the_gates_said(settings: Settings) -> None:
    client = versions(settings, "kept", GOOD)
    promote_by_hand(settings, "kept", "1", PromoteConfig(min_accuracy=0.3), force=False)
    (entry,) = audit_of(client, "kept")
    assert entry.gates["accuracy"] == JudgedGate(passed=True, value=GOOD["accuracy"], limit=0.3)
    assert set(entry.gates) == {"accuracy", "format", "quantization"}


def test_an_entry_of_the_audit_fits_into_any_database(settings: Settings) -> None:
    sources = {f"source {number} of many": 1.0 for number in range(200)}
    client = versions(settings, "wide", GOOD | {"bits_per_byte": sources}, GOOD | {"bits_per_byte": sources})
    for version in ("1", "2"):
        promote_by_hand(settings, "wide", version, PromoteConfig(), force=False)
    tags = client.get_registered_model("wide").tags
    assert max(len(text) for key, text in tags.items() if key.startswith("deepmill.audit.")) < 5000
    assert alias_holder(client, "wide", "champion") == "2"


def test_entries_and_numbers_of_earlier_releases_are_read(settings: Settings) -> None:
    client = versions(
        settings, "older", {name: value for name, value in GOOD.items() if name != "bytes"} | {"colour": "blue"}
    )
    client.set_registered_model_tag(
        "older",
        "deepmill.audit.20250101T000000.000000Z",
        json.dumps({"version": 1, "alias": "champion", "why": "once"}),
    )
    (move,) = audit_of(client, "older")
    assert (move.version, move.passed, move.forced) == ("1", None, False)
    assert facts_of(client, "older", "1").bytes is None


def test_numbers_that_cannot_be_read_are_named(settings: Settings) -> None:
    client = versions(settings, "damaged", {"accuracy": "much"})
    with pytest.raises(
        UserError, match=r"damaged version 1: its numbers \(tag deepmill.facts\) cannot be read: accuracy"
    ):
        facts_of(client, "damaged", "1")
