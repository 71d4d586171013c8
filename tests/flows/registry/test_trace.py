from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from flows.cli import app
from flows.commands.app import console
from flows.registry.facts import LINEAGE
from flows.registry.trace import readings, trace
from flows.serving.sources import find_source
from infra.errors import UserError
from infra.manifest import Manifest, address, record_files
from infra.section import Section
from infra.settings import Settings
from infra.store import LocalStore, Store
from model.finetune_sections import ContinuedConfig, DpoConfig, GrpoConfig, SftConfig
from model.training.replay_sources import ReplaySources
from model.training.sources import ShardBatches, read_shards
from pipeline.index.section import IndexConfig
from pipeline.index.stage import index
from pipeline.sections import ShardsConfig
from pipeline.tasks.documents import read_documents
from pipeline.tokens.reader import ShardReader
from pipeline.tokens.shards import shards
from tests.flows.registry.test_release import GOOD, versions
from tests.pipeline.corpus import words, write_documents
from tests.pipeline.tokens.test_tokenizer import small_tokenizer

PRETRAIN = {"steps": 30, "batch_size": 4, "seed": 5, "mixture": {"web": 3.0, "wiki": 1.0}}


def publish(store: Store, stage: str, folder: Path, **fields: Any) -> None:
    """Store a folder as the artifact of `stage`, for these tests and others."""
    files, content = record_files(folder)
    manifest = Manifest(
        stage=stage,
        version=1,
        identity=f"{stage}-1",
        files=files,
        content=content,
        fingerprint="",
        started="2026-01-01T00:00:00+00:00",
        seconds=1.0,
        run_id="run-1",
        **fields,
    )
    staging = store.staging(stage, manifest.identity)
    staging.prepare("")
    for file in files:
        target = staging.artifact / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((folder / file.path).read_bytes())
    store.publish(staging, manifest)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    rows = [(f"d{i}", "web" if i % 3 else "wiki", words(i, 30)) for i in range(40)]
    inputs = {
        "decontaminate": write_documents(tmp_path / "documents", rows),
        "tokenizer": small_tokenizer(tmp_path / "tokenizer"),
    }
    (tmp_path / "shards").mkdir()
    shards(ShardsConfig(sequence_length=32, validation_fraction=0), inputs, tmp_path / "shards")
    shutil.rmtree(tmp_path / "shards" / ".work")
    (tmp_path / "pretrain").mkdir()
    (tmp_path / "pretrain" / "model.txt").write_text("weights")
    monkeypatch.setenv("DEEPMILL_ROOT", str(tmp_path / "store"))
    store = LocalStore(tmp_path / "store")
    publish(store, "shards", tmp_path / "shards", config={})
    publish(
        store,
        "pretrain",
        tmp_path / "pretrain",
        config=PRETRAIN,
        inputs={"shards": address("shards", "shards-1")},
    )
    store.write_run("run-1", {"run_id": "run-1", "stages": {"pretrain": {"identity": "pretrain-1"}}})
    return Settings()


