"""Recipes: presets load, settings are laid over them, and every mistake is one line that names the remedy."""

from __future__ import annotations

from pathlib import Path
from types import NoneType
from typing import get_args

import pytest
from pydantic import BaseModel

from flows.recipe.plan import identity_config
from flows.recipe.recipe import Recipe, load_recipe, preset_names
from flows.recipe.stages import STAGES
from infra.digests import DigestCache
from infra.errors import UserError
from infra.section import _deprecate
from model.evaluation.sections import EvaluateReleaseConfig
from model.finetune_sections import GrpoConfig
from tests.flows.tiny import write_recipe


@pytest.mark.parametrize("name", preset_names())
def test_presets_load(name: str) -> None:
    assert load_recipe(name).name == name


def test_the_korean_preset_keeps_korean_and_english() -> None:
    from pipeline.clean.stage import Rules
    from pipeline.tasks.documents import Document
    from tests.pipeline.clean.test_clean import GERMAN, GOOD, HARBOUR

    rules = Rules(load_recipe("korean").clean, Path("unused"))
    korean = (
        HARBOUR["ko"]
        + "\n여름이면 시장이 열리고 농부들이 치즈와 꿀을 가져온다. 하룻밤 머물려던 나그네도 한 주를 머문다."
    )

    def judge(text: str, source: str) -> str | None:
        return rules.judge(Document(text=text, id="x", metadata={"source": source, "profile": "web"}))

    assert judge(korean, "web") is None
    assert judge(GOOD, "web") is None
    assert judge(GERMAN, "web") == "language/other"
    assert judge(korean * 9, "web") == "gopher_repetition/dup_line_frac"
    assert judge(korean * 9, "hub") is None, "its makers have asked that"


def test_every_stage_has_a_section_and_every_key_a_help_text() -> None:
    def bare(model: type[BaseModel], path: str) -> list[str]:
        return [
            f"{path}.{name}"
            for name, field in model.model_fields.items()
            if not field.description and name not in ("kind", "engine")
        ]

    missing = []
    missing += bare(EvaluateReleaseConfig, "evaluate_release")
    for row in (each for each in STAGES if each.name != "evaluate_release"):
        annotation = Recipe.model_fields[row.name].annotation
        (section,) = (part for part in get_args(annotation) or (annotation,) if part is not NoneType)
        assert isinstance(section, type)
        assert issubclass(section, BaseModel)
        missing += bare(section, row.name)
    assert missing == []


def test_settings_are_laid_over_the_file(tmp_path: Path) -> None:
    path = str(write_recipe(tmp_path))
    recipe = load_recipe(path, ["pretrain.steps=7", "pretrain.model.hidden_size=64", "registry.model=mine"])
    assert (recipe.pretrain.steps, recipe.pretrain.model.hidden_size, recipe.model_name) == (7, 64, "mine")
    assert load_recipe(path).model_name == "deepmill-tiny"


