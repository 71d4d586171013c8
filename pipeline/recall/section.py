"""Recipe sections of the stages `recall` and `quality`. Light on purpose, as `pipeline.sections` is."""

from __future__ import annotations

from pydantic import Field, field_validator, model_validator

from infra.section import ExternalPaths, Section
from pipeline.sections import SourceName

__all__ = ["ClassifierOptions", "Domain", "QualityConfig", "RecallConfig"]


class ClassifierOptions(Section):
    """fastText's options, with DeepSeekMath's values (arXiv 2402.03300, section 2.1)."""

    dim: int = Field(256, ge=1)
    """Size of a word's vector (DeepSeekMath)."""
    learning_rate: float = Field(0.1, gt=0)
    """At the start; it falls to nothing (DeepSeekMath)."""
    word_n_grams: int = Field(3, ge=1)
    """Most words of an n-gram that has a vector (DeepSeekMath)."""
    min_count: int = Field(3, ge=1)
    """Least occurrences of a word (DeepSeekMath)."""
    epochs: int = Field(3, ge=1)
    """Times that training goes over the examples (DeepSeekMath); a few hundred examples want 25 or more."""
    buckets: int = Field(2_000_000, ge=1000)
    """Slots that the n-grams share (fastText); the model takes `dim` x 4 bytes for each, in every task."""
    characters: int = Field(10_000, ge=100)
    """Of a page's beginning, looked at to train and to judge."""


class Domain(Section):
    """A field whose pages are to be found, and what is known of it beforehand."""

    seeds: ExternalPaths = ()
    """JSONL files of texts of the field (key `text`), such as OpenWebMath."""
    seed_sources: tuple[str, ...] = ()
    """Sources of this corpus that are of the field as a whole."""
    urls: tuple[str, ...] = ()
    """Beginnings of addresses (``mathoverflow.net/questions``) whose pages a person has found to be of the field."""
    not_urls: tuple[str, ...] = ()
    """Beginnings of addresses that discovery must not take for the field."""

    @model_validator(mode="after")
    def _has_a_seed(self) -> Domain:
        if not self.seeds and not self.seed_sources and not self.urls:
            raise ValueError("a domain wants examples to start from: seeds, seed_sources or urls")
        return self


class RecallConfig(Section):
    """Which pages of a field are in the corpus: DeepSeekMath's loop (arXiv 2402.03300, section 2.1)."""

    domains: dict[SourceName, Domain] = Field(min_length=1)
    """Fields by name, which becomes the `source` of the pages found, so that mixture weights can favour them; a page of
    two fields goes to the one that is more sure of it."""
    candidates: tuple[str, ...] = ("web",)
    """Sources that are searched; documents of others stay as they are."""
    keep_others: bool = True
    """Keep the candidates that were not recalled, under their own source; false drops them."""
    positives: int = Field(500_000, ge=1)
    """Most examples of the field in a round (DeepSeekMath)."""
    negatives: int = Field(500_000, ge=1)
    """Most examples of anything else in a round (DeepSeekMath)."""
    negative_share: float = Field(0.2, gt=0, le=1)
    """Most share of the corpus among those: of a small corpus, `negatives` would be nearly all, and what has been an
    example of anything else is hardly ever recalled."""
    min_score: float = Field(0.5, ge=0, le=1)
    """Least probability of a recalled page."""
    max_bytes: int | None = Field(None, ge=1)
    """Of the ranked pages the first so many bytes are recalled (DeepSeekMath: 40 B tokens in the first round)."""
    max_rounds: int = Field(4, ge=1)
    """Most rounds (DeepSeekMath: 4)."""
    saturation: float = Field(0.98, gt=0, le=1)
    """Stop when this share of a round's pages was recalled the round before (DeepSeekMath: almost 98 %)."""
    host_share: float = Field(0.1, gt=0, le=1)
    """Share of a host's pages that must be recalled for it to count as one of the field (DeepSeekMath: 10 %)."""
    path_share: float = Field(0.5, gt=0, le=1)
    """Share of the pages below a path of such a host that must be recalled for the others below it to become examples;
    this stands in for DeepSeekMath's annotators, who chose such paths by hand."""
    min_pages: int = Field(10, ge=1)
    """Least pages of a host, and below a path, that say anything about it."""
    classifier: ClassifierOptions = ClassifierOptions()
    """How pages are told apart."""
    seed: int = 0
    """Of the choice of examples."""


class QualityConfig(Section):
    """Which documents are like the examples of one's own, by a classifier: as DCLM (arXiv 2406.11794, section 4.4) and
    FineWeb-Edu (arXiv 2406.17557, section 4) choose theirs."""

    positive: ExternalPaths = Field(min_length=1)
    """JSONL files of texts as they should be (key `text`): textbooks, answers, what people have rated high."""
    negative: ExternalPaths = ()
    """JSONL files of texts as they should not be; where none are given, documents of the corpus by chance (DCLM)."""
    sources: tuple[str, ...] = ()
    """Sources that are judged, each by itself; none means all."""
    keep: float = Field(1.0, gt=0, le=1)
    """Share of the documents of each source that stay, the best of them (DCLM: 0.1). Documents of one score stay or go
    together."""
    buckets: dict[SourceName, float] = Field(default_factory=dict)
    """Names for the best of a source, by the share of its documents that are no better: `{high: 0.9}` calls the best
    tenth of `web` `web.high`, a source of its own for mixture weights to favour."""
    examples: int = Field(200_000, ge=1)
    """Most examples of each kind (DCLM)."""
    classifier: ClassifierOptions = ClassifierOptions(dim=100, word_n_grams=2, min_count=1, epochs=5, buckets=500_000)
    """How texts are told apart; word pairs are DCLM's, the rest but for the number of buckets is fastText's own."""
    seed: int = 0
    """Of the choice of examples."""

    @field_validator("buckets")
    @classmethod
    def _are_shares(cls, value: dict[str, float]) -> dict[str, float]:
        if wrong := [name for name, share in value.items() if not 0 <= share < 1]:
            raise ValueError(f"{wrong[0]}: a share of documents from 0 to below 1")
        return value
