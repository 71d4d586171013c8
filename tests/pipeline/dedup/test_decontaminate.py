from __future__ import annotations

import gzip
import json
import re
import unicodedata
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra import events
from infra.errors import UserError
from pipeline.dedup.decontaminate import Index, decontaminate, evaluation_texts
from pipeline.dedup.evaluation_sets import read_texts, set_files
from pipeline.sections import DecontaminateConfig
from pipeline.tasks.documents import read_documents
from tests.pipeline.corpus import only, write_documents, write_reasoning

QUESTION = "A farmer has 12 sheep and buys 7 more at the market; how many sheep has he?"


def _contaminated(document: str, texts: list[str], n: int = 10, least: int = 3) -> bool:
    """The definition, slowly."""
    words = re.findall(r"\w+", document.lower())
    for text in texts:
        wanted = re.findall(r"\w+", text.lower())
        length = min(n, len(wanted))
        if length < least:
            continue
        for i in range(len(wanted) - length + 1):
            for j in range(len(words) - length + 1):
                if wanted[i : i + length] == words[j : j + length]:
                    return True
    return False


TEXTS = st.lists(st.sampled_from("abc"), max_size=8).map(" ".join)


@given(TEXTS, st.lists(TEXTS, max_size=3), st.integers(2, 5))
def test_index_finds_what_the_definition_finds(document: str, texts: list[str], n: int) -> None:
    match = Index((("set", text) for text in texts), n, 2).find(document)
    assert (match is not None) == _contaminated(document, texts, n, 2)


def test_ten_words_are_found_and_nine_are_not() -> None:
    index = Index([("test", QUESTION)])
    ten = "so: FARMER has 12, sheep and buys 7 more at the... and"
    match = index.find(ten)
    assert match is not None
    assert ten[slice(*match.span)] == "FARMER has 12, sheep and buys 7 more at the"
    assert index.find("farmer has 12 sheep and buys 7 more at a market") is None


def test_short_texts_must_occur_whole_and_tiny_ones_are_not_looked_for() -> None:
    assert Index([("test", "What is 3 + 4?")]).find("we ask what is 3 4 here")
    assert not Index([("test", "What is 3 + 4?")]).find("we ask what is 3 here")
    assert not Index([("test", "Sheep?")]).find("a sheep")


@pytest.mark.parametrize(
    ("text", "document"),
    [
        ("The capital of the old land is ____.", "It said: the capital of the old land is ________, and"),
        ("The capital of the old land is big", "the _capital_ of the __old__ land is big"),
        ("call read_all_lines with __init__ now", "So call `read_all_lines` with init now."),
        ("Die Hauptstadt des Landes ist ___ geworden", "die _Hauptstadt_ des Landes ist „____“ geworden"),
    ],
)
def test_blanks_and_emphasis_hide_no_copy(text: str, document: str) -> None:
    match = Index([("test", text)]).find(document)
    assert match is not None
    assert document[slice(*match.span)].split()[-1].strip("_.,`") in text
    assert not Index([("test", "a snake_case word")]).find("a snake case word")


def _run(tmp_path: Path, rows: list[tuple[str, str, str]], sets: tuple[str, ...] = (), **splits: list[str]) -> Path:
    inputs = {
        "dedup": write_documents(tmp_path / "dedup", rows),
        "reasoning": write_reasoning(tmp_path / "reasoning", **splits),
    }
    out = tmp_path / "out"
    out.mkdir()
    metrics = decontaminate(DecontaminateConfig(evaluation_sets=sets), inputs, out).written()
    assert metrics["documents_out"] == len(list(read_documents(out)))
    return out


def test_stage_drops_documents_with_test_questions_but_not_with_training_ones(tmp_path: Path) -> None:
    train = "In a wood there are 5 owls and 9 foxes and no other animals at all."
    extra = tmp_path / "more.jsonl"
    extra.write_text(json.dumps({"problem": "Find the least prime above one hundred and name it."}) + "\n")
    rows = [
        ("leak", "web", f"Forum post. {QUESTION} Please help."),
        ("train", "web", f"He said: {train}"),
        ("extra", "book", "They were told to find the least prime above one hundred and name it."),
        ("clean", "wiki", "Sheep are kept for wool."),
    ]
    out = _run(tmp_path, rows, (str(extra),), train=[train], test=[QUESTION])
    assert {document.id for document in read_documents(out)} == {"train", "clean"}
    rejects = {document.id: document.metadata for document in read_documents(out, "rejects")}
    assert rejects["leak"]["evaluation_set"] == "reasoning/test"
    assert rejects["leak"]["rule"] == "10-gram"
    assert rejects["leak"]["span_text"].startswith("A farmer has 12")
    assert rejects["extra"]["evaluation_set"] == "more"


