"""Presets give their sources the profile that fits: nothing of a maths, code or manual text is cut."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.recipe.recipe import load_recipe, preset_names
from pipeline.clean.stage import Rules
from pipeline.sections import Profile
from pipeline.tasks.documents import Document

SENTENCES = (
    "The parser reads the words of the line and returns what it has found to the one who asked for it.\n"
    "There are many ways in which this can be done, and most of them are slower than they have to be.\n"
    "That is why the loop below looks at each of the numbers once and at none of them a second time.\n"
    "With a list of the values in hand, the rest of the work is to be had for the price of one more call.\n"
)
LINES = "(x-3)(x-7)=0.\nx=3\nAnswer: 7\ndef f(a):\n    if a:\n        return a\n    else:\n        return {}\n"


@pytest.mark.parametrize("name", [name for name in preset_names() if load_recipe(name).extract.sources])
def test_no_line_of_a_presets_text_is_cut(name: str) -> None:
    recipe = load_recipe(name)
    rules = Rules(recipe.clean, Path("unused"))
    for source, options in recipe.extract.sources.items():
        if options.profile is Profile.WEB:
            continue
        text = SENTENCES + LINES
        metadata = {"source": source, "url": "", "profile": options.profile.value}
        document = Document(text=text, id="", metadata=metadata)
        assert rules.judge(document) == (None if "en" in recipe.clean.languages else "language/other")
        assert document.text == text


@pytest.mark.parametrize("source", ["maths", "algebraic_stack", "arxiv", "code"])
@pytest.mark.parametrize("profile", Profile)
def test_deepseekmaths_parts_come_through_whatever_they_are_said_to_be(source: str, profile: Profile) -> None:
    rules = Rules(load_recipe("deepseekmath-7b").clean, Path("unused"))
    align, theorem = "\\begin{align} a &= b \\\\ c &= d \\end{align}", "theorem t : 1 + 1 = 2 := rfl"
    for text in (LINES, "What is 3 + 4?", align, theorem):
        document = Document(text=text, id="", metadata={"source": source, "url": "", "profile": profile.value})
        assert rules.judge(document) is None
        assert document.text == text
