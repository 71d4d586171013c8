"""Plans: what runs again after a change, and the reason given."""

from __future__ import annotations

import hashlib
import json
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
from safetensors.numpy import save

from flows.recipe.plan import Plan, PlannedStage, State, identity_config, make_plan
from flows.recipe.recipe import Recipe, load_recipe
from flows.recipe.stages import downstream, graph
from flows.run import session
from infra.digests import DigestCache
from infra.errors import UserError
from infra.fingerprint import fingerprint
from infra.manifest import Manifest, record_files
from infra.section import Added, Section
from infra.store import LocalStore
from model.architecture.config import ModelConfig
from pipeline.sections import TokenizerConfig
from tests.flows.tiny import write_recipe


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return write_recipe(tmp_path)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def planned(recipe: Path, store: LocalStore, *settings: str, **options: str) -> dict[str, PlannedStage]:
    plan = make_plan(load_recipe(str(recipe), settings), store, restart_from=options.get("restart_from"))
    return {item.stage.name: item for item in plan.stages}


NODES = graph(Recipe().has)


def publish(store: LocalStore, item: PlannedStage, code: str | None = None) -> None:
    """An artifact with the identity of `item`, as if its stage had run."""
    job = item.job
    staging = store.staging(job.stage, job.identity)
    staging.prepare("code")
    (staging.artifact / "out.txt").write_text(job.identity)
    files, content = record_files(staging.artifact)
    manifest = Manifest(
        stage=job.stage,
        version=job.version,
        identity=job.identity,
        config=job.config,
        inputs=dict(job.inputs),
        input_contents={},
        external=dict(job.external),
        files=files,
        content=content,
        fingerprint=fingerprint(job.entrypoint) if code is None else code,
        packages={},
        environment={},
        execution={},
        metrics={},
        started="2026-11-24T12:00:00+00:00",
        seconds=1.0,
        run_id="run",
    )
    store.publish(staging, manifest)


def test_a_first_run_makes_everything_and_a_second_nothing(recipe: Path, store: LocalStore) -> None:
    first = planned(recipe, store)
    assert list(first) == [node.stage.name for node in NODES]
    assert all(item.runs and item.why == "first time" for item in first.values())
    for item in first.values():
        publish(store, item)
    assert not any(item.runs for item in planned(recipe, store).values())


@pytest.mark.parametrize(
    ("setting", "changed", "why"),
    [
        ("grpo.steps=3", "grpo", "grpo.steps: 2 → 3"),
        ("dedup.seed=5", "dedup", "dedup.seed"),
        ("export.title=mine", "export", "export.title: deepmill → mine"),
        ("reasoning.seed=1", "reasoning", "reasoning.seed: 0 → 1"),
    ],
)
def test_a_changed_key_reruns_what_depends_on_it_and_says_why(
    recipe: Path, store: LocalStore, setting: str, changed: str, why: str
) -> None:
    for item in planned(recipe, store).values():
        publish(store, item)
    after = planned(recipe, store, setting)
    assert {name for name, item in after.items() if item.runs} == downstream([changed], NODES)
    assert why in after[changed].why
    below = [item for name, item in after.items() if item.runs and name != changed]
    assert all("rebuilt" in item.why for item in below)


def test_how_wide_it_runs_is_no_part_of_the_identity(recipe: Path, store: LocalStore) -> None:
    one = planned(recipe, store)
    wide = ("execution.workers=1", "execution.ranks=4", "execution.stages.sft.ranks=2", "execution.attention=auto")
    other = planned(recipe, store, *wide)
    assert [item.job.identity for item in one.values()] == [item.job.identity for item in other.values()]
    assert (other["sft"].job.execution.ranks, other["pretrain"].job.execution.ranks) == (2, 4)


def test_contents_of_the_sources_count_and_not_their_place(recipe: Path, store: LocalStore, tmp_path: Path) -> None:
    before = planned(recipe, store)
    moved = write_recipe(tmp_path / "elsewhere")
    assert planned(moved, store)["extract"].job.identity == before["extract"].job.identity
    for item in before.values():
        publish(store, item)
    with (tmp_path / "corpus" / "notes.jsonl").open("a") as handle:
        handle.write(json.dumps({"text": "one more"}) + "\n")
    after = planned(recipe, store)
    assert after["extract"].runs
    assert after["extract"].why == "the source files have changed"
    assert not after["reasoning"].runs


def test_a_key_that_came_later_keeps_what_was_made_before_it(recipe: Path, tmp_path: Path) -> None:
    """`reasoning.exclude` is such a key: at its default it is not told to the hash, and its content counts."""
    section, file = load_recipe(str(recipe)).reasoning, recipe.parent / "corpus" / "notes.jsonl"
    changed = section.model_copy(update={"exclude": (str(file),)})
    with closing(DigestCache(None)) as digests:
        assert section.exclude == ()
        assert "exclude" not in identity_config(section, digests, {})
        ((name, digest),) = identity_config(changed, digests, {})["exclude"]
    assert (name, digest) == ("notes.jsonl", hashlib.sha256(file.read_bytes()).hexdigest())


def test_other_code_is_told_and_kept_unless_the_recipe_says_rerun(recipe: Path, store: LocalStore) -> None:
    for name, item in planned(recipe, store).items():
        publish(store, item, "v2-other" if name == "sft" else None)
    assert planned(recipe, store)["sft"].state is State.DRIFTED
    assert "the code has changed" in planned(recipe, store)["sft"].why
    again = planned(recipe, store, "on_drift=rerun")
    assert [name for name, item in again.items() if item.runs] == ["sft"]


