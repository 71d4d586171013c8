"""Recipe sections of the corpus stages. Light on purpose: the command line loads them to plan."""

from __future__ import annotations

import encodings
from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from infra.section import Added, ExternalPaths, ForPeople, Section

__all__ = [
    "BookSource",
    "CodeSource",
    "ConversationsConfig",
    "DatasetSource",
    "DecontaminateConfig",
    "ExtractConfig",
    "JsonlSource",
    "LossLimits",
    "OnDamaged",
    "Origin",
    "ParquetSource",
    "Profile",
    "ReasoningConfig",
    "ReasoningTask",
    "ShardsConfig",
    "Source",
    "Stated",
    "SubtitlesSource",
    "TokenizerConfig",
    "WebSource",
    "WikiSource",
]


class LossLimits(Section):
    """How much of a source a stage may lose before it stops."""

    MANY: ClassVar[int] = 1000
    """Documents from which on a source has a limit though none is set."""
    OF_MANY: ClassVar[float] = 0.5
    """That limit."""
    max_loss: Annotated[float | None, Added] = Field(0.5, ge=0, le=1)
    """Most share of a source's characters that may be lost; more stops the stage, which says by which rule."""
    max_loss_by_source: Annotated[dict[str, Annotated[float, Field(ge=0, le=1)]], Added] = Field({})
    """The same for single sources, where it differs."""

    def of(self, source: str, documents: int) -> float:
        """The limit of a source that has so many documents."""
        limit = self.max_loss_by_source.get(source, self.max_loss)
        if limit is None:
            return self.OF_MANY if documents >= self.MANY else 1.0
        return limit


class OnDamaged(StrEnum):
    """What to do about a file that breaks off or cannot be read on."""

    STOP = "stop"
    """Fail with one line that names the file and the place."""
    SKIP = "skip"
    """Keep what was read before the damage, and count the file among the rejects."""


class Profile(StrEnum):
    """What a text is: it decides which rules may touch it and what is a copy of it. A source's name decides nothing."""

    WEB = "web"
    """Crawled pages, of which much is no text: every rule."""
    PROSE = "prose"
    """Books and articles: rules about words and repetition, none about lines."""
    REFERENCE = "reference"
    """Encyclopaedias, manuals and documentation, with lists and tables."""
    DIALOGUE = "dialogue"
    """Questions, answers and conversations, however short."""
    MATHS = "maths"
    """Formulas and worked solutions: nothing is cut, and every number counts."""
    CODE = "code"
    """Source code: byte for byte, or not at all."""


class Origin(StrEnum):
    """How a text was come by, in the words of the European Commission's template for summaries of training content."""

    NOT_STATED = ""
    """Nobody has said."""
    PUBLIC = "public"
    """A data set that anyone may get (2.1)."""
    LICENSED = "licensed"
    """Licensed from its rightsholders for money or otherwise (2.2.1)."""
    PRIVATE = "private"
    """Had from others, and not public (2.2.2)."""
    CRAWLED = "crawled"
    """Crawled by the provider or on its behalf (2.3)."""
    USERS = "users"
    """What users of the provider's services wrote (2.4)."""
    SYNTHETIC = "synthetic"
    """Made by a program or a model (2.5)."""
    OTHER = "other"
    """None of these (2.6)."""


class Stated(Section):
    """What people say of a text. It changes nothing of what is made of it, and `deepmill disclose` tells it."""

    licence: Annotated[str, ForPeople] = ""
    """Of the texts, as SPDX writes it (CC-BY-SA-4.0), or in words."""
    origin: Annotated[Origin, ForPeople] = Origin.NOT_STATED
    """How the texts were come by: public, licensed, private, crawled, users, synthetic or other."""
    link: Annotated[str, ForPeople] = ""
    """Where they can be had, or who owns them."""


