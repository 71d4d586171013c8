"""Every rule by which a stage rejects documents or cuts text out of them, and what it says.

An account (`pipeline/tasks/ledger.py`) may hold no other; the tests see to it, and that the account of each is exact.
A `*` stands for a number, a status or a name.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

__all__ = ["CUTS", "REJECTS", "rule_of", "says"]

_GUARD = {
    "failure/crash": "the process that read it died",
    "failure/memory": "it took more memory than a record may",
    "failure/text": "what makes text of it broke down",
    "failure/timeout": "it took more time than a record may",
}
"""Of all work done in a process of its own."""
_GROUPS = ("encoding", "url", "language", "pii", "gopher_repetition", "gopher_quality", "c4_quality", "fineweb_quality")
"""Of the rules of `clean`."""
REJECTS: Mapping[str, Mapping[str, str]] = {
    "extract": {
        **_GUARD,
        "damaged_file": "the file breaks off, or is none of its kind",
        "data": "a file of a language for data that is too small or too large to learn from",
        "failure/archive": "a file of an archive that cannot be unpacked",
        "failure/csv": "a row that is no CSV",
        "failure/damaged": "a stretch of a file that is damaged",
        "failure/encoding": "bytes that are no text",
        "failure/encrypted": "an encrypted book",
        "failure/epub": "no whole EPUB",
        "failure/field": "a row without a text",
        "failure/format": "a format of books that is not read",
        "failure/http": "no HTTP response",
        "failure/json": "a line that is no JSON object",
        "failure/nested": "elements that are nested too deep",
        "failure/stub": "a page of a dump whose text is in another dump",
        "failure/subtitles": "a file without a cue",
        "failure/truncated": "a book whose end is missing",
        "failure/xml": "a page of a dump that is no XML",
        "few_letters": "code that has hardly a letter",
        "generated": "code that a machine wrote",
        "language": "no programming language that is wanted, or none",
        "long_line": "code with a line that is too long",
        "long_lines": "code whose lines are too long on average",
        "missing_chapter": "a chapter of a book that is not in its archive",
        "model/*": "a page that is no wikitext",
        "namespace/*": "a page of a namespace that is not wanted",
        "not_http": "a response of another protocol",
        "redirect": "a page that leads to another",
        "removed": "somebody asked to have it removed",
        "skipped": "a file of a name that is passed over",
        "status/*": "an HTTP status that is not wanted",
        "too_large": "a record larger than `extract.max_record_bytes`",
        "too_short": "a text shorter than the source's `min_characters`",
        "type": "a media type that is no text",
    },
    "clean": {
        "failure/crash": _GUARD["failure/crash"],
        "failure/timeout": _GUARD["failure/timeout"],
        **{f"failure/{group}": f"a rule of {group} broke" for group in _GROUPS},
        "c4_quality/curly_bracket": "a page with a curly bracket",
        "c4_quality/lorem_ipsum": "a page of filler",
        "c4_quality/too_few_sentences": "fewer sentences than `min_sentences` after lines went",
        "empty": "nothing but white space",
        "fineweb_quality/char_dup_ratio": "too much of it is in repeated lines (`duplicated_characters`)",
        "fineweb_quality/empty": "nothing that is not verbatim",
        "fineweb_quality/line_punct_ratio": "too few lines end with punctuation (`line_punctuation`)",
        "fineweb_quality/list_ratio": "too many line breaks per word (`new_lines_per_word`)",
        "fineweb_quality/short_line_ratio": "too many short lines (`short_lines`)",
        "gopher_quality/above_avg_threshold": "words too long on average (`max_word_length`)",
        "gopher_quality/below_alpha_threshold": "too few words with a letter (`min_alpha_words`)",
        "gopher_quality/below_avg_threshold": "words too short on average (`min_word_length`)",
        "gopher_quality/enough_stop_words": "too few stop words (`min_stop_words`)",
        "gopher_quality/long_doc": "too many words (`max_words`)",
        "gopher_quality/short_doc": "too few words (`min_words`)",
        "gopher_quality/too_many_bullets": "too many lines with a bullet (`bullet_lines`)",
        "gopher_quality/too_many_ellipsis": "too many ellipses per word (`symbols_per_word`)",
        "gopher_quality/too_many_end_ellipsis": "too many lines that end with an ellipsis (`ellipsis_lines`)",
        "gopher_quality/too_many_hashes": "too many # per word (`symbols_per_word`)",
        "gopher_repetition/dup_line_char_frac": "too much of it is in repeated lines",
        "gopher_repetition/dup_line_frac": "too many repeated lines (`repeated_lines`)",
        "gopher_repetition/dup_para_char_frac": "too much of it is in repeated paragraphs",
        "gopher_repetition/dup_para_frac": "too many repeated paragraphs (`repeated_lines`)",
        "gopher_repetition/duplicated_*_n_grams": "too much of it is in repeated n-grams (`repeated_n_grams`)",
        "gopher_repetition/empty": "nothing that is not verbatim",
        "gopher_repetition/top_*_gram": "too much of it is one n-gram (`top_n_grams`)",
        "language/other": "a language that is not wanted",
        "language/unsure": "a language that is not sure (`language_threshold`)",
        "url/blacklisted_subword": "part of a word in its address is on a block list",
        "url/domain": "its domain is on a block list",
        "url/hard_blacklisted": "a word of its address is on a block list",
        "url/soft_blacklisted": "several words of its address are on a block list",
        "url/subdomain": "its host is on a block list",
        "url/url": "its address is on a block list",
    },
    "dedup": {
        "exact": "a copy to the character",
        "folded": "a copy but for case, marks and numbers",
        "minhash": "a near copy",
        "sentences": "too little is left without repeated sentences",
    },
    "quality": {"quality": "less like the examples than the share that is kept"},
    "recall": {"not_recalled": "no page of a domain that is looked for"},
    "decontaminate": {"*-gram": "words of an evaluation set"},
    "shards": {"less_than_a_row": "too few tokens for a row"},
}
"""Of whole documents, by stage."""
CUTS: Mapping[str, Mapping[str, str]] = {
    "extract": {
        "auxiliary": "parts that a book calls no part of its reading order",
        "comments": "comments of a wiki's page",
        "credits": "who made the book's file",
        "interlanguage": "links to other languages",
        "licence": "Project Gutenberg's header, licence and small print",
        "markup": "tags, scripts, styles, timings, and all that no other rule is named for",
        "media": "pictures, maps and their captions",
        "navigation": "what is shown on a page and is not its content",
        "nul_bytes": "NUL characters",
        "references": "footnotes",
        "repeated": "lines that rolling captions say again",
        "sections": "sections of links and sources",
        "sounds": "descriptions of sounds",
        "tables": "tables",
        "tags": "what templates and tools of a wiki alone see",
        "templates": "templates, but for the text that they show",
        "title": "titles of pages, put before their text",
        "whitespace": "white space of plain text",
    },
    "clean": {
        "c4/citations": "marks such as [1]",
        "c4/lines/javascript": "lines about JavaScript",
        "c4/lines/no_terminal_punc": "lines that do not end a sentence",
        "c4/lines/policy": "lines about cookies and terms of use",
        "c4/lines/too_few_words": "lines of fewer words than `min_words_per_line`",
        "c4/lines/too_long_word": "lines with a word of more than 1,000 characters",
        "masked": "e-mail and IP addresses, replaced",
        "mended": "wrongly decoded characters and entities, replaced",
    },
    "dedup": {"sentences": "sentences that stand elsewhere too"},
    "shards": {"row_remainder": "tokens that fill no row"},
}
"""Of text within documents that stay, by stage."""


def rule_of(stage: str, name: str, among: Mapping[str, Mapping[str, str]]) -> str:
    """The rule as it stands in `REJECTS` or `CUTS`; empty where the stage has none of that name."""
    rules = among.get(stage, {})
    return name if name in rules else next((rule for rule in rules if fnmatchcase(name, rule)), "")


def says(stage: str, name: str) -> str:
    """What a rule of a stage says; empty where nothing is known of it, as of one that an earlier version had."""
    found = (among[stage][rule] for among in (REJECTS, CUTS) if (rule := rule_of(stage, name, among)))
    return next(found, "")
