"""Recipe section of the stage `dedup`, and what each profile folds. Light on purpose, as `pipeline.sections` is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field

from infra.section import Added, Section
from pipeline.sections import LossLimits, Profile

__all__ = ["FOLDINGS", "DedupConfig", "Folding"]


class Folding(Section):
    """What two texts may differ in and still be copies. A key that is left out, or null, is as the profile has it."""

    case: bool | None = None
    """Upper and lower case."""
    punctuation: bool | None = None
    """Marks that structure a sentence."""
    operators: bool | None = None
    """Symbols that a sum or a formula turns on: + = < > * / ^ % and a minus sign before a number."""
    numbers: bool | None = None
    """All numbers (FineWeb, whose crawled pages have counters and dates)."""
    diacritics: bool | None = None
    """Accents and vowel points."""
    width: bool | None = None
    """Soft hyphens and other characters without a width, full-width forms and ligatures (Unicode's NFKC)."""
    space: bool | None = None
    """White space, line breaks and indentation."""
    literal_words: int | None = Field(None, ge=0)
    """Texts of fewer words are near copies only where they agree in all numbers and operators as well: problems and
    functions of a few lines differ in little else."""

    def over(self, below: Folding) -> Folding:
        """This where it says something, else `below`."""
        said = {name: value for name in type(self).model_fields if (value := getattr(self, name)) is not None}
        return below.model_copy(update=said)


_TEXT = Folding(
    **{"case": True, "punctuation": True, "operators": False, "numbers": False, "diacritics": True},
    **{"width": True, "space": True, "literal_words": 50},
)
_MATHS = Folding(
    **{"case": False, "punctuation": False, "operators": False, "numbers": False, "diacritics": False},
    **{"width": False, "space": True, "literal_words": 200},
)
FOLDINGS: Mapping[Profile, Folding] = {
    **dict.fromkeys((Profile.WEB, Profile.PROSE, Profile.REFERENCE, Profile.DIALOGUE), _TEXT),
    Profile.MATHS: _MATHS,
    Profile.CODE: Folding(space=False).over(_MATHS),
}
"""Pages, books and articles fold alike, so that copies are found across them."""


class DedupConfig(LossLimits):
    """Which documents are copies of others."""

    OF_MANY: ClassVar[float] = 0.9
    max_loss: Annotated[float | None, Added] = Field(None, ge=0, le=1)
    """Most share of a source's characters that may be lost. When left out, 0.9 of a source of 1,000 documents or more:
    copies are no fault of a source, but one that is nothing else deserves a look."""
    precedence: tuple[str, ...] = ()
    """Names of sources: of two copies, the one whose source comes first here stays; unnamed sources come after."""
    precedence_by_profile: tuple[Profile, ...] = (
        *(Profile.REFERENCE, Profile.PROSE, Profile.MATHS, Profile.CODE, Profile.DIALOGUE, Profile.WEB),
    )
    """The same for what `precedence` does not name, by what the text is; profiles left out come last."""
    exact: bool = True
    """Remove documents of the very same characters."""
    folded: bool = True
    """Remove documents that are the same once what their profile folds is set aside."""
    minhash: bool = True
    """Remove near copies by MinHash-LSH."""
    foldings: dict[Profile, Folding] = Field(default_factory=dict)
    """Laid over what single profiles fold; docs/corpus.md has the table that they start from."""
    n_grams: int = Field(5, ge=1)
    """Words in a shingle (FineWeb)."""
    buckets: int = Field(14, ge=1)
    """Bands of the signature (FineWeb); with 8 hashes each, copies of similarity 0.75 are found with 77 %."""
    hashes_per_bucket: int = Field(8, ge=1)
    """Hashes in a band (FineWeb)."""
    seed: int = 1
    """Seed of the hash permutations."""
    sentences: bool = False
    """Remove repeated spans of sentences as well, all but one of each (C4, arXiv 1910.10683, section 2.2)."""
    sentence_profiles: tuple[Profile, ...] = (Profile.WEB, Profile.PROSE, Profile.REFERENCE, Profile.DIALOGUE)
    """Profiles that spans are removed from: what is left of code or of a worked solution is neither. Documents with
    preformatted text in them keep theirs."""
    sentence_span: int = Field(3, ge=1)
    """Sentences in a span (C4)."""
    sentence_min_words: int = Field(50, ge=0)
    """Least words that must be left of a document that lost sentences (Gopher's least document)."""

    def folding_of(self, profile: Profile) -> Folding:
        """What texts of this profile may differ in."""
        given = self.foldings.get(profile)
        return given.over(FOLDINGS[profile]) if given else FOLDINGS[profile]
