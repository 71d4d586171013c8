"""A document is asked to be removed: what that reached, what is made again without it, and that it is nowhere then."""

from __future__ import annotations

import importlib
import json
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.cli import app
from flows.commands.app import console
from flows.operations.retention import plan_removed
from flows.recipe.plan import Plan, make_plan
from flows.recipe.recipe import load_recipe
from flows.recipe.removals import active, requests
from flows.registry.facts import LINEAGE
from flows.registry.file_gates import REMOVAL
from flows.registry.release import promote_by_hand
from flows.registry.removal_audit import audit_removals, audit_run
from flows.registry.removal_tags import tag_reached
from flows.run.record import RunRecord, StageRecord
from flows.run.session import Session, Silent
from infra.errors import UserError
from infra.fingerprint import fingerprint
from infra.manifest import Manifest, record_files, split_address
from infra.settings import Settings
from infra.store import LocalStore
from pipeline.removal.asks import REMOVED
from pipeline.tasks.documents import read_documents
from pipeline.tasks.ledger import DocumentMetrics
from tests.flows.prepared import prepare_mlflow
from tests.flows.registry.test_release import GOOD, versions
from tests.flows.tiny import RECIPE
from tests.pipeline.corpus import set_workers, words

SECRET = words(7, 100)
COPIES = {
    "copied": SECRET.upper(),
    "embedded": f"{words(900, 60)} {SECRET} {words(901, 60)}",
    "piece": " ".join(SECRET.split()[20:80]),
}
CORPUS = ("extract", "clean", "dedup", "reasoning", "decontaminate", "tokenizer", "shards")


def _write(folder: Path) -> Path:
    folder.mkdir()
    site = [{"text": words(number, 100), "url": f"https://example.org/{number}"} for number in range(20)]
    others = [{"text": words(100 + number, 100)} for number in range(20)] + [{"text": text} for text in COPIES.values()]
    for name, rows in (("site", site), ("others", others)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sources = {name: {"kind": "jsonl", "paths": [str(folder / f"{name}.jsonl")]} for name in ("site", "others")}
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(RECIPE | {"name": "mine", "extract": {"sources": sources}}))
    return path


class Mill:
    """A store, a recipe on two files, and what makes the corpus stages in this process."""

    def __init__(self, folder: Path) -> None:
        self.recipe, self.store, self.settings = _write(folder / "in"), LocalStore(folder / "store"), Settings()

    def plan(self) -> Plan:
        return make_plan(load_recipe(str(self.recipe)), self.store)

    def run(self, run_id: str) -> RunRecord:
        """Make the corpus, and a file in place of the model."""
        for item in self.plan().stages:
            if item.stage.name in (*CORPUS, "pretrain"):
                self._make(item.job)
        stages = {item.stage.name: {"identity": item.job.identity, "state": "made"} for item in self.plan().stages}
        record = RunRecord.model_validate({"run_id": run_id, "stages": stages, "state": "completed"})
        self.store.write_run(run_id, record.model_dump(mode="json"))
        return record

    def _make(self, job: Any) -> None:
        if self.store.find(job.stage, job.identity):
            return
        staging = self.store.staging(job.stage, job.identity)
        staging.prepare("")
        metrics: dict[str, Any] = {}
        if job.stage == "pretrain":
            (staging.artifact / "weights").write_text(job.identity)
        else:
            module, name = job.entrypoint.split(":")
            function = getattr(importlib.import_module(module), name)
            config = next(iter(typing.get_type_hints(function).values())).model_validate(job.config)
            inputs = {role: self.store.path(*split_address(where)) for role, where in job.inputs.items()}
            metrics = function(config, inputs, staging.artifact).written()
        files, content = record_files(staging.artifact)
        manifest = Manifest(
            **{name: getattr(job, name) for name in ("stage", "version", "identity", "config")},
            inputs=dict(job.inputs),
            files=files,
            content=content,
            fingerprint=fingerprint(job.entrypoint),
            metrics=metrics,
            started="2026-01-01T00:00:00+00:00",
            seconds=10.0,
            run_id="",
        )
        self.store.publish(staging, manifest)


class Noting(Silent):
    """A display that keeps what a run notes."""

    notes: typing.ClassVar[list[str]] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture(scope="module")