def test_every_span_is_told_with_its_set(tmp_path: Path) -> None:
    other = "Find the least prime above one hundred and name it."
    table = pa.table({"problem": [other]})
    (tmp_path / "sets").mkdir()
    pq.write_table(table, tmp_path / "sets" / "primes.parquet")
    (tmp_path / "sets" / "sheep.jsonl.gz").write_bytes(gzip.compress(json.dumps({"question": QUESTION}).encode()))
    text = f"{QUESTION} And then: {other} Once more: {QUESTION}"
    out = _run(tmp_path, [("a", "web", text), ("b", "web", "clean")], (str(tmp_path / "sets"),))
    spans = only(read_documents(out, "rejects")).metadata["spans"]
    assert [each["set"] for each in spans] == ["sheep", "primes", "sheep"]
    assert [each["text"] for each in spans] == [QUESTION[:-1], other[:-1], QUESTION[:-1]]
    assert all(text[slice(*each["span"])] == each["text"] for each in spans)


def test_scripts_without_spaces_are_compared_by_character() -> None:
    index = Index([("zh", "一个农夫有十二只羊，又买了七只")])
    assert index.find("问题：一个农夫有十二只羊，又买了")
    assert not index.find("一个农夫有十二只鸡")


def test_bad_evaluation_set_is_named_with_its_record(tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"question": "fine enough"}\nnot json\n')
    with pytest.raises(UserError, match=r"bad\.jsonl: record 2"):
        _run(tmp_path, [("a", "web", "text")], (str(bad),))


def test_nothing_left_is_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no document"):
        _run(tmp_path, [("a", "web", QUESTION)], test=[QUESTION])
    assert only(read_documents(tmp_path / "out", "rejects")).id == "a"


@pytest.mark.parametrize("length", range(1, 13))
def test_lengths_as_deepseekmath_has_them(length: int) -> None:
    """Whole from 3 to 9 words, any ten of longer texts, nothing of shorter ones."""
    wanted = [f"w{number}" for number in range(length)]
    index = Index([("set", " ".join(wanted))])
    assert bool(index.find(f"before {' '.join(wanted)} after")) == (length >= 3)
    assert not index.find(f"before {' '.join(wanted[: min(length, 10) - 1])} after")


def _hidden(text: str, how: str) -> str:
    match how:
        case "soft hyphens":
            return text.replace("a", "a\u00ad")
        case "zero width":
            return "\ufeff" + text.replace("e", "\u200be").replace("r", "r\u2060")
        case "full width":
            return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)
        case "decomposed":
            return unicodedata.normalize("NFD", text)
        case "ligatures":
            return text.replace("fi", "ﬁ").replace("fl", "ﬂ")
    return text


@pytest.mark.parametrize("how", ["", "soft hyphens", "zero width", "full width", "decomposed", "ligatures"])
@pytest.mark.parametrize("where", ["document", "set"])
def test_invisible_characters_and_other_forms_hide_nothing(how: str, where: str) -> None:
    plain = "The first café had five flowers and nine filled glasses on its small table outside."
    other = _hidden(plain, how)
    assert not how or other != plain
    question, copy = (plain, other) if where == "document" else (other, plain)
    text = f"Before — {copy} — after."
    match = only(Index([("set", question)]).find_all(text))
    found = text[slice(*match.span)]
    assert found.lstrip("\ufeff") == copy.lstrip("\ufeff").rstrip(".．")
    assert Index([("set", question)]).find(text) is not None


def test_messages_give_their_contents_but_for_the_systems(tmp_path: Path) -> None:
    system = "You are a helpful assistant who always answers as well as it can."
    parts = [{"type": "text", "text": "Natalia sold clips to 48 of her friends in April,"}, {"type": "image"}]
    rows: list[Any] = [
        {"messages": [{"role": "system", "content": system}, {"role": "user", "content": QUESTION}]},
        {"messages": [{"role": "user", "content": [*parts, {"type": "text", "text": "and half as many in May."}]}]},
        {"messages": [{"from": "human", "value": "Find the least prime above one hundred and name it."}]},
    ]
    path = tmp_path / "chat.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = DecontaminateConfig(evaluation_sets=(str(path),), fields=("messages",))
    texts = [text for _, text in evaluation_texts(config, write_reasoning(tmp_path / "reasoning", test=["a b c d"]))]
    assert texts == [
        "a b c d",
        QUESTION,
        "Natalia sold clips to 48 of her friends in April,\nand half as many in May.",
        "Find the least prime above one hundred and name it.",
    ]


