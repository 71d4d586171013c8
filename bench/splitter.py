"""What the fast word splitter does to every rule, against spaCy's: ``python -m bench.splitter [--quick]``.

The same documents (web, wiki and books from DEEPMILL_CORPORA) go through each group of rules twice, once with each
splitter. Per rule: documents dropped with ours, with spaCy's, and by both; and the share of documents on which the
two verdicts of the group are the same.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from bench.corpora import corpora
from bench.table import Row, bench_parser, print_table, row, write_rows
from pipeline.clean.section import CleanConfig
from pipeline.clean.stage import Rules
from pipeline.extract import extract
from pipeline.sections import ExtractConfig
from pipeline.tasks.documents import Document, read_documents
from pipeline.text.words import WORDS

GROUPS = ("gopher_repetition", "gopher_quality", "c4_quality", "fineweb_quality")
SOURCES = {
    "web": {"kind": "web", "paths": ["web/deb_sqlite-00000.warc.gz", "web/deb_debian-handbook-00000.warc.gz"]},
    "wiki": {"kind": "wiki", "paths": ["wiki/enwiki*.bz2"]},
    "book": {"kind": "book", "paths": ["book/pg11_alice.txt", "book/se_henry-david-thoreau_walden.txt"]},
}


def documents(texts: Path, count: int) -> list[Document]:
    """`count` documents of each source, evenly from its beginning to its end."""
    sources = {
        name: source | {"paths": [str(texts / path) for path in source["paths"]]} for name, source in SOURCES.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        extract(ExtractConfig.model_validate({"sources": sources}), {}, Path(folder))
        found: dict[str, list[Document]] = {name: [] for name in sources}
        for document in read_documents(Path(folder)):
            found[document.metadata["source"]].append(document)
    return [each for held in found.values() for each in held[:: max(1, len(held) // count)][:count]]


def theirs(group: str) -> Any:
    """datatrove's filter of a group, with its own settings and spaCy's words."""
    from datatrove.pipeline import filters

    if group == "c4_quality":
        return filters.C4QualityFilter(filter_no_terminal_punct=True)
    return getattr(filters, "".join(map(str.capitalize, group.split("_"))).replace("web", "Web") + "Filter")()


def verdicts(rule: Any, given: list[Document]) -> list[str]:
    """The rule of the group that drops each document, empty where none does."""
    found = []
    for document in given:
        copy = Document(text=document.text, id=document.id, metadata=dict(document.metadata))
        result = rule.filter(copy)
        found.append("" if result is True else (result[1] if isinstance(result, tuple) else "score"))
    return found


def measure(given: list[Document]) -> tuple[list[Row], list[dict[str, Any]]]:
    """A row per group and source, and the counts of every rule."""
    ours = Rules(CleanConfig(), Path("unused"))
    rows, rules = [], []
    for group in GROUPS:
        mine, other = verdicts(ours.filter_of(group), given), verdicts(theirs(group), given)
        for source in SOURCES:
            pairs = [(a, b) for a, b, each in zip(mine, other, given, strict=True) if each.metadata["source"] == source]
            same = sum(bool(a) == bool(b) for a, b in pairs)
            rows.append(row(f"{group}: same verdict, {source}", "share", same / len(pairs), {}, None))
        counts = Counter(mine), Counter(other), Counter(a for a, b in zip(mine, other, strict=True) if a == b)
        for rule in sorted((counts[0] | counts[1]).keys() - {""}):
            numbers = {"ours": counts[0][rule], "spacy": counts[1][rule], "both": counts[2][rule]}
            rules.append({"rule": f"{group}/{rule.removeprefix('gopher_')}", **numbers})
    return rows, rules


def main() -> None:
    """Measure, print, write."""
    arguments = bench_parser(__doc__, "40 documents of each source, not 400").parse_args()
    try:
        import spacy  # noqa: F401
    except ImportError:
        print("missing: spacy is not installed, so there is nothing to compare with")
        return
    given = documents(corpora("web", "wiki", "book"), 40 if arguments.quick else 400)
    text = "\n".join(document.text for document in given[::7])[:400_000]
    from datatrove.utils.text import split_into_words
    from datatrove.utils.typeshelper import Languages

    words = len(WORDS.word_tokenize(text)), len(split_into_words(text, Languages.english))
    rows, rules = measure(given)
    rows.insert(0, row("words", "words", float(words[0]), {"spacy": float(words[1])}, None))
    print_table(rows)
    print(f"\n{'rule, of ' + str(len(given)) + ' documents':<45} {'ours':>6} {'spacy':>6} {'both':>6}")
    for rule in rules:
        print(f"{rule['rule']:<45} {rule['ours']:>6} {rule['spacy']:>6} {rule['both']:>6}")
    write_rows(rows + rules, arguments.json)


if __name__ == "__main__":
    main()