def milled(tmp_path_factory: pytest.TempPathFactory) -> typing.Iterator[Mill]:
    """With a first run, and what two versions of a model were made of: its shards, and others'."""
    folder = tmp_path_factory.mktemp("removal")
    prepare_mlflow(folder / "store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEEPMILL_ROOT", str(folder / "store"))
        patch.setattr(console, "width", 400)
        set_workers(patch, 1)
        mill = Mill(folder)
        mill.run("first")
        client = versions(mill.settings, "mine", GOOD, GOOD)
        client.set_model_version_tag("mine", "1", LINEAGE, json.dumps(mill.plan().identities))
        client.set_model_version_tag("mine", "2", LINEAGE, json.dumps({"shards": "others", "extract": "others"}))
        yield mill


@pytest.fixture
def told(milled: Mill, capsys: pytest.CaptureFixture[str]) -> typing.Iterator[Callable[..., str]]:
    """What a command prints; requests that a test leaves are taken back."""

    def tell(*arguments: str) -> str:
        app(list(arguments), standalone_mode=False)
        return capsys.readouterr().out

    yield tell
    for request in active(milled.store):
        tell("remove", "--undo", request.id)


def _asked(milled: Mill, version: str = "1") -> list[str]:
    """The tags of a version that name requests."""
    from infra.tracking import registry_client

    return [key for key in registry_client(milled.settings).get_model_version("mine", version).tags if REMOVAL in key]


def test_a_page_and_its_copies_are_left_out_and_found_nowhere(milled: Mill, told: Callable[..., str]) -> None:
    before = milled.plan()
    printed = told("remove", "--url", "http://example.org/7/", "--reason", "its author asked")
    assert "site/site.jsonl/8" in printed
    assert all(f"others/others.jsonl/{number}" in printed for number in (21, 22, 23))
    (request,) = active(milled.store)
    assert (request.why, len(request.found), request.versions) == ("its author asked", 4, ("mine/1",))
    assert SECRET[:40] not in "".join(path.read_text() for path in (milled.store.root / ".notes").iterdir())

    plan = milled.plan()
    again = {item.stage.name for item in plan.stages if item.runs}
    assert again >= {*CORPUS, "pretrain"} - {"reasoning"}
    assert "reasoning" not in again
    shown = told("plan", str(milled.recipe))
    assert "1 request for removal more" in shown
    reached = {name: before.identities[name] for name in ("extract", "clean", "dedup", "decontaminate", "shards")}
    assert all(f"{name}/{identity}" in shown for name, identity in reached.items())
    assert f"made of it: tokenizer/{before.identities['tokenizer']}, pretrain/{before.identities['pretrain']}" in shown
    assert "learned by: mine/1" in shown
    assert "; when last made 7 of them took 1 m 10 s" in shown

    record = milled.run("second")
    extract = milled.store.find("extract", plan.identities["extract"])
    assert extract is not None
    metrics = DocumentMetrics.read(extract.metrics)
    assert {name: each.rejected[REMOVED].documents for name, each in metrics.sources} == {"others": 3, "site": 1}
    assert metrics.by_source["site"].rejected[REMOVED].characters == len(SECRET)
    assert not [each.unaccounted for _, each in metrics.sources if each.unaccounted]
    gone = list(read_documents(milled.store.path("extract", extract.identity), "rejects"))
    assert {(each.text, each.metadata["rule"]) for each in gone} == {("", REMOVED)}

    audit = audit_removals(milled.store, record)
    assert (audit.documents, audit.still_there, audit.requests[0].left_out) == (4, [], 4)
    assert audit.checked > 20
    assert {each.how for each in audit.left_out} == {"address", "text", "copy"}
    words_of = SECRET.split()
    everything = " ".join(each.text for name in CORPUS[:5] for kind in ("documents", "rejects", "cuts")
                          for each in read_documents(milled.store.path(name, plan.identities[name]), kind))  # fmt: skip
    assert " ".join(words_of[30:40]) not in everything
    assert "1 request for removal heeded" in told("plan", str(milled.recipe))
    pinned = told("plan", str(milled.recipe), "--set", f"pins.extract={before.identities['extract']}")
    assert "1 request for removal that pins.extract does not heed" in pinned
    assert "none of them, nor a copy" in told("remove", "--check", "second")
    assert (milled.store.root / "runs" / "second.removals" / "audit.json").read_text().count('"heeded": true') == 1
    assert milled.store.runs() == ["first", "second"], "an audit is no run"

    session = Session(plan.recipe, milled.settings, milled.store, Noting(), None)
    session.record.stages = {name: StageRecord(identity=session.identity(name), state="made") for name in CORPUS}
    audit_run(session)
    (note,) = Noting.notes
    assert note.startswith(
        "requests for removal: 1 of 1 heeded, 4 documents left out; none of them, nor a copy, in the"
    )
    assert Path(note.rpartition("; ")[2]).is_file()
    session.end("completed")

    old = audit_removals(milled.store, RunRecord.model_validate(milled.store.read_run("first")))
    assert {each.id for each in old.still_there} >= {f"others/others.jsonl/{number}" for number in (21, 22)}
    assert not old.requests[0].heeded


