"""The judge: the same examples give the same model, in every process, and a page is one line to it."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from infra.errors import UserError
from pipeline.recall.classifier import Judge, line_of, train
from pipeline.recall.section import ClassifierOptions

OPTIONS = ClassifierOptions(dim=8, epochs=10, buckets=1000, min_count=1)
EXAMPLES = [("prime number theorem", True), ("goal of the match", False)] * 20


def test_a_page_is_one_line() -> None:
    assert line_of("Let x = 12.5\n\n__label__in Théorème 3", 100) == "let x = 0.0 label in théorème 0".replace(
        "label in", line_of("__label__in", 100)
    )
    assert "\n" not in line_of("a\r\n\x85b\u2028c\x0bd", 100)
    assert "__label__" not in line_of("__label__out", 100)
    assert line_of("abcdef", 3) == "abc"


def test_the_same_examples_give_the_same_bytes(tmp_path: Path) -> None:
    train(EXAMPLES, OPTIONS, tmp_path, tmp_path / "model.bin")
    code = (
        "import sys; from pathlib import Path; from tests.pipeline.recall.test_classifier import *\n"
        "folder = Path(sys.argv[1]); train(EXAMPLES, OPTIONS, folder, folder / 'other.bin')"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, cwd=Path(__file__).parents[3], timeout=200)
    digests = {hashlib.sha256((tmp_path / f"{name}.bin").read_bytes()).hexdigest() for name in ("model", "other")}
    assert len(digests) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.bin", "other.bin"]


def test_scores_are_probabilities_that_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    train(EXAMPLES, OPTIONS, tmp_path, tmp_path / "model.bin")
    judge = Judge(tmp_path / "model.bin")
    lines = ["prime theorem", "match goal", "", "unheard of"]
    together = judge.scores(lines)
    assert together[0] > 0.5 > together[1]
    assert ((together >= 0) & (together <= 1)).all()
    assert together.tolist() == [judge.scores([line])[0] for line in lines]
    assert judge.scores([]).shape == (0,)


def test_examples_without_a_frequent_word_are_told(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"no word of the examples is frequent enough; lower recall\.classifier\.min_count"
    ):
        train(EXAMPLES[:2], OPTIONS.model_copy(update={"min_count": 50}), tmp_path, tmp_path / "m.bin")
