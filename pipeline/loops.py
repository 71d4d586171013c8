"""Has Numba compile all loops of the corpus, so that no process of a run does: set-up calls `prepare`.

Without it the first processes to need a loop each compile it, several at once.
"""

from __future__ import annotations

from pathlib import Path

from datatrove.pipeline.dedup.minhash import MinhashConfig

from pipeline.clean.lines import FastC4Quality
from pipeline.clean.repetition import duplicate_characters, top_characters
from pipeline.clean.survey import survey
from pipeline.dedup.minhash import FastMinhashSignature
from pipeline.dedup.shingles import folded_words
from pipeline.sources import html
from pipeline.text.folding import FINEWEB, Fold
from pipeline.text.words import WORDS
from pipeline.tokens.pretokenise import PieceTable

__all__ = ["prepare"]

TEXT = "Wheat is ground between two stones, and the flour falls out at the rim."


def prepare() -> None:
    """Put some text through each loop with the types that a run gives it: half a minute once on a machine."""
    html.prepare()
    FastC4Quality().examine(TEXT)
    found = survey(TEXT)
    top_characters(found, (2,))
    duplicate_characters(found, (2,))
    WORDS.word_tokenize(TEXT)
    folded_words(TEXT, Fold())
    FastMinhashSignature(Path(), MinhashConfig()).signature(folded_words(TEXT, FINEWEB))
    PieceTable(lambda pieces: [[0] for _ in pieces]).encode(TEXT)
