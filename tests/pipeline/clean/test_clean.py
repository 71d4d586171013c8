from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from datatrove.data import Document

from infra.errors import UserError
from pipeline.clean.section import GROUPS, PROFILES, SWITCHES, CleanConfig, CleanRules
from pipeline.clean.stage import Rules, clean
from pipeline.sections import Profile
from pipeline.tasks.documents import read_documents
from pipeline.tasks.guard import renew
from pipeline.tasks.ledger import DocumentMetrics, Ledger
from pipeline.tasks.profiles import profile_of
from pipeline.text.languages import STOP_WORDS
from pipeline.text.words import WORDS
from tests.pipeline.corpus import only, published, set_workers, write_documents

SENTENCES = [
    "The harbour of the old town lies open to the west, and the wind comes in with the tide.",
    "Fishermen mend their nets on the quay while children watch the boats that have come home.",
    "In winter, few ships dare to leave, for the rocks outside are many and the light is poor.",
    "A lighthouse was built to mark the channel, and its keeper has lived there with his family.",
    "Every spring a market is held in the square, to which farmers bring cheese, wool and honey.",
    "Travellers who stay for a night often remain a week, charmed by the calm of the place.",
]
GOOD = "\n".join(SENTENCES)
GERMAN = "Der alte Hafen der Stadt liegt nach Westen offen, und der Wind kommt mit der Flut herein. " * 8


def _config(**rules: bool) -> CleanConfig:
    """Only the named groups of rules, for every source."""
    return CleanConfig(rules=CleanRules(**{name: rules.get(name, name == "fix_encoding") for name in SWITCHES}))


def _judge(
    config: CleanConfig,
    text: str,
    source: str = "web",
    url: str = "http://example.com/a",
    profile: Profile = Profile.WEB,
) -> tuple[str | None, str]:
    document = Document(text=text, id="x", metadata={"source": source, "url": url, "profile": profile.value})
    return Rules(config, Path("unused")).judge(document), document.text


def test_good_text_passes_every_rule_unchanged() -> None:
    config = CleanConfig(rules=CleanRules(url=False))
    assert _judge(config, GOOD) == (None, GOOD)


@pytest.mark.parametrize(
    ("group", "text", "rule"),
    [
        ("language", GERMAN, "language/other"),
        ("gopher_repetition", "\n".join([SENTENCES[0]] * 9), "gopher_repetition/dup_line_frac"),
        ("gopher_quality", "Too short to be of use.", "gopher_quality/short_doc"),
        ("gopher_quality", "12345 34567 === 9876 the and " * 40, "gopher_quality/below_alpha_threshold"),
        ("c4_quality", "\n".join(["Menu entry without a stop"] * 20), "c4_quality/too_few_sentences"),
        ("c4_quality", GOOD + "\nint main() { return 0; }.", "c4_quality/curly_bracket"),
        ("fineweb_quality", "\n".join(f"item {i}" for i in range(50)), "fineweb_quality/line_punct_ratio"),
        ("gopher_quality", "", "empty"),
    ],
)
def test_each_group_drops_what_it_is_for_and_only_where_switched_on(group: str, text: str, rule: str) -> None:
    assert _judge(_config(**{group: True}), text)[0] == rule
    if text:
        assert _judge(_config(), text)[0] is None


JAPANESE = (
    "港は西に開いていて、風は潮とともにやって来る。漁師たちは岸で網を繕い、子どもたちは帰って来た船を見ている。\n"
)
RUSSIAN = (
    "Гавань старого города открыта на запад и ветер приходит сюда вместе с приливом.",
    "Рыбаки чинят сети на берегу и дети смотрят на лодки которые вернулись домой.",
    "Зимой не многие корабли уходят в море потому что там камни и слабый свет.",
    "На входе стоит маяк и его смотритель живёт там с семьёй уже много лет.",
    "Каждую весну на площади бывает ярмарка и крестьяне привозят туда сыр и мёд.",
)
OTHERS = {
    "ru": "\n".join(RUSSIAN),
    "de": "Der alte Hafen der Stadt liegt nach Westen offen, und der Wind kommt mit der Flut herein.\n"
    "Die Fischer flicken am Ufer ihre Netze, und Kinder sehen den Booten zu, die von der See heimkehren.\n"
    "Im Winter fahren wenige Schiffe aus, denn draußen sind viele Felsen, und das Licht ist schwach.\n"
    "Ein Leuchtturm steht an der Einfahrt, und sein Wärter wohnt dort seit Jahren mit der Familie.\n"
    "In jedem Frühling ist Markt auf dem Platz, zu dem die Bauern Käse, Wolle und Honig bringen.\n",
    "ja": "".join(f"{number}日目、{JAPANESE}" for number in range(6)),
}