def test_restarting_from_a_stage_makes_it_and_all_after_it(recipe: Path, store: LocalStore) -> None:
    for item in planned(recipe, store).values():
        publish(store, item)
    again = planned(recipe, store, restart_from="grpo")
    assert {name for name, item in again.items() if item.runs} == downstream(["grpo"], NODES)


def test_pins_adopt_an_artifact(recipe: Path, store: LocalStore) -> None:
    other = planned(recipe, store, "pretrain.steps=9")["pretrain"]
    with pytest.raises(UserError, match=r"pins\.pretrain: there is no artifact pretrain/"):
        planned(recipe, store, f"pins.pretrain='{other.job.identity}'")
    publish(store, other)
    pinned = planned(recipe, store, f"pins.pretrain='{other.job.identity}'")
    assert pinned["pretrain"].state is State.PINNED
    assert pinned["sft"].job.inputs["start"] == f"pretrain/{other.job.identity}"


def test_names_that_are_no_stages(recipe: Path, store: LocalStore) -> None:
    with pytest.raises(UserError, match=r"pins: pretain is no stage; there are extract"):
        planned(recipe, store, "pins.pretain=abc")
    with pytest.raises(UserError, match=r"execution\.stages: sfft is no stage"):
        planned(recipe, store, "execution.stages.sfft.ranks=1")
    with pytest.raises(UserError, match=r"--from: the recipe leaves out the stage grpo"):
        planned(recipe, store, "grpo=null", restart_from="grpo")
    with pytest.raises(UserError, match=r"--from: grop is no stage"):
        planned(recipe, store, restart_from="grop")


def test_a_missing_source_is_named(recipe: Path, store: LocalStore, tmp_path: Path) -> None:
    (tmp_path / "corpus" / "notes.jsonl").unlink()
    with pytest.raises(UserError, match=r"notes\.jsonl"):
        planned(recipe, store)


def test_a_session_takes_over_the_plan_of_the_command(
    recipe: Path, store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was worked out, and the files that were read for it, once is enough."""
    loaded = load_recipe(str(recipe))
    plan = make_plan(loaded, store)
    made: list[str] = []

    def counted(recipe: Recipe, *arguments: Any, **options: Any) -> Plan:
        made.append(recipe.name)
        return make_plan(recipe, *arguments, **options)

    monkeypatch.setattr(session, "make_plan", counted)
    monkeypatch.setenv("DEEPMILL_ROOT", str(store.root))
    with session.planned_as(plan):
        with session.open_session(Recipe.model_validate(loaded.model_dump())) as run:
            assert {name: item.job.identity for name, item in run.plan.items()} == plan.identities
            assert {item.job.run_id for item in run.plan.values()} == {run.run_id}
        assert made == []
        with session.open_session(loaded, restart_from="sft"):
            assert made == [loaded.name]  # another question


@pytest.mark.parametrize("marker", [Added, Added()], ids=["class", "instance"])
def test_a_key_that_came_later_is_no_part_of_an_identity_at_its_default(marker: object) -> None:
    class Later(Section):
        old: int = 1
        new: Annotated[int, marker] = 2

    assert identity_config(Later(), DigestCache(None), {}) == {"old": 1}
    assert identity_config(Later(new=3), DigestCache(None), {}) == {"old": 1, "new": 3}


def test_keys_for_models_from_elsewhere_came_later() -> None:
    """Artifacts of before are found: the sections of a recipe without such a model are what they were."""
    assert "head_dim" not in identity_config(ModelConfig(), DigestCache(None), {})
    assert not {"template", "llama_cpp"} & identity_config(TokenizerConfig(), DigestCache(None), {}).keys()


def test_a_model_that_cannot_be_begun_with_is_named_before_the_corpus_is_made(
    recipe: Path, store: LocalStore, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    begins = ("pretrain=null", f"start={{checkpoint: {folder}}}")
    shape = {
        "vocab_size": 9,
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 8,
    }
    layer = {"model.layers.0.x": np.zeros(1, np.float32)}
    for name, content, said in (
        ("nothing", "", r"model: no config\.json"),
        ("config.json", json.dumps({"model_type": "mixtral"}), r"config\.json: model_type 'mixtral' is not one of"),
        ("config.json", json.dumps(shape | {"model_type": "llama"}), "model: no safetensors weights"),
        ("model.safetensors", "", r"model\.safetensors: an empty file; copy it again"),
        ("model.safetensors", "version https://git-lfs", r"a pointer of Git LFS; fetch the file itself"),
        ("model.safetensors", save(layer).decode("latin-1")[:-2], r"model\.safetensors: cannot be read"),
        ("model.safetensors", save(layer).decode("latin-1"), r"model: no tokenizer\.json"),
    ):
        (folder / name).write_text(content, encoding="latin-1")
        with pytest.raises(UserError, match=said):
            planned(recipe, store, *begins)
    for begun in (begins, (f"continued={{checkpoint: [{folder}]}}",)):
        with pytest.raises(UserError, match=r"model: quantize\.prune: the model has no experts to take out; set"):
            planned(recipe, store, *begun, "quantize.prune.share=0.25")
    (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="an empty file"):
        planned(recipe, store, f"continued={{checkpoint: [{folder}]}}")