def _parquet(columns: dict[str, list[str]]) -> bytes:
    file = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), file)
    return file.getvalue().to_pybytes()


def _hub(folder: Path) -> Path:
    """A data set as the Hub has it, with what lies beside its data."""
    (folder / "data").mkdir(parents=True)
    for split in ("train", "test"):
        name = folder / "data" / f"{split}-00000-of-00001.parquet"
        pq.write_table(pa.table({"question": [f"{split} {QUESTION}"], "n": [1]}), name)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# x\n")
    (folder / "dataset_infos.json").write_text("{}")
    (folder / "SHA256SUMS").write_text("00  a\n")
    return folder


def test_a_hub_folder_gives_its_data_and_not_its_training_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes: list[str] = []
    monkeypatch.setattr(events, "note", notes.append)
    folder = _hub(tmp_path / "gsm")
    reasoning = write_reasoning(tmp_path / "reasoning")
    config = DecontaminateConfig(evaluation_sets=(str(folder),))
    assert list(evaluation_texts(config, reasoning)) == [("gsm/test", f"test {QUESTION}")]
    assert "3 files are passed over by name (README.md, SHA256SUMS, dataset_infos.json)" in notes[0]
    assert "the training split is no evaluation set" in notes[1]
    train = str(folder / "data" / "train-00000-of-00001.parquet")
    assert list(evaluation_texts(DecontaminateConfig(evaluation_sets=(train,)), reasoning)) == [
        ("train", f"train {QUESTION}")
    ]
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "README.md").write_text("x")
    with pytest.raises(UserError, match=r"decontaminate.evaluation_sets: .*: no data beside README\.md"):
        list(evaluation_texts(DecontaminateConfig(evaluation_sets=(str(tmp_path / "bare"),)), reasoning))


@pytest.mark.parametrize("kind", ["array.json", "lines.json", "table.csv", "table.tsv", "table.arrow", "bytes.parquet"])
def test_sets_of_every_format(tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    rows = [{"question": "one, two"}, {"question": "thr\u00e9e"}]
    table = pa.Table.from_pylist(rows)
    match kind:
        case "array.json":
            path.write_text(json.dumps(rows, indent=2))
        case "lines.json":
            path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(map(json.dumps, rows)).encode() + b"\n\n")
        case "table.csv":
            path.write_text('id,question\n1,"one, two"\n2,thr\u00e9e\n', encoding="utf-8-sig")
        case "table.tsv":
            path.write_text("id\tquestion\n1\tone, two\n2\tthr\u00e9e\n")
        case "table.arrow":
            with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table)
        case _:
            pq.write_table(table.cast(pa.schema({"question": pa.binary()})), path)
    config = DecontaminateConfig(evaluation_sets=(str(path),))
    texts = [text for _, text in evaluation_texts(config, write_reasoning(tmp_path / "reasoning"))]
    assert texts == ["one, two", "thr\u00e9e"]