@pytest.mark.parametrize("language", OTHERS)
def test_the_rules_fit_other_languages(language: str) -> None:
    rules = CleanRules(url=False, gopher_repetition=False)
    text = OTHERS[language]
    assert _judge(CleanConfig(rules=rules, languages=(language, "en")), text)[0] is None
    assert _judge(CleanConfig(rules=rules), text)[0] == "language/other"
    stripped = CleanRules(**(dict.fromkeys(GROUPS, False) | {"gopher_quality": True}))
    assert _judge(CleanConfig(rules=stripped, languages=()), text)[0] is not None, "as English it is none"


def test_every_language_has_its_own_eight_words() -> None:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    known = LanguageIdentifier.from_model_file(MODEL_FILE).nb_classes
    assert set(STOP_WORDS) <= set(known)
    assert {len(set(words)) for words in STOP_WORDS.values()} == {8}
    assert all(WORDS.word_tokenize(word) == [word] for words in STOP_WORDS.values() for word in words)


def test_thresholds_of_single_languages() -> None:
    sure = CleanConfig(rules=CleanRules(url=False), languages=("de", "en"), language_thresholds={"de": 1.0})
    unsure = sure.model_copy(update={"language_thresholds": {"de": 1.01}})
    short = "Haus und Hof."
    assert _judge(unsure, GERMAN)[0] == "language/unsure"
    assert _judge(sure.model_copy(update={"language_thresholds": {}}), short)[0] != "language/other"


def test_what_the_rules_did_is_counted(tmp_path: Path) -> None:
    rows = [
        ("a", "web", GOOD + "\nMenu entry without a stop\nWe use cookies to improve this site.\n"),
        ("b", "web", GOOD.replace("old", "caf\u00c3\u00a9") + "\nWrite to jane@corp.io at any time."),
    ]
    _, metrics = _run(tmp_path, CleanConfig(rules=CleanRules(url=False)), rows)
    assert metrics["noted"] == {
        "c4_lines/no_terminal_punc": 1,
        "c4_lines/policy": 1,
        "language/en": 2,
        "masked": 1,
        "mended": 1,
    }
    account = DocumentMetrics.model_validate(metrics).by_source["web"]
    assert account.cut == {
        "c4/lines/no_terminal_punc": len("\nMenu entry without a stop\n"),
        "c4/lines/policy": len("We use cookies to improve this site.\n"),
        "mended": 1,
        "masked": len("jane@corp.io") - len("email@example.com"),
    }
    assert account.characters_in == sum(len(text) for _, _, text in rows)
    assert account.unaccounted == 0


def test_url_rule_drops_what_the_lists_name(tmp_path: Path) -> None:
    rules = Rules(_config(url=True), tmp_path)
    for url, expected in (("http://www.0-1avsex.com/x", "url/domain"), ("http://good.co.uk/x", None), ("", None)):
        document = Document(text=GOOD, id="x", metadata={"source": "web", "url": url})
        assert rules.judge(document) == expected


@pytest.mark.parametrize("profile", Profile)
def test_what_a_text_is_chooses_the_rules_and_its_name_does_not(profile: Profile) -> None:
    text = GOOD.replace(".", "")
    config = CleanConfig(rules=CleanRules(url=False))
    for source in ("web", "wiki", "shelf", "src"):
        rule = _judge(config, text, source, profile=profile)[0]
        assert rule == ("c4_quality/too_few_sentences" if profile is Profile.WEB else None)