def test_the_kind_of_a_source_changes_with_its_keys(tmp_path: Path) -> None:
    path = str(write_recipe(tmp_path))
    recipe = load_recipe(path, ["extract.sources.notes.kind=book", "extract.sources.notes.paths=[a.txt]"])
    assert recipe.extract.sources["notes"].kind == "book"


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("pretrain.stpes=7", "--set: pretrain.stpes: no such key; did you mean steps?"),
        ("pretrain.model.hiden_size=7", "--set: pretrain.model.hiden_size: no such key; did you mean hidden_size?"),
        ("pretrian.steps=7", "pretrian: no such key; did you mean pretrain?"),
        ("pretrain.steps=many", "--set: pretrain.steps: wants a whole number, not 'many'"),
        ("pretrain.steps=10k", "--set: pretrain.steps: wants a whole number, not '10k'; write 10000"),
        ("tokenizer.train_bytes=64 MiB", "wants a whole number, not '64 MiB'; write 67108864"),
        ("promote.min_accuracy=95%", "promote.min_accuracy: wants a number, not '95%'; write 0.95"),
        ("pretrain.steps=1:30", "pretrain.steps: wants a whole number, not '1:30'"),
        ("pretrain.steps=true", "pretrain: steps wants a number, not true"),
        ("pretrain={steps: 1,000}", "pretrain.000: no such key; a comma begins another key: write numbers as 1000"),
        ("pretrain={steps: 1, steps: 2}", "the value is not valid YAML"),
        ("tokenizer.fill_in_middle=maybe", "tokenizer.fill_in_middle: wants true or false, not 'maybe'"),
        ("pretrain.lr=1", "pretrain.lr: no such key; did you mean learning_rate?"),
        ("hidden_size=64", "hidden_size: no such key; it stands in pretrain.model, student.model"),
        ("pretrain.hidden_size=64", "pretrain.hidden_size: no such key; it stands in pretrain.model"),
        ("sft.group_size=4", "sft.group_size: no such key; it stands in grpo, grpo_second, on_policy"),
        ("grpo=false", "grpo: wants keys of its own below it, not False; write grpo: {} for its defaults, or null to"),
        ("pretrain=steps:5", "pretrain: wants keys of its own below it, not 'steps:5'; a blank is missing behind the"),
        (
            "extract.sources.my shelf={kind: book, paths: [a]}",
            "extract.sources.my shelf: wants letters without accents",
        ),
        ("extract.sources.notes.paths=['']", "paths: wants paths that are not empty, not ['']"),
        ("extract.sources.notes.paths={a: 1}", "paths: wants a list, as [first, second], not {'a': 1}"),
        (
            "reasoning.tasks=[{name: gcd, options: {a: [1]}}]",
            "options.a: wants text, a number, true or false, or a list",
        ),
        ("pretrain.mixture={wiki: 0}", "pretrain.mixture weighs every source with 0; give one of them more"),
        ("pretrain.steps=0", "--set: pretrain.steps: wants 1 or more, not 0"),
        ("pretrain.steps", "--set pretrain.steps: write it as section.key=value"),
        ("pretrain.steps.more=1", "--set pretrain.steps.more=1: steps holds a value, not a section"),
        ("pretrain.steps=[1", "--set pretrain.steps=[1: the value is not valid YAML"),
        ("extract.sources.notes.pathz=[a]", "did you mean paths?"),
        ("execution.stages.sft.rank=1", "did you mean ranks?"),
        (
            "execution={attention: flash3, precision: fp32}",
            "attention flash3 computes in 16 bits, and precision is fp32",
        ),
        (".=3", "--set .=3: write it as section.key=value"),
        ("pretrain..steps=3", "--set pretrain..steps=3: write it as section.key=value"),
        ("name=" + "[" * 900, "[[[: the value is not valid YAML"),
        ("name=" + "n" * 400, "--set: name: String should have at most 100 characters, not 'nnn"),
        ("name=12", "--set: name: wants text; put it in quotes, not 12"),
        ("clean=", "--set: clean: wants keys of its own below it, not None"),
        ("pretrain.learning_rate=.inf", "--set: pretrain.learning_rate: wants a finite number, not inf"),
        (
            "extract.sources.notes.paths=a",
            "--set: extract.sources.notes.paths: wants a list, as [first, second], not 'a'",
        ),
        ("extract.sources.notes.paths=[]", "--set: extract.sources.notes.paths: wants 1 or more, not []"),
        (
            "extract.sources.notes={kind: jsnol}",
            "extract.sources.notes: kind: no such kind as jsnol; did you mean jsonl?",
        ),
        ("extract.sources.notes={}", "extract.sources.notes: kind is missing; there are web, wiki, book, code, jsonl,"),
        ("extract.sources.notes={kind: book}", "tiny.yaml: extract.sources.notes.paths is missing"),
        ("pretrain.mixture={moon: 2}", "pretrain.mixture names moon, which is no source; there are notes, wiki"),
        ("sft.replay.mixture={moon: 2}", "sft.replay.mixture names moon, which is no source; there are notes, wiki"),
        ("pretrain.mixture={wiki: -1}", "pretrain.mixture.wiki: wants 0 or more, not -1"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, setting: str, expected: str) -> None:
    with pytest.raises(UserError) as caught:
        load_recipe(str(write_recipe(tmp_path)), [setting])
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_chosen_experts_have_one_rank(tmp_path: Path) -> None:
    """Told at once, and not when `sft` begins; adapters may have several."""
    recipe, wide = str(write_recipe(tmp_path)), "execution.ranks=2"
    with pytest.raises(UserError, match=r"sft\.trained: experts runs on one rank; set execution\.stages\.sft\.ranks"):
        load_recipe(recipe, ["sft.trained=experts", wide])
    alone = load_recipe(recipe, ["sft.trained=experts", wide, "execution.stages.sft.ranks=1"])
    assert [alone.execution.of(stage).ranks for stage in ("sft", "grpo")] == [1, 2]
    load_recipe(recipe, ["sft.lora={}", wide])


@pytest.mark.parametrize(
    ("text", "steps"),
    [("1e3", 1000), ("1.0e3", 1000), ("1_000", 1000), ("010", 10), ("0x10", 16), ("'7'", 7), ("+5", 5), ("2.0", 2)],
)
def test_numbers_as_people_write_them(tmp_path: Path, text: str, steps: int) -> None:
    """PyYAML's rules are those of YAML 1.1, in which 1e3 is a text and 010 eight."""
    (tmp_path / "it.yaml").write_text(f"pretrain: {{steps: {text}}}\n")
    for recipe in (load_recipe(str(tmp_path / "it.yaml")), load_recipe("sample", [f" pretrain.steps = {text} "])):
        assert recipe.pretrain is not None
        assert recipe.pretrain.steps == steps


def test_a_setting_of_a_stage_that_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "it.yaml").write_text("grpo: null\n")
    with pytest.raises(UserError, match=r"grpo is null, which leaves it out; set grpo=\{steps: 3\}"):
        load_recipe(str(tmp_path / "it.yaml"), ["grpo.steps=3"])