def test_a_step_names_what_its_batch_holds(settings: Settings, tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    found = trace(settings, "run-1", 17)
    assert (found.identity, found.step, found.steps) == ("pretrain-1", 17, 30)
    reader = ShardReader(
        tmp_path / "shards",
        "train",
        global_batch=4,
        seed=5,
        mixture=PRETRAIN["mixture"],  # type: ignore[arg-type]
    )
    batch = reader.batch(17)
    assert [entry["row"] for entry in found.documents] == sorted(
        (entry["row"] for entry in found.documents), key=batch.rows.index
    )
    texts = {document.id: document.text for document in read_documents(tmp_path / "documents")}
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer" / "tokenizer.json"))
    for place, row in enumerate(batch.rows):
        named = [entry for entry in found.documents if entry["row"] == row]
        assert len(named) == int(batch.documents[place].max()) + 1
        for number, entry in enumerate(named):
            ids = batch.tokens[place][batch.documents[place] == number].tolist()
            assert tokenizer.decode([token for token in ids if token != 1]) in texts[entry["id"]]
            assert entry["url"] == f"http://h/{entry['id']}"


def test_what_is_not_there_is_told(settings: Settings) -> None:
    with pytest.raises(UserError, match="steps 0 to 29"):
        trace(settings, "run-1", 30)
    LocalStore(Path(settings.root)).write_run("empty", {"run_id": "empty", "stages": {}})
    with pytest.raises(UserError, match="its pretraining is not in"):
        trace(settings, "empty", 0)


def test_the_command_shows_it_for_a_run_and_for_a_registered_model(
    settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "width", 200)
    client = versions(settings, "traced", GOOD, GOOD)
    client.set_model_version_tag("traced", "2", LINEAGE, json.dumps({"pretrain": "pretrain-1"}))
    client.set_registered_model_alias("traced", "champion", "2")
    expected = [(entry["id"], entry["url"]) for entry in trace(settings, "run-1", 3).documents]
    for name in ("run-1", "traced@champion", "traced/2", "traced"):
        app(["trace", name, "--step", "3"], standalone_mode=False)
        shown = capsys.readouterr().out
        assert "pretrain pretrain-1, step 3 of 30" in shown
        rows = [line.split() for line in shown.splitlines() if "http://h/" in line]
        assert [(row[-3], row[-1]) for row in rows] == expected
    for name, why in (
        ("traced/1", "its pretraining is not in"),  # registered by hand, without a lineage
        ("traced/7", "not in the registry"),
        ("none@champion", "not in the registry"),
    ):
        with pytest.raises(UserError, match=why):
            app(["trace", name], standalone_mode=False)


def test_shards_that_are_gone_are_named(settings: Settings) -> None:
    shutil.rmtree(Path(settings.root) / "shards")
    with pytest.raises(UserError, match=r"its shards shards/shards-1 are not in .*; make them again"):
        trace(settings, "run-1", 0)


def test_a_text_is_traced_to_its_documents(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "width", 200)
    store = LocalStore(Path(settings.root))
    planted = " ".join(words(4, 30).split()[3:12])
    text = f"Nobody wrote this, but {planted}, and not that."
    with pytest.raises(UserError, match=r"no index of training tokens in it; add `index: \{\}` to the recipe"):
        app(["trace", "--text", text], standalone_mode=False)
    (tmp_path / "index").mkdir()
    index(IndexConfig(), {"shards": tmp_path / "shards"}, tmp_path / "index")
    shutil.rmtree(tmp_path / "index" / ".work")
    publish(store, "tokenizer", tmp_path / "tokenizer", config={})
    shutil.rmtree(store.path("shards", "shards-1"))
    publish(store, "shards", tmp_path / "shards", config={}, inputs={"tokenizer": address("tokenizer", "tokenizer-1")})
    publish(store, "index", tmp_path / "index", config={}, inputs={"shards": address("shards", "shards-1")})
    recipe = {"extract": {"sources": {"web": {"licence": "CC-BY-4.0"}, "wiki": {"licence": ""}}}}
    store.write_run("run-2", {"run_id": "run-2", "recipe": recipe, "stages": {"shards": {"identity": "shards-1"}}})
    client = versions(settings, "traced", GOOD)
    client.set_model_version_tag("traced", "1", LINEAGE, json.dumps({"shards": "shards-1"}))
    for name in ((), ("run-2",), ("traced/1",)):
        app(["trace", *name, "--text", text], standalone_mode=False)
        shown = capsys.readouterr().out
        assert f"{planted}\n9 words, in 1 place\n" in shown
        assert [line.split() for line in shown.splitlines() if "http://h/" in line] == [
            ["d4", "web", "CC-BY-4.0", "http://h/d4"]
        ]
    app(["trace", "--text", words(3, 30)], standalone_mode=False)
    assert "d3 wiki not stated http://h/d3" in " ".join(capsys.readouterr().out.split())
    source = find_source("traced/1", settings, tmp_path / "cache")[1]
    served = source.sources("1")  # as a server asks
    assert served is not None
    assert [span.text for span in served.find(text)] == [planted]
    assert source.sources("7") is None
    app(["trace", "--text", "none of these words stand anywhere in it"], standalone_mode=False)
    assert "No 5 words in a row of this text stand in the training tokens." in capsys.readouterr().out
    for arguments, why in (
        (["trace", "run-1", "--text", text], "made without token shards"),
        (["trace", "run-2", "--text", " "], "the text has 0 words"),
        (["trace"], "name a model or a run"),
    ):
        with pytest.raises(UserError, match=why):
            app(arguments, standalone_mode=False)
    store.write_run("run-3", {"run_id": "run-3", "stages": {"shards": {"identity": "others"}}})
    with pytest.raises(UserError, match="run-3: its training tokens have no index in"):
        app(["trace", "run-3", "--text", text], standalone_mode=False)


def test_a_document_names_the_steps_that_read_it(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    expected: dict[str, list[int]] = {}
    for step in range(30):
        for name in {entry["id"] for entry in trace(settings, "run-1", step).documents}:
            expected.setdefault(name, []).append(step)
    for number in range(40):
        (found,) = readings(settings, "run-1", f"d{number}")
        assert (found.document["id"], found.read_in) == (f"d{number}", expected.get(f"d{number}", []))
        assert found.rows or not found.read_in
    assert any(len(steps) not in (0, 30) for steps in expected.values())
    name, steps = next(iter(expected.items()))
    app(["trace", "run-1", "--document", name], standalone_mode=False)
    told = f"pretrain pretrain-1, read in {len(steps)} steps of 30: {', '.join(map(str, steps))}"
    assert told in capsys.readouterr().out
    with pytest.raises(UserError, match="its shards have no document d40"):
        app(["trace", "run-1", "--document", "d40"], standalone_mode=False)


def test_a_document_names_the_steps_of_every_training(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the sources that the stages themselves read from."""
    from tokenizers import Tokenizer

    monkeypatch.setattr(console, "width", 200)
    store = LocalStore(Path(settings.root))
    made: dict[str, tuple[Section, int]] = {
        "continued": (ContinuedConfig(steps=7, batch_size=2, micro_batch=2, seed=1, mixture={"web": 1.0}), 1),
        "sft": (
            SftConfig(
                steps=9,
                batch_size=4,
                sequence_length=64,
                micro_batch=4,
                replay={"text": 0.3, "validation_sequences": 0},
            ),
            1,
        ),
        "dpo": (DpoConfig(steps=3, replay={"rows": 2, "validation_sequences": 0}), 1),
        "grpo": (
            GrpoConfig(
                steps=4,
                minibatches=2,
                passes=2,
                replay={"rows": 1, "mixture": {"wiki": 1.0}, "validation_sequences": 0},
            ),
            4,
        ),
        "grpo_second": (GrpoConfig(steps=4, replay={"text": 0.0, "validation_sequences": 0}), 1),
    }
    identities = {"pretrain": "pretrain-1"} | {stage: f"{stage}-1" for stage in made}
    shards_of = {"shards": address("shards", "shards-1")}
    for stage, (config, _) in made.items():
        publish(store, stage, tmp_path / "pretrain", config=config.model_dump(mode="json"), inputs=shards_of)
    store.write_run(
        "run-5", {"run_id": "run-5", "stages": {key: {"identity": each} for key, each in identities.items()}}
    )
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer" / "tokenizer.json"))
    expected: dict[str, dict[str, set[int]]] = {}
    for stage, (config, per_step) in made.items():
        expected[stage] = {}
        inputs = {"shards": tmp_path / "shards", "tokenizer": tmp_path / "tokenizer"}
        if isinstance(config, ContinuedConfig):
            reader = read_shards(inputs["shards"], "train", config, config.mixture).reader
        else:
            assert isinstance(config, SftConfig | DpoConfig | GrpoConfig)
            tokens = config.batch_size * config.sequence_length if isinstance(config, SftConfig) else 0
            streams = ReplaySources(
                config.replay, inputs, tokenizer, at_once=64, seed=config.seed, tokens=tokens
            ).replay.streams
            if not streams:
                continue
            assert isinstance(streams[0].source, ShardBatches)
            reader = streams[0].source.reader
        for batch in range(config.steps * per_step):
            for entry in reader.documents(batch):
                expected[stage].setdefault(entry["id"], set()).add(batch // per_step)
    for number in range(40):
        found = readings(settings, "run-5", f"d{number}")
        assert [each.stage for each in found] == ["pretrain", "continued", "sft", "dpo", "grpo"]
        for each in found[1:]:
            assert each.read_in == sorted(expected[each.stage].get(f"d{number}", ())), each
    assert all(expected[stage] for stage in ("continued", "sft", "dpo", "grpo"))
    app(["trace", "run-5", "--document", next(iter(expected["grpo"]))], standalone_mode=False)
    assert "grpo grpo-1, read in" in capsys.readouterr().out
    shutil.rmtree(Path(settings.root) / "sft")
    with pytest.raises(UserError, match=r"run-5: its sft/sft-1 is not in .*; is --root its store\?"):
        readings(settings, "run-5", "d1")