def test_documents_without_a_profile_are_judged_by_the_old_names() -> None:
    named = {"web": Profile.WEB, "wiki": Profile.REFERENCE, "book": Profile.PROSE, "code": Profile.CODE}
    assert {source: profile_of({"source": source}) for source in named} == named
    assert profile_of({"source": "shelf"}) is Profile.PROSE
    assert profile_of({"source": "wiki", "profile": "code"}) is Profile.CODE


def test_every_rule_and_threshold_gives_way_to_the_recipe_in_order() -> None:
    shares = {"top_n_grams": {2: 0.5}, "repeated_n_grams": {5: 0.5}, "language_thresholds": {"de": 0.5}}
    for name in CleanRules.model_fields:
        old = getattr(CleanConfig().rules_of("mine", Profile.WEB), name)
        if name in shares:
            new: object = shares[name]
        elif isinstance(old, tuple):
            new = ("de",)
        else:
            new = not old if isinstance(old, bool) else 1 if old is None else old / 2 if isinstance(old, float) else 9
        changed = CleanRules(**{name: new})
        for keys in ({"rules": changed}, {"profiles": {Profile.WEB: changed}}, {"rules_by_source": {"mine": changed}}):
            config = CleanConfig.model_validate(CleanConfig(**keys).model_dump(mode="json"))
            rules = config.rules_of("mine", Profile.WEB)
            assert getattr(rules, name) == new
            assert rules.model_copy(update={name: old}) == CleanConfig().rules_of("mine", Profile.WEB)
    layered = CleanConfig(
        rules=CleanRules(min_words=1, max_words=10, pii=False),
        profiles={Profile.MATHS: CleanRules(min_words=2, max_words=20)},
        rules_by_source={"mine": CleanRules(min_words=3)},
    ).rules_of("mine", Profile.MATHS)
    assert (layered.min_words, layered.max_words, layered.pii) == (3, 20, False)
    assert layered.gopher_quality is PROFILES[Profile.MATHS].gopher_quality is False


def test_thresholds_directly_under_clean_are_still_understood() -> None:
    old = CleanConfig.model_validate({"rules": {"url": False}, "min_words": 7, "curly_bracket": False})
    assert old == CleanConfig(rules=CleanRules(url=False, min_words=7, curly_bracket=False))
    assert CleanConfig.model_validate({"rules": {"min_words": 9}, "min_words": 7}).rules.min_words == 9


def test_text_is_mended_and_masked_the_same_in_every_document() -> None:
    config = _config(pii=True)
    rules = Rules(config, Path("unused"))
    for _ in range(3):
        text = "The caf\u00c3\u00a9 answers at jane@corp.io and 8.8.8.8, not at 10.0.0.1."
        document = Document(text=text, id="x", metadata={"source": "web", "url": ""})
        assert rules.judge(document) is None
        assert document.text == "The café answers at email@example.com and 22.214.171.124, not at 10.0.0.1."


def _rows() -> list[tuple[str, str, str]]:
    return [
        ("good", "web", GOOD),
        ("german", "web", GERMAN),
        ("stub", "wiki", " ".join(SENTENCES[:2])),
        ("kept", "wiki", GOOD + "!"),
    ]


def _run(root: Path, config: CleanConfig, *files: list[tuple[str, str, str]]) -> tuple[Path, dict]:  # type: ignore[type-arg]
    (root / "out").mkdir(parents=True)
    return root / "out", clean(config, {"extract": write_documents(root / "in", *files)}, root / "out")