@pytest.mark.parametrize(
    ("name", "content", "field"),
    [
        ("a.json", '{"name": "x", "examples": [{"input": "one"}, {"input": "two"}]}', "input"),
        ("a.json", '{"rows": [{"row": {"q": "one"}}, {"row": {"q": "two"}}]}', "q"),
        ("a.json", '{"1": {"q": "one"}, "2": {"q": "two"}}', "q"),
        ("a.json", '{"data": [{"paragraphs": [{"qas": [{"q": "one"}]}]}, {"paragraphs": [{"qas": [{"q": "two"}]}]}]}',
         "paragraphs.qas.q"),
        ("a.jsonl", '{"q": "one"}\n{"q": "two"}\n{"q": null}\n', "q"),
        ("a.csv", "q;a\none;1\ntwo;2\n", "q"),
        ("a.csv", "a,q\n\u2028\x0b,one\n2,two\n", "q"),
        ("a.tsv", 'q\ta\none\t"1\ntwo\t2\n', "q"),
        ("a.tsv", "q,a\none,1\ntwo,2\n", "q"),
        ("a.csv", "sep=;\nq;a\none;1\ntwo;2\n", "q"),
        ("a.csv", "\n\na, q\n1, one\n2, two\n", "q"),
        ("A.CSV", "q,a\none,1\ntwo," + "x" * 200_000 + "\n", "q"),
        ("a.ndjson", '{"q": "one"}{"q": "two"}', "q"),
        ("a.json", '{\n"q": "one"\n}\n{\n"q": "two"\n}\n', "q"),
        ("a.jsonl", '{"q": "one", "n": ' + "9" * 5000 + '}\r\n{"q": "two"}\r\n\x1a', "q"),
        ("a.jsonl", '{"q": []}\n{"q": ["one"]}\n{"q": [{"role": "developer", "content": "x"}, {"content": "two"}]}\n',
         "q"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32-be"])
def test_records_wherever_a_set_keeps_them(tmp_path: Path, name: str, content: str, field: str, encoding: str) -> None:
    (tmp_path / name).write_bytes(content.encode(encoding))
    ((_, file),) = set_files([str(tmp_path / name)])
    assert [text for text in read_texts(file, [field]) if text] == ["one", "two"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", b"one,1\n", "no record in it"),
        ("a.jsonl", b"\n", "no record in it"),
        ("a.jsonl", b'{"prompt": "one"}\n', "the text in one of q; there is prompt"),
        ("a.parquet", b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS, .*git lfs pull"),
        ("a.parquet", _parquet({"prompt": ["one"]}), "the text in one of q; there is prompt"),
        ("a.jsonl", b'{"q": "one"}\n{"q": "tw', "line 2: truncated: the last line is not whole; get the file again"),
        ("a.zip", b"PK\x03\x04" + bytes(60), "a zip archive, .*unpack it"),
        ("a.jsonl", b'{"q": {"stem": "one", "choices": []}}\n', "the text in one of q; there is q"),
    ],
)
def test_a_set_without_a_text_protects_nothing(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    ((_, file),) = set_files([str(tmp_path / name)])
    with pytest.raises(UserError, match=said):
        list(read_texts(file, ["q"]))


def test_a_table_in_another_encoding(tmp_path: Path) -> None:
    words = "Zażółć gęślą jaźń, a wiatr przychodzi ze wschodu; część łodzi śpi. " * 3
    (tmp_path / "a.csv").write_bytes(f'q,a\n"{words}",1\n'.encode("cp1250"))
    ((_, file),) = set_files([str(tmp_path / "a.csv")])
    assert list(read_texts(file, ["q"])) == [words]


def test_a_set_that_is_damaged_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1 and nothing")
    with pytest.raises(UserError, match=r"a\.parquet: .*not a whole Parquet file.*; get the file again"):
        list(evaluation_texts(DecontaminateConfig(evaluation_sets=(str(path),)), write_reasoning(tmp_path / "r")))


def test_vowel_signs_are_part_of_their_words() -> None:
    words = ["हिंदी", "में", "लिखे", "गए", "शब्द", "मात्राओं", "के", "साथ", "एक", "ही", "होते", "हैं"]
    index = Index([("set", " ".join(words[:10]))])
    assert index.find(" ".join(words)) is not None
    assert index.find(" ".join(words[:9])) is None  # nine words, though twice as many pieces between vowel signs


@pytest.mark.parametrize(
    ("question", "copy"),
    [
        ("Wie groß ist die Straße zum Hafen heute", "WIE GROSS IST DIE STRASSE ZUM HAFEN HEUTE"),
        ("كَمْ عَدَدُ السُّفُنِ في مِيناءِ المَدينةِ", "كم عـــدد السفن في ميناء المدينة"),
        ("کتاب من روی میز است", "كتاب من روي ميز است"),
        ("בְּרֵאשִׁית בָּרָא אֱלֹהִים אֵת הַשָּׁמַיִם", "בראשית ברא אלהים את השמים"),
        ("What's the farmer's oldest sheep", "What\u02bcs the farmer\u2019s oldest sheep"),
    ],
)
def test_other_spellings_of_the_same_words_hide_nothing(question: str, copy: str) -> None:
    for text, document in ((question, copy), (copy, question)):
        match = Index([("set", text)]).find(f"Before: {document}, and after.")
        assert match is not None
        assert f"Before: {document}, and after."[slice(*match.span)] == document