def test_a_request_that_is_taken_back_leaves_every_identity_as_it_was(milled: Mill, told: Callable[..., str]) -> None:
    before = milled.plan().identities
    told("remove", "--id", "site/site.jsonl/3")
    asked = milled.plan().identities
    assert [name for name in before if asked[name] == before[name]] == ["reasoning"]
    told("remove", "--id", "site/site.jsonl/3", "--reason", "again")
    assert milled.plan().identities == asked, "the same is asked for, whoever asks and when"
    for request in active(milled.store):
        assert f"{REMOVAL}{request.id}" in _asked(milled)
        told("remove", "--undo", request.id[:26])
    assert milled.plan().identities == before
    assert not _asked(milled)
    record = told("remove", "--list")
    assert record.count("taken back") >= 2
    assert len(list(requests(milled.store))) >= 4, "nothing is ever taken out of the record"


def test_a_version_that_learned_from_it_is_not_promoted(milled: Mill, told: Callable[..., str]) -> None:
    told("remove", "--id", "others/others.jsonl/1")
    with pytest.raises(UserError, match=r"gate removal: 1, the limit is 0 \(requests to remove .*id others/others"):
        promote_by_hand(milled.settings, "mine", "1", force=False)
    promote_by_hand(milled.settings, "mine", "2", force=False)
    with pytest.raises(UserError, match="gate removal"):
        app(["promote", "mine", "1"], standalone_mode=False)
    assert "mine version 1 learned from documents that were asked to be removed: id others/others.jsonl/1" in told(
        "models"
    )


def test_what_holds_the_text_is_named_for_deletion(milled: Mill, told: Callable[..., str]) -> None:
    told("remove", "--id", "others/others.jsonl/2")
    extract = milled.store.manifests("extract")[0]
    for name, sha in (("kept", next(iter(extract.digests.values()))), ("other", "0")):
        part = milled.store.local / ".parts" / "extract" / name
        part.mkdir(parents=True)
        (part / "part.json").write_text(json.dumps({"documents": sha}))
    planned = plan_removed(milled.store)
    stages = [item.stage for item in planned.items]
    assert set(stages) == {"extract", "clean", "dedup", "decontaminate", "shards"}, "of the model only its versions"
    assert f"shards/{planned.items[-1].identity}" in told("gc", "--removed")
    assert "artifacts hold text that was asked to be removed" in told("gc")
    assert {path.name for path in planned.parts} == {"kept"}, "a part with a file of theirs, and no other"
    busy = {"state": "running", "plan": {planned.items[0].stage: planned.items[0].identity}}
    milled.store.write_run("busy", {"run_id": "busy", **busy})
    assert planned.items[0] not in plan_removed(milled.store).items


def test_a_version_of_a_run_that_was_under_way_is_tagged_too(milled: Mill, told: Callable[..., str]) -> None:
    lineage = milled.plan().identities
    told("remove", "--file", str(_file(milled, words(111, 100))))
    (request,) = active(milled.store)
    assert _asked(milled)
    assert not _asked(milled, "2")
    tag_reached(milled.settings, milled.store, "mine/2", lineage)
    assert _asked(milled, "2")
    told("remove", "--undo", request.id)
    assert not _asked(milled, "2")
    told("remove", "--file", str(_file(milled, words(5000, 100))))  # in no document
    tag_reached(milled.settings, milled.store, "mine/1", lineage)
    assert not _asked(milled)


def _file(milled: Mill, text: str) -> Path:
    path = milled.recipe.with_name("text.txt")
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((), "name documents with --url, --id or --file"),
        (("--list", "--undo", "x"), "name documents with"),
        (("--id", "site/none/1"), "no document of .* has this id; deepmill trace shows ids"),
        (("--file", "nowhere.txt"), "nowhere.txt: cannot be read"),
        (("--url", "*"), "--url: name an address"),
        (("--undo", "2001"), "2001: no such request for removal"),
        (("--check", "nothing"), "nothing: no such run"),
    ],
)
def test_what_cannot_be_asked_is_told(milled: Mill, arguments: tuple[str, ...], why: str) -> None:
    with pytest.raises(UserError, match=why):
        app(["remove", *arguments], standalone_mode=False)