def test_stage_counts_and_keeps_rejects_as_they_came(tmp_path: Path) -> None:
    out, metrics = _run(tmp_path, CleanConfig(rules=CleanRules(url=False)), _rows())
    assert [document.id for document in read_documents(out)] == ["good", "kept"]
    assert metrics["dropped"] == {"gopher_quality/short_doc": 1, "language/other": 1}
    rows = _rows()
    stub = len(rows[2][2])
    assert metrics["by_source"]["wiki"] == {
        "documents_in": 2,
        "documents_out": 1,
        "characters_in": stub + len(rows[3][2]),
        "characters_out": len(rows[3][2]),
        "rejected": {"gopher_quality/short_doc": {"documents": 1, "characters": stub}},
    }
    assert metrics["bytes_in"] > metrics["bytes_out"] > 0
    rejects = {document.id: document for document in read_documents(out, "rejects")}
    assert rejects["german"].text == GERMAN
    assert rejects["german"].metadata["language"] == "de"
    assert rejects["stub"].metadata["rule"] == "gopher_quality/short_doc"


def test_same_bytes_for_any_number_of_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for workers in (1, 2):
        set_workers(monkeypatch, workers)
        rows = _rows()
        out, metrics = _run(tmp_path / str(workers), CleanConfig(rules=CleanRules(url=False)), rows[:2], rows[2:])
        results.append((published(out), metrics))
    assert results[0] == results[1]


def test_killed_stage_resumes_with_the_same_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_workers(monkeypatch, 1)
    config, rows = CleanConfig(rules=CleanRules(url=False)), _rows()
    whole = _run(tmp_path / "whole", config, rows[:2], rows[2:])
    inputs = {"extract": write_documents(tmp_path / "in", rows[:2], rows[2:])}
    out = tmp_path / "out"
    out.mkdir()
    keep = Ledger.keep

    def killed(self: Ledger, document: Document, *counts: Any) -> None:
        if document.id == "kept":
            raise KeyboardInterrupt
        keep(self, document, *counts)

    monkeypatch.setattr(Ledger, "keep", killed)
    with pytest.raises(KeyboardInterrupt):
        clean(config, inputs, out)
    assert [file.name for file in (out / "documents").glob("*.parquet")] == ["00000.parquet"]
    monkeypatch.setattr(Ledger, "keep", keep)
    metrics = clean(config, inputs, out)
    assert (published(out), metrics) == (published(whole[0]), whole[1])


def test_one_breaking_document_is_counted_and_many_stop_the_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.clean.quality import FastGopherQuality

    passing = FastGopherQuality.filter

    def breaks(self: FastGopherQuality, document: Document) -> object:
        if document.id == "good":
            raise ZeroDivisionError("division by zero")
        return passing(self, document)

    monkeypatch.setattr(FastGopherQuality, "filter", breaks)
    renew()
    set_workers(monkeypatch, 1)
    config = CleanConfig(rules=CleanRules(url=False), max_failures=0.5)
    out, metrics = _run(tmp_path / "a", config, _rows())
    assert metrics["dropped"]["failure/gopher_quality"] == 1
    broken = only(d for d in read_documents(out, "rejects") if d.id == "good")
    assert broken.metadata["failure"] == "ZeroDivisionError: division by zero"
    with pytest.raises(UserError, match="rules broke on 1 of 4 documents"):
        _run(tmp_path / "b", config.model_copy(update={"max_failures": 0.1}), _rows())


def test_a_document_on_which_a_rule_hangs_costs_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.clean.quality import FastGopherQuality

    passing = FastGopherQuality.filter

    def hangs(self: FastGopherQuality, document: Document) -> object:
        while document.id == "good":
            pass
        return passing(self, document)

    monkeypatch.setattr(FastGopherQuality, "filter", hangs)
    renew()
    set_workers(monkeypatch, 1)
    config = CleanConfig(rules=CleanRules(url=False), max_failures=0.5, max_document_seconds=0.3)
    out, metrics = _run(tmp_path / "a", config, _rows())
    assert metrics["dropped"]["failure/timeout"] == 1
    rejected = only(d for d in read_documents(out, "rejects") if d.id == "good")
    assert rejected.text == GOOD
    assert rejected.metadata["failure"] == "not done after 0.3 s of processor time"
    assert [document.id for document in read_documents(out)] == ["kept"]


def test_nothing_left_is_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no document passed"):
        _run(tmp_path, CleanConfig(rules=CleanRules(url=False)), [("german", "web", GERMAN)])