class WebSource(Stated):
    """Crawled pages: WARC files (responses) or WET files (text), plain or compressed (gzip, Zstandard)."""

    kind: Literal["web"] = "web"
    profile: Annotated[Profile, Added] = Profile.WEB
    """What the text is, for the rules of later stages."""
    paths: ExternalPaths = Field(min_length=1)
    """Files, folders, globs or addresses."""
    statuses: tuple[int, ...] = (200,)
    """HTTP statuses accepted, from the HTTP headers themselves."""
    types: tuple[str, ...] = ("text/html", "application/xhtml+xml", "text/plain")
    """Media types accepted, from the HTTP headers themselves."""
    main_content: bool = True
    """Leave out navigation, banners, footers and comments (a classifier of blocks, `pipeline/html`; where next to
    nothing would be left, its line is drawn lower); false keeps all visible text."""
    min_characters: int = Field(200, ge=1)
    """Least characters of text; shorter pages are rejected."""


class WikiSource(Stated):
    """MediaWiki XML dumps, plain, gzip or bzip2."""

    kind: Literal["wiki"] = "wiki"
    profile: Annotated[Profile, Added] = Profile.REFERENCE
    """What the text is, for the rules of later stages."""
    paths: ExternalPaths = Field(min_length=1)
    """Files, folders, globs or addresses."""
    namespaces: tuple[int, ...] = (0,)
    """Namespaces kept; 0 holds the articles."""
    drop_redirects: bool = True
    """Reject pages that only point to others."""
    drop_sections: tuple[str, ...] | None = None
    """Sections left out with all below them: lists of links, not prose. None means those of the wiki's language
    (References, See also, ...), an empty list keeps all."""
    variant: Annotated[str, Added] = ""
    """Of a wiki written in several scripts or regions, the one whose words are taken (zh-tw, sr-el); empty for its
    plain form."""
    tables: Annotated[bool, Added] = False
    """Keep the cells of tables, a line per row."""
    min_characters: int = Field(200, ge=1)
    """Least characters of an article; shorter ones are rejected."""


class BookSource(Stated):
    """Books as plain text, HTML, Markdown or RTF, plain or compressed, or as EPUB; Project Gutenberg's header and
    licence are taken off."""

    kind: Literal["book"] = "book"
    profile: Annotated[Profile, Added] = Profile.PROSE
    """What the text is, for the rules of later stages."""
    paths: ExternalPaths = Field(min_length=1)
    """Files, folders, globs or addresses."""
    encoding: str = "auto"
    """Character encoding of text files; auto takes a byte order mark, UTF-8, a Gutenberg header, or finds it out."""
    split_chapters: bool = True
    """A document per chapter; false cuts by length alone."""
    ruby_readings: Annotated[bool, Added] = False
    """Keep the readings beside the characters of an EPUB (ruby), in brackets; else the characters alone stay."""
    max_characters: int = Field(20_000, ge=1000)
    """Most characters of a document; longer chapters are cut between paragraphs."""
    min_characters: int = Field(200, ge=1)
    """Shorter pieces (a title, a line of contents) join the piece after them; a shorter book is rejected."""

    @field_validator("encoding")
    @classmethod
    def _is_known(cls, value: str) -> str:
        if value == "auto":
            return value
        try:
            known = encodings.search_function(value.lower()) is not None  # not codecs.lookup: packages add to it
            b"ab".decode(value, "replace")  # refuses hex, zlib and the like
        except LookupError:
            known = False
        if not known:
            raise ValueError(f"{value} is no character encoding; utf-8, latin-1 and cp1252 are usual")
        return value


class CodeSource(Stated):
    """Source code: files of programming languages, also within tar and zip archives (wheels, source distributions)."""

    kind: Literal["code"] = "code"
    profile: Annotated[Profile, Added] = Profile.CODE
    """What the text is, for the rules of later stages."""
    paths: ExternalPaths = Field(min_length=1)
    """Files, folders, archives, globs or addresses."""
    languages: tuple[str, ...] = ()
    """Languages kept, by the names in pipeline/sources/languages.py; none means all of them."""
    skip: tuple[str, ...] = (
        *("node_modules", "vendor", "third_party", "site-packages", "dist", "build", "__pycache__", "target"),
        *("*.min.js", "*.min.css", "*_pb2.py", "*.lock"),
    )
    """Names of folders and files that hold other people's or machines' code; shell patterns."""
    max_line: int = Field(1000, ge=1)
    """Most characters of a line (DeepSeek-Coder, arXiv 2401.14196, section 2.1, after StarCoder)."""
    max_mean_line: float = Field(100, gt=0)
    """Most characters of the average line (DeepSeek-Coder)."""
    min_letters: float = Field(0.25, ge=0, le=1)
    """Least share of letters among the characters (DeepSeek-Coder)."""
    data_characters: tuple[int, int] = (50, 5000)
    """Least and most characters of JSON and YAML files, most of which are data (DeepSeek-Coder)."""
    min_characters: int = Field(50, ge=1)
    """Least characters of a file; shorter ones are rejected."""


