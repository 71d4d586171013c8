"""Nothing costs more than itself: twice the input, at most two and a half times the work, for every reader and rule."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.sources.stream import Limits
from tests.pipeline.hostile import LITTLE, MOST, RULES, TEXTS, cpu_seconds, growth, random_texts, text_of
from tests.pipeline.hostile_files import LIMITS, READERS

SIZE = 6_000
"""Characters of the smaller text: the square of four times as many takes seconds."""
SCALES = (1, 2, 4)
"""Times the usual size, for a verdict: what is not linear is so at each of them. A cache, or what the allocator gives
back after each piece, is outgrown once and costs several times as much from there on; a busy machine is wrong once."""
SEED, SHAPES = 13, 25


def _is_linear(measure: Callable[[int], tuple[float, float]], most_seconds: float = 0.0) -> tuple[bool, str]:
    """Whether what `measure` tells at each scale is, and otherwise what it took."""
    said = ""
    for scale in SCALES:
        seconds, factor = measure(scale)
        if seconds <= max(LITTLE, most_seconds) or factor <= MOST:
            return True, ""
        said = f"{seconds:.2f} s, {factor:.1f} times as much as for a fourth of it"
    return False, said


@pytest.mark.parametrize("rule", RULES)
def test_rules_grow_with_the_text(rule: str) -> None:
    work = RULES[rule]
    work("The harbour of the old town lies open to the west. " * 40)  # what is loaded once

    def ready(shape: tuple[str, str, str]) -> Callable[[int], Callable[[], object]]:
        def of(size: int) -> Callable[[], object]:
            text = text_of(shape, size)
            return lambda: work(text)

        return of

    failed = {}
    for name, shape in [*TEXTS.items(), *random_texts(SEED, SHAPES)]:
        linear, said = _is_linear(lambda scale, shape=shape: growth(ready(shape), scale * SIZE, 1))  # type: ignore[misc]
        if not linear:
            failed[name] = said
    assert not failed


@pytest.mark.parametrize("kind", READERS)
def test_readers_grow_with_the_file(kind: str, tmp_path: Path) -> None:
    reader = READERS[kind]
    limits = Limits(LIMITS.bytes, 0.3)

    def of(size: int) -> Callable[[], object]:
        path = tmp_path / str(size)
        path.write_bytes(reader.make(size))
        return lambda: reader.read(path, limits)

    bound = 4 * limits.seconds if reader.guarded else 0.0
    linear, said = _is_linear(lambda scale: growth(of, scale * reader.size // 2, 1), bound)
    assert linear, said


def test_the_measure_tells_a_square() -> None:
    def square(size: int) -> Callable[[], object]:
        return lambda: [sum(range(size)) for _ in range(size)]

    assert not _is_linear(lambda scale: growth(square, 700 * scale))[0]


def test_a_book_with_a_row_of_spaces_is_read_at_once() -> None:
    from pipeline.sources.book import chapters
    from pipeline.sources.gutenberg import books
    from pipeline.sources.stream import tidy

    text = f"*** START OF THE PROJECT GUTENBERG A ***\n{' ' * 1_000_000}a\n*** END OF THE PROJECT GUTENBERG"
    begin = cpu_seconds()
    assert [body.strip() for _, body in chapters(tidy(books(text)[0].text), 1)] == ["a"]
    assert cpu_seconds() - begin < 5
