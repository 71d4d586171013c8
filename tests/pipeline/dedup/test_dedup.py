from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from infra.errors import UserError
from pipeline.dedup import stage
from pipeline.dedup.section import DedupConfig
from pipeline.dedup.stage import dedup
from pipeline.tasks.documents import read_documents
from tests.pipeline.corpus import only, published, set_workers, words, write_documents

LONG = words(1, 300)
NEAR = LONG.replace(LONG.split()[150], "changed", 1)


def _run(tmp_path: Path, name: str, files: list[list[tuple[str, str, str]]], **keys: object) -> Path:
    out = tmp_path / f"out-{name}"
    out.mkdir()
    dedup(DedupConfig(**keys), {"clean": write_documents(tmp_path / f"in-{name}", *files)}, out)  # type: ignore[arg-type]
    return out


def _corpus() -> list[tuple[str, str, str]]:
    return [
        ("web-copy", "web", LONG),
        ("web-near", "web", NEAR),
        ("wiki-copy", "wiki", LONG.upper() + "!"),
        ("book-other", "book", words(3, 300)),
        ("short-a", "web", "Two words."),
        ("short-b", "web", "two WORDS"),
    ]


def test_precedence_keeps_the_wiki_copy_and_names_it(tmp_path: Path) -> None:
    out = _run(tmp_path, "a", [_corpus()])
    assert {document.id for document in read_documents(out)} == {"wiki-copy", "book-other", "short-a"}
    rejects = {document.id: document.metadata for document in read_documents(out, "rejects")}
    assert rejects["web-copy"]["rule"] == "folded"
    assert rejects["web-near"]["rule"] == "minhash"
    assert (rejects["web-near"]["kept"], rejects["web-near"]["kept_source"]) == ("wiki-copy", "wiki")
    assert (rejects["short-b"]["rule"], rejects["short-b"]["kept"]) == ("folded", "short-a")


def test_precedence_can_be_turned_round(tmp_path: Path) -> None:
    out = _run(tmp_path, "a", [_corpus()], precedence=("web", "wiki"))
    assert {document.id for document in read_documents(out)} == {"web-copy", "book-other", "short-a"}


def test_without_minhash_near_copies_stay(tmp_path: Path) -> None:
    out = _run(tmp_path, "a", [_corpus()], minhash=False)
    assert only(d.id for d in read_documents(out) if d.id == "web-near")


def test_without_folding_short_copies_stay(tmp_path: Path) -> None:
    out = _run(tmp_path, "a", [_corpus()], folded=False)
    assert {d.id for d in read_documents(out)} == {"wiki-copy", "book-other", "short-a", "short-b"}


def test_what_stays_depends_on_no_file_order(tmp_path: Path) -> None:
    rows = _corpus()
    kept = set()
    for name, files in {
        "a": [rows],
        "b": [rows[3:], rows[:3]],
        "c": [rows[::-1]],
        "d": [[row] for row in rows],
    }.items():
        kept.add(frozenset(document.id for document in read_documents(_run(tmp_path, name, files))))
    assert len(kept) == 1


def test_same_bytes_for_any_number_of_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = _corpus()
    results = []
    for workers in (1, 2):
        set_workers(monkeypatch, workers)
        (tmp_path / str(workers)).mkdir()
        results.append(published(_run(tmp_path / str(workers), "a", [rows[:3], rows[3:]])))
    assert results[0] == results[1]