class JsonlSource(Stated):
    """JSON objects, one per line, in arrays or over several lines; plain or compressed."""

    kind: Literal["jsonl"] = "jsonl"
    profile: Annotated[Profile, Added] = Profile.PROSE
    """What the text is, for the rules of later stages."""
    paths: ExternalPaths = Field(min_length=1)
    """Files, folders, globs or addresses."""
    text_field: str = "text"
    """Key that holds the text."""
    url_field: str = "url"
    """Key that holds the address, where there is one."""
    metadata_fields: tuple[str, ...] = ("id", "title")
    """Keys kept as metadata, where there are any."""
    min_characters: int = Field(1, ge=1)
    """Least characters of text; shorter records are rejected."""


class ParquetSource(Stated):
    """One document per row."""

    kind: Literal["parquet"] = "parquet"
    profile: Annotated[Profile, Added] = Profile.PROSE
    """What the text is, for the rules of later stages."""
    paths: ExternalPaths = Field(min_length=1)
    """Files, folders, globs or addresses."""
    text_field: str = "text"
    """Column that holds the text."""
    url_field: str = "url"
    """Column that holds the address, where there is one."""
    metadata_fields: tuple[str, ...] = ("id", "title")
    """Columns kept as metadata, where there are any."""
    min_characters: int = Field(1, ge=1)
    """Least characters of text; shorter rows are rejected."""


class SubtitlesSource(Stated):
    """Subtitles and captions (SubRip, WebVTT and others), plain or compressed: what is said, a document per file."""

    kind: Literal["subtitles"] = "subtitles"
    profile: Annotated[Profile, Added] = Profile.DIALOGUE
    """What the text is, for the rules of later stages."""
    paths: ExternalPaths = Field(min_length=1)
    """Files, folders, globs or addresses."""
    sounds: bool = False
    """Keep descriptions of sounds ([door closes], ♪) and other remarks in brackets."""
    pause: float = Field(4.0, gt=0)
    """Seconds of silence that begin a paragraph."""
    min_characters: int = Field(200, ge=1)
    """Least characters of text; shorter files are rejected."""


class DatasetSource(Stated):
    """A data set in a folder as the Hugging Face Hub keeps them: Parquet, Arrow, JSON lines or CSV files by split."""

    kind: Literal["dataset"] = "dataset"
    profile: Annotated[Profile, Added] = Profile.PROSE
    """What the text is, for the rules of later stages."""
    paths: ExternalPaths = Field(min_length=1)
    """Folders of data sets, or addresses of such."""
    config: str = ""
    """Configuration that the README's `configs` name; the default one when left out."""
    split: str = "train"
    """Split to read."""
    text_field: str = "text"
    """Column that holds the text."""
    url_field: str = "url"
    """Column that holds the address, where there is one."""
    metadata_fields: tuple[str, ...] = ("id", "title")
    """Columns kept as metadata, where there are any."""
    min_characters: int = Field(1, ge=1)
    """Least characters of text; shorter rows are rejected."""


