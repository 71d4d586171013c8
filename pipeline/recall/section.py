"""Recipe section of the stage `recall`. Light on purpose, as `pipeline.sections` is."""

from __future__ import annotations

from pydantic import Field, model_validator

from infra.section import ExternalPaths, Section
from pipeline.sections import SourceName

__all__ = ["ClassifierOptions", "Domain", "RecallConfig"]


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