def test_files_that_are_no_recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="sampel: no such recipe; did you mean sample"):
        load_recipe("sampel")
    with pytest.raises(UserError, match=r"away\.yaml: cannot read the recipe \(No such file"):
        load_recipe(str(tmp_path / "away.yaml"))
    for slip, there in (("my-txt.yaml", "my-text.yaml"), ("my-text.ymal", "my-text.yaml"), ("my-text", "my-text.yaml")):
        (tmp_path / there).touch()
        monkeypatch.chdir(tmp_path)
        with pytest.raises(UserError, match=f"{slip}: .*; did you mean {there}\\?"):
            load_recipe(slip)
    broken = tmp_path / "broken.yaml"
    broken.write_text("pretrain: [")
    for text, told in (
        ("pretrain: [", "line 1, column 12: expected the node content, but found the end of the file .*line 1"),
        ("pretrain:\n\tsteps: 3\n", "line 2, column 1: a tab, where YAML wants blanks"),
        ("pretrain: {steps: \x00}", "special characters are not allowed"),
    ):
        broken.write_text(text)
        with pytest.raises(UserError, match=rf"^[^\n]*broken\.yaml: not valid YAML: [^\n]*{told}[^\n]*$"):
            load_recipe(str(broken))
    broken.write_text("# nothing yet\n")
    with pytest.raises(UserError, match=r"broken\.yaml: empty; deepmill new FOLDER writes a recipe"):
        load_recipe(str(broken))
    broken.write_text("pretrain: {steps: 3}\nsft: {steps: 1}\npretrain: {steps: 5}\n")
    with pytest.raises(UserError, match=r"broken\.yaml: not valid YAML: line 3, column 1: pretrain is given twice$"):
        load_recipe(str(broken))
    with pytest.raises(UserError, match=rf"a folder; deepmill new {tmp_path} writes a recipe for what lies in it"):
        load_recipe(str(tmp_path))
    broken.write_text("- a list")
    with pytest.raises(UserError, match="a recipe is a mapping of sections, not a list"):
        load_recipe(str(broken))
    broken.write_text("name: it\npretrain:\n# steps: 3\nsft: {steps: 1}\n")
    with pytest.raises(
        UserError, match=r"broken\.yaml: pretrain: has nothing below it in line 2; write pretrain: \{\} for"
    ):
        load_recipe(str(broken))
    broken.write_text(f"description: {'[' * 900}{']' * 900}")
    with pytest.raises(UserError, match=r"broken\.yaml: no recipe \(maximum recursion depth"):
        load_recipe(str(broken))
    broken.write_text(f"pretrain: {{steps: 1{'0' * 5000}}}")
    with pytest.raises(UserError, match=r"broken\.yaml: no recipe \(Exceeds the limit .*\); correct what is too long"):
        load_recipe(str(broken))
    broken.write_bytes(b"name: \xff")
    with pytest.raises(UserError, match="byte 6 is not UTF-8"):
        load_recipe(str(broken))


@pytest.mark.parametrize(
    ("file", "name"),
    [("mine.yaml", "mine"), ("My texts.yaml", "My-texts"), ("Été.yaml", "Ete"), ("текст.yaml", "recipe")],
)
def test_a_recipe_without_a_name_has_its_files(file: str, name: str, tmp_path: Path) -> None:
    (tmp_path / file).write_text("pretrain: {}")
    assert load_recipe(str(tmp_path / file)).name == name


def test_a_key_with_an_earlier_name_is_understood_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _deprecate.cache_clear()
    recipe = load_recipe(str(write_recipe(tmp_path)), ["grpo.kept_answers=3"])
    assert recipe.grpo is not None
    assert recipe.grpo.logged_completions == 3
    told = [record.getMessage() for record in caplog.records if record.name == "deepmill.recipe"]
    assert told == ["the recipe key kept_answers is now called logged_completions; the old name will go"]
    assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe
    with pytest.raises(UserError, match="kept_answers is now called logged_completions; leave kept_answers out"):
        load_recipe(str(write_recipe(tmp_path)), ["grpo.kept_answers=3", "grpo.logged_completions=3"])


def test_a_new_name_is_no_new_artifact(tmp_path: Path) -> None:
    config = identity_config(GrpoConfig(logged_completions=3), DigestCache(tmp_path / "digests"), {})
    assert config["kept_answers"] == 3
    assert "logged_completions" not in config


def test_a_limit_for_a_source_that_there_is_not_is_named() -> None:
    source = "extract.sources.shelf={kind: book, paths: [x]}"
    assert load_recipe("deepseek-llm-7b", [source, "clean.max_loss_by_source.shelf=0.7"]).clean.of("shelf", 9) == 0.7
    with pytest.raises(UserError) as caught:
        load_recipe("deepseek-llm-7b", [source, "dedup.max_loss_by_source.shelv=0.7"])
    said = "deepseek-llm-7b: dedup.max_loss_by_source names shelv, which is no source; there are shelf"
    assert str(caught.value) == said