Source = Annotated[
    WebSource | WikiSource | BookSource | CodeSource | JsonlSource | ParquetSource | SubtitlesSource | DatasetSource,
    Field(discriminator="kind"),
]
"""Where documents come from; `kind` says what the files are."""
SourceName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class ExtractConfig(LossLimits):
    """Which raw files are read, and how. A loss here is text that was rejected; markup is none."""

    sources: dict[SourceName, Source] = Field(default_factory=dict)
    """Sources by name: the name is the documents' `source`, by which later stages choose rules and mixture weights."""
    on_damaged: OnDamaged = OnDamaged.STOP
    """What to do once more than `max_failure_rate` of a source's files are truncated or malformed."""
    max_failure_rate: float = Field(0.01, ge=0, le=1)
    """Share of a source's records, and of its files, that may be unreadable before the stage gives up."""
    max_record_bytes: int = Field(16_000_000, ge=1000)
    """Larger records (decoded pages, articles, lines, rows, books) are rejected."""
    max_record_seconds: float = Field(30.0, gt=0)
    """Processor time to turn one record into text; an extractor that takes longer is ended, the record rejected."""
    max_download_bytes: Annotated[int, Added] = Field(100_000_000_000, ge=1000)
    """Most bytes of a file behind http or https; of one whose size the server does not tell, no more are read."""
    split_bytes: int = Field(128_000_000, ge=1000)
    """Larger files are read in parts of about this size, each a task of its own."""
    removed: Annotated[ExternalPaths, Added] = ()
    """Files of requests for removal beside those that `deepmill remove` keeps in the store, which are always heeded."""
    removed_overlap: Annotated[float, Added] = Field(0.6, gt=0, le=1)
    """Share of its runs of five words by which a document is a copy of a removed one: of the removed text's that stand
    in it, or of its own that stand in the removed text."""


class ReasoningTask(Section):
    """One kind of generated task."""

    name: str
    """Data set of reasoning-gym; with working: basic_arithmetic, chain_sum, gcd, products and spell_backward."""
    weight: float = Field(1.0, gt=0)
    """Share of the tasks, relative to the other kinds."""
    options: dict[str, bool | int | float | str | tuple[str, ...]] = Field(default_factory=dict)
    """Options of the data set: how hard its questions are."""
    known_sums: Annotated[int, Added] = Field(20, ge=9, le=20)
    """Sums and differences of a number up to this and one up to ten are written at once in the working, others a digit
    at a time: 9 leaves a hundred to learn by heart, 20 is shorter. Below 20 a carry is added in a step of its own."""
    remaining: Annotated[bool, Added] = False
    """Every line of a sum also has the numbers still to come (``35+84 +71: …``), and 0 where a digit is missing."""


class ReasoningConfig(Stated):
    """Which verifiable reasoning tasks are generated."""

    tasks: tuple[ReasoningTask, ...] = (
        ReasoningTask(name="chain_sum", weight=4, options={"max_terms": 4, "max_digits": 3}),
        ReasoningTask(name="products", weight=2, options={"min_digits": 2, "max_digits": 3}),
        ReasoningTask(name="gcd", weight=2),
        ReasoningTask(name="spell_backward", weight=1),
    )
    """Kinds of tasks; none when `files` alone are wanted."""
    train: int = Field(50_000, ge=1)
    """Generated tasks to learn from; what `files` hold beside held-out problems comes on top."""
    validation: int = Field(500, ge=1)
    """Problems that training is watched with, of tasks and files by their number."""
    test: int = Field(1_000, ge=1)
    """Problems for the evaluation alone, likewise."""
    files: ExternalPaths = ()
    """Own tasks: JSON, Parquet, Arrow or CSV files of rows with question, answer and, if known, reasoning, or in the
    forms of GSM8K and MATH (see docs/domain.md); what is not held out is learned from."""
    exclude: Annotated[ExternalPaths, Added] = ()
    """Such files whose questions are in no split, such as those of `evaluate.suites`."""
    program_share: float = Field(0.0, ge=0, le=1)
    """Share of the training tasks solved by a program that prints the answer (program of thought, DeepSeekMath 3.1),
    where a writer of such programs knows the task."""
    direct_share: float = Field(0.0, ge=0, le=1)
    """Share of the training tasks answered at once, without reasoning: as where answers are plenty and worked
    solutions are dear."""
    direct_copies: Annotated[float, Added] = Field(0.0, ge=0)
    """Training tasks answered at once besides those that are worked out, as a multiple of these: 1.5 is one copy of
    each and a second of one half. Other than with `direct_share` no working is lost to it."""
    max_failures: float = Field(0.01, ge=0, le=1)
    """Share of unusable rows in `files` above which the stage gives up."""
    seed: int = 0
    """Of the tasks and their order."""


