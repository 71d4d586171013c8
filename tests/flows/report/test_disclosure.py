"""What `deepmill disclose` says of the example run, byte for byte, and what it must not say.

After an intended change: `DEEPMILL_GOLDEN=write python -m pytest tests/flows/report/test_disclosure.py`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.recipe.plan import identity_config, make_plan
from flows.recipe.recipe import Recipe, load_recipe, preset_names
from flows.recipe.sections import DisclosureConfig
from flows.report.disclosure import Disclosure, disclosure
from flows.report.disclosure_pages import FACTS, PAGES, licences, plain, write_disclosure
from flows.run.record import RunRecord
from flows.run.run_view import Run
from infra.digests import DigestCache
from infra.errors import UserError
from infra.runner import Job
from infra.store import LocalStore
from pipeline.sections import ExtractConfig, Stated
from pipeline.tasks.collected import collected
from pipeline.tasks.documents import SCHEMA
from pipeline.tokens.domains import domains
from pipeline.tokens.tokenise import INDEX_SCHEMA
from tests.flows.example import HOSTILE, example_run, identity

GOLDEN = Path(__file__).parent / "disclosed"
STATED = {
    "provider": "Example Works, Exampletown",
    "contact": HOSTILE,
    "purpose": "# to answer | questions",
    "code_of_practice": False,
    "small_enterprise": True,
}
SOURCES = {
    "books": {
        "kind": "book",
        "paths": ["books"],
        "licence": "CC0-1.0",
        "origin": "public",
        "link": "https://example.org",
    },
    "web": {"kind": "web", "paths": ["web"]},
}


def _index(folder: Path) -> None:
    """An index of 40 domains, one of them with most tokens, behind several hosts and ports."""
    rows: list[tuple[object, ...]] = [
        (f"web/{n}", f"https://www.site{n:02d}.co.uk:8080/{n}", "web", "train", n) for n in range(40)
    ]
    rows += [
        ("web/a", "HTTP://News.Big.com/x?y=http://other.org/", "web", "train", 900),
        ("web/b", "", "web", "train", 5),
    ]
    rows += [
        ("web/c", "https://user@big.com", "web", "train", 100),
        ("web/d", "https://held.out/", "web", "validation", 9),
    ]
    rows += [
        ("books/a", "https://library.org/1", "books", "train", 5000),
        ("web/e", "https://[::1]/", "web", "train", 1),
    ]
    columns = dict(zip(INDEX_SCHEMA.names, zip(*rows, strict=True), strict=True))
    (folder / "index").mkdir()
    pq.write_table(pa.table({k: list(v) for k, v in columns.items()}, INDEX_SCHEMA), folder / "index" / "00000.parquet")


def _documents(folder: Path) -> None:
    dates = ["2024-03-05T01:02:03Z", "2025-11-30T00:00:00Z", None, "soon", "2024-99-01"]
    rows = [{"title": '"date": "1990-01-01"', **({"date": date} if date else {})} for date in dates]
    table = [
        {"id": str(n), "text": "", "source": "web", "url": "", "metadata": json.dumps(row)}
        for n, row in enumerate(rows)
    ]
    (folder / "documents").mkdir()
    pq.write_table(pa.Table.from_pylist(table, SCHEMA), folder / "documents" / "00000.parquet")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    record, store = example_run(tmp_path_factory.mktemp("disclosure"), until="shards")
    assert isinstance(store, LocalStore)
    _index(store.path("shards", identity("shards")))
    _documents(store.path("decontaminate", identity("decontaminate")))
    record["recipe"] |= {"disclosure": STATED, "extract": {"sources": SOURCES}}
    return Run(RunRecord.model_validate(record), store)


@pytest.fixture(scope="module")
def found(run: Run) -> Disclosure:
    return disclosure(run)


@pytest.mark.parametrize("page", [*PAGES, FACTS])
def test_the_example_is_disclosed_byte_for_byte(page: str, run: Run, found: Disclosure, tmp_path: Path) -> None:
    write_disclosure(found, tmp_path / "one")
    again = Run(run.record, LocalStore(run.store.local))
    write_disclosure(disclosure(again), tmp_path / "two")
    body = (tmp_path / "one" / page).read_bytes()
    assert body == (tmp_path / "two" / page).read_bytes()
    if os.environ.get("DEEPMILL_GOLDEN") == "write":
        (GOLDEN / page).write_bytes(body)
    assert body == (GOLDEN / page).read_bytes()


@pytest.mark.parametrize("page", PAGES)
def test_the_samples_release_is_disclosed_byte_for_byte(page: str, tmp_path: Path) -> None:
    """Its facts are of a run of the preset; `deepmill disclose RUN --recipe sample` wrote them."""
    facts = (GOLDEN / "sample" / FACTS).read_bytes()
    write_disclosure(Disclosure.model_validate_json(facts), tmp_path)
    assert (tmp_path / FACTS).read_bytes() == facts
    assert (tmp_path / page).read_bytes() == (GOLDEN / "sample" / page).read_bytes()


def test_the_presets_say_what_the_samples_text_is() -> None:
    for name in preset_names():
        recipe = load_recipe(name)
        said: list[Stated] = [each for each in recipe.extract.sources.values() if "data/sample" in each.paths[0]]
        said += [each for each in [recipe.conversations] if each and "data/sample" in each.files[0]]
        assert all(each.licence and each.origin for each in said), name


def test_domains_are_counted_as_registered_and_the_largest_named(run: Run, found: Disclosure) -> None:
    shards = run.stage("shards").folder
    assert shards is not None
    every = domains(shards, ["web"])
    assert (every[0].name, every[0].documents, every[0].tokens) == ("big.com", 2, 1000)
    assert every[1].name == "site39.co.uk"
    assert not {"held.out", "library.org", "other.org"} & {each.name for each in every}
    assert found.domains is not None
    assert found.domains_found == len(every)
    assert len(found.domains) == 3, "5 % of 42, for the provider says that it is small"


@pytest.mark.parametrize(("small", "named"), [(None, 5), (False, 5), (True, 3)])
def test_who_does_not_say_that_it_is_small_names_a_tenth(run: Run, small: bool | None, named: int) -> None:
    recipe = {"disclosure": {"small_enterprise": small}, "extract": {"sources": SOURCES}}
    chosen = disclosure(run, recipe)
    assert chosen.domains is not None
    assert len(chosen.domains) == named


def test_months_are_those_of_records_that_have_one(run: Run) -> None:
    folder = run.stage("decontaminate").folder
    assert folder is not None
    months = collected(folder, ["web", "books"])
    assert list(months) == ["web"]
    assert (months["web"].first, months["web"].last, months["web"].dated) == ("2024-03", "2025-11", 2)


def test_what_nobody_said_is_not_guessed(run: Run, tmp_path: Path) -> None:
    write_disclosure(disclosure(run, {}), tmp_path)
    page = (tmp_path / "training-content.md").read_text()
    assert "Signatory of the Code of Practice: not stated by the provider" in page
    assert "origins these are: " in page
    assert "Yes" not in page
    assert "- Signatory of the Code of Practice: No\n" in (GOLDEN / "training-content.md").read_text()


@pytest.mark.parametrize("page", PAGES)
def test_nothing_hostile_becomes_markup(page: str) -> None:
    text = (GOLDEN / page).read_text()
    assert not [each for each in ("<script", "\x1b", "\u202e") if each in text]
    assert "/data/" not in text, "paths tell of people's machines"


def test_text_stays_on_its_line_and_in_its_cell() -> None:
    assert plain("a|b\n# c `d` [e](f) *g* <h>") == r"a\|b # c \`d\` \[e\](f) \*g\* &lt;h&gt;"
    assert [plain(each) for each in ("# a", "- a", "1. a", "1.5")] == [r"\# a", r"\- a", r"1\. a", "1.5"]


def test_a_released_run_names_its_version_and_what_no_person_wrote(tmp_path: Path) -> None:
    record, store = example_run(tmp_path)
    whole = disclosure(Run(RunRecord.model_validate(record), store))
    assert whole.model == f"deepmill-sample (export/{identity('export')})"
    assert [each.stage for each in whole.synthetic] == ["grpo"]
    assert whole.tokens_read == {"pretrain": 983_040, "sft": 200_000}
    assert whole.domains is None, "there is no index"


def test_licences_go_to_the_card_where_one_is_stated() -> None:
    sources = ExtractConfig.model_validate({"sources": SOURCES}).sources
    assert "| books | CC0-1.0 |\n| web | not stated by the provider |" in licences(sources)
    assert licences({"web": sources["web"]}) == ""


def test_a_run_without_a_corpus_is_refused(tmp_path: Path) -> None:
    record, store = example_run(tmp_path, until="extract", state="failed")
    with pytest.raises(UserError, match="neither its extract nor its shards"):
        disclosure(Run(RunRecord.model_validate(record), store))


def test_a_licence_is_no_part_of_an_identity(tmp_path: Path) -> None:
    (tmp_path / "books").mkdir()
    (tmp_path / "books" / "a.txt").write_text("text")

    def enters(**said: str) -> dict[str, Any]:
        section = ExtractConfig.model_validate(
            {"sources": {"a": {"kind": "book", "paths": [str(tmp_path / "books")], **said}}}
        )
        digests = DigestCache(tmp_path / "digests")
        try:
            return identity_config(section, digests, {})
        finally:
            digests.close()

    assert enters() == enters(licence="MIT", origin="public", link="https://example.org")
    assert "licence" not in enters()["sources"]["a"]


def test_a_licence_is_no_reason_to_run_again(tmp_path: Path) -> None:
    (tmp_path / "books").mkdir()
    (tmp_path / "books" / "a.txt").write_text("text")
    store = LocalStore(tmp_path / "store")

    def planned(**said: str) -> Job:
        sources = {"a": {"kind": "book", "paths": [str(tmp_path / "books")], **said}}
        plan = make_plan(Recipe.model_validate({"extract": {"sources": sources}}), store)
        return plan.stages[0].job

    before, licensed = planned(), planned(licence="MIT", origin="public")
    assert (before.identity, before.config) == (licensed.identity, licensed.config), "nor is one named as such"


def test_what_people_say_stands_in_the_recipe(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("disclosure: {provider: Us, code_of_practice: true}\n")
    assert load_recipe(str(path)).disclosure == DisclosureConfig(provider="Us", code_of_practice=True)
    assert Recipe().disclosure == DisclosureConfig()
    path.write_text("disclosure: {provder: Us}\n")
    with pytest.raises(UserError, match="did you mean provider"):
        load_recipe(str(path))