def test_same_bytes_for_any_number_of_tasks_of_a_band(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [[(f"{file}-{row}", "web", words(row % 5 * file, 60)) for row in range(20)] for file in range(3)]
    found = []
    for most, tasks in ((60, 1), (7, 9)):
        monkeypatch.setattr(stage, "PAIRED", most)
        out = _run(tmp_path, f"{tasks}", files, max_loss=1.0)
        assert len(list((out / ".work" / "pairs").glob("*.dups"))) == tasks * DedupConfig().buckets
        found.append(published(out))
    assert found[0] == found[1]


def test_no_documents_is_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no documents"):
        _run(tmp_path, "a", [[]])


def _copies(tmp_path: Path, profile: str, texts: list[str], source: str = "mine") -> list[tuple[str, str]]:
    """What goes, by number and rule."""
    rows = [(f"{number:04d}", source, text) for number, text in enumerate(texts)]
    out = tmp_path / "out"
    out.mkdir(parents=True)
    inputs = write_documents(tmp_path / "in", rows, profile=profile)
    dedup(DedupConfig(), {"clean": inputs}, out)
    return sorted((d.id, d.metadata["rule"]) for d in read_documents(out, "rejects"))


def _sum(a: int, b: int, sign: str) -> str:
    value = {"+": a + b, "-": a - b, "*": a * b}[sign]
    return (
        f"What is {a} {sign} {b}?\nWe write the first number down, and below it the second one, so that their digits "
        f"stand one above the other; then we go from right to left, and carry.\n"
        f"{a} {sign} {b} = {value}\nAnswer: {value}"
    )


@pytest.mark.parametrize("profile", ["maths", "dialogue", "prose", "code"])
def test_every_sum_is_another_one(tmp_path: Path, profile: str) -> None:
    sums = [_sum(a, b, sign) for a in range(10, 18) for b in range(2, 11) for sign in "+-*"]
    assert not _copies(tmp_path / "long", profile, sums)
    assert not _copies(tmp_path / "short", profile, [text.split("\n")[2] for text in sums])
    assert _copies(tmp_path / "same", profile, [sums[0], sums[1], sums[0]]) == [("0002", "exact")]


def _function(number: int, operator: str, name: str = "step") -> str:
    return (
        f"def {name}(values, start):\n    total = start\n    for value in values:\n"
        f"        total {operator}= value * {number}\n    return total\n"
    )


def test_every_function_is_another_one(tmp_path: Path) -> None:
    functions = [_function(number, operator) for number in range(14) for operator in "+-/"]
    assert len(functions) == 42
    assert not _copies(tmp_path / "a", "code", functions)
    indented = functions[0].replace("    return", "        return")
    assert not _copies(tmp_path / "b", "code", [functions[0], indented])
    assert _copies(tmp_path / "c", "code", [functions[0], functions[0]]) == [("0001", "exact")]


def test_a_long_program_in_which_little_changed_is_a_near_copy(tmp_path: Path) -> None:
    program = "\n".join(_function(number, "+", f"step_{number}") for number in range(30))
    assert _copies(tmp_path / "a", "code", [program, program.replace("* 17", "* 71")]) == [("0001", "minhash")]


@pytest.mark.parametrize("profile", ["web", "prose", "reference", "dialogue"])
@pytest.mark.parametrize(
    "hidden",
    [
        str.upper,
        lambda text: text.replace("e", "e\u00ad"),
        lambda text: text.replace(" ", "\u200b ").replace("a", "a\u2060"),
        lambda text: "".join(chr(ord(c) + 0xFEE0) if c.isascii() and c.isalpha() else c for c in text),
        lambda text: text.replace("fi", "\ufb01"),
        lambda text: text.replace(". ", "!  ").replace(" ", "\n", 3),
    ],
)
def test_nothing_invisible_hides_a_copy_of_prose(tmp_path: Path, profile: str, hidden: Callable[[str], str]) -> None:
    text = "The finest harbour of the old town lies open to the west. Fishermen find there what they want."
    assert hidden(text) != text
    assert _copies(tmp_path, profile, [text, hidden(text)]) == [("0001", "folded")]


def test_spellings_of_the_same_letter_are_copies(tmp_path: Path) -> None:
    texts = ["کتاب من روی میز است", "كتاب من روي ميـــز است", "کتاب او روی میز است"]
    assert _copies(tmp_path, "prose", texts) == [("0001", "folded")]


def test_exact_means_equal_characters(tmp_path: Path) -> None:
    texts = ["One line.", "One line.", "one line", "One  line.", "One line.\n"]
    assert _copies(tmp_path, "prose", texts) == [
        ("0001", "exact"),
        *((f"000{number}", "folded") for number in (2, 3, 4)),
    ]


def test_what_folds_is_the_recipes_choice(tmp_path: Path) -> None:
    rows = [("a", "x", "f(x) = x + 1"), ("b", "x", "F(X) = X + 1")]
    inputs = write_documents(tmp_path / "in", rows, profile="maths")
    for name, keys, left in (("plain", {}, 2), ("folds", {"foldings": {"maths": {"case": True}}}, 1)):
        (tmp_path / name).mkdir()
        metrics = dedup(DedupConfig.model_validate(keys), {"clean": inputs}, tmp_path / name).written()
        assert len(list(read_documents(tmp_path / name))) == left, metrics


def test_of_two_copies_the_profile_decides_and_named_sources_go_before(tmp_path: Path) -> None:
    texts = {"crawl": "web", "encyclopaedia": "reference", "shelf": "prose"}
    for name, precedence, stays in (("a", (), "encyclopaedia"), ("b", ("crawl",), "crawl"), ("c", ("shelf",), "shelf")):
        rows = [(source, source, LONG) for source in texts]
        inputs = write_documents(tmp_path / f"in-{name}", rows, profile=texts.__getitem__)
        (tmp_path / name).mkdir()
        dedup(DedupConfig(precedence=precedence), {"clean": inputs}, tmp_path / name)
        assert [document.id for document in read_documents(tmp_path / name)] == [stays]


def test_code_loses_no_sentences(tmp_path: Path) -> None:
    code = "".join(_function(number, "+", "step") for number in (1, 2, 3))
    rows = [("a", "x", code + "x = 1\n"), ("b", "y", code + "y = 2\n")]
    for profile, cut in (("code", False), ("prose", True)):
        inputs = write_documents(tmp_path / f"in-{profile}", rows, profile=profile)
        (tmp_path / profile).mkdir()
        config = DedupConfig(sentences=True, sentence_min_words=1, minhash=False)
        dedup(config, {"clean": inputs}, tmp_path / profile)
        assert ({d.text for d in read_documents(tmp_path / profile)} != {rows[0][2], rows[1][2]}) is cut