class ConversationsConfig(Stated):
    """Conversations of several turns that fine-tuning learns from besides (`sft.replay.conversations`)."""

    files: ExternalPaths = Field(min_length=1)
    """JSON, Parquet, Arrow or CSV files of rows with `messages` of role and content, as in OpenAI's API, or with texts:
    `instruction`, `input`, `output` (Alpaca), `prompt`, `completion` (docs/domain.md)."""
    validation: int = Field(32, ge=0)
    """Conversations held out, on which the loss is measured."""
    max_failures: float = Field(0.01, ge=0, le=1)
    """Share of unusable rows above which the stage gives up."""
    seed: int = 0
    """Of what is held out, and of the order."""


class DecontaminateConfig(LossLimits):
    """How overlap with the evaluation sets is found."""

    max_loss: Annotated[float | None, Added] = Field(None, ge=0, le=1)
    """Most share of a source's characters that may be lost; left out, 0.5 of a source of 1,000 documents or more."""
    n_gram: int = Field(10, ge=2)
    """A document sharing this many consecutive words with an evaluation text is removed (DeepSeekMath)."""
    min_n_gram: int = Field(3, ge=1)
    """Evaluation texts shorter than `n_gram` but of at least this many words must occur whole (DeepSeekMath)."""
    evaluation_sets: ExternalPaths = ()
    """Further sets: JSON lines or arrays, Parquet, Arrow or CSV files, folders or globs, with one of `fields`; of a
    folder with files by split those of `train` are left out."""
    fields: tuple[str, ...] = ("question", "problem", "prompt", "text")
    """Keys of a row that hold the evaluation text, as text, list of texts or messages; the first present is taken."""


class TokenizerConfig(Section):
    """How text becomes tokens."""

    vocabulary: int = Field(102_400, ge=266)
    """Tokens, special ones included (DeepSeek-LLM: 100,015, padded to 102,400)."""
    train_bytes: int = Field(24_000_000_000, ge=1)
    """Most bytes of documents that training reads, shared evenly by the sources (DeepSeek-LLM: about 24 GB)."""
    min_frequency: int = Field(2, ge=1)
    """Least occurrences of a pair that becomes a token."""
    fill_in_middle: bool = False
    """Add the three control tokens of filling in the middle (DeepSeek-Coder, arXiv 2401.14196)."""
    adopt: ExternalPaths = ()
    """An existing tokenizer to use instead of training one: a Hugging Face folder, or a GGUF file. It keeps its chat
    template and special tokens; the marks of the reasoning are added behind its own."""
    template: Annotated[Literal["adopted", "own"], Added] = "adopted"
    """The chat template of an adopted tokenizer: its own where it has one, or (`own`) Deepmill's, whose control tokens
    are added too."""
    llama_cpp: Annotated[bool, Added] = True
    """Refuse an adopted tokenizer that cuts text in a way which llama.cpp has no name for, and set the blanks of one of
    SentencePiece's kind where llama.cpp does; false leaves it as it is, and GGUF files out."""


class ShardsConfig(LossLimits):
    """How tokens are packed into Parquet rows."""

    sequence_length: int = Field(4096, ge=8)
    """Tokens in a row (DeepSeek-LLM, DeepSeekMoE: 4 K)."""
    validation_fraction: float = Field(0.005, ge=0, lt=1)
    """Share of documents held out, chosen by a hash of their text."""
    rows_per_file: int = Field(65_536, ge=1)
    """Most rows of a Parquet file."""
    seed: int = 1
    """Seed of the order of documents, of the held-out choice and of the cuts for filling in."""
    mixed_within: Annotated[Literal["source", "file"], Added] = "source"
    """What documents are mixed within before rows are cut: all of a source, or each file of documents, in the order of
    the raw files. By file, a corpus that grows by files behind the others gets rows behind the others (reading mixes
    rows either way)."""
    fim_rate: float = Field(0.0, ge=0, le=1)
    """Share of the documents of `fim_sources` turned into prefix, suffix, middle (DeepSeek-Coder: 0.5); needs
    `tokenizer.fill_in_middle`."""
    fim_sources: tuple[str, ...] = ("code",)
    """Sources whose documents may be turned."""
