from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.units import count, decimal, duration, percent, plural, printable, shorten, size


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (999, "999"), (9_999, "9,999"), (12_345, "12.3 k"), (983_040, "983 k"), (999_960, "1.0 M"),
     (4_900_000, "4.9 M"), (123e12, "123 T"), (math.inf, "?")],
)  # fmt: skip
def test_count(value: float, text: str) -> None:
    assert count(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 B"), (812, "812 B"), (999.6, "1.0 kB"), (3_200_000, "3.2 MB"), (196e8, "19.6 GB")],
)
def test_size(value: float, text: str) -> None:
    assert size(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (0.44, "0.4 s"), (9.96, "10 s"), (59.6, "1 m 00 s"), (72, "1 m 12 s"), (7_500, "2 h 05 m"),
     (273_600, "3 d 04 h"), (math.nan, "?"), (-1, "0.0 s")],
)  # fmt: skip
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("share", "text"), [(0, "0 %"), (0.003, "0.3 %"), (0.475, "48 %"), (0.995, "99.5 %"), (1, "100 %")]
)
def test_percent_is_never_rounded_to_all_or_nothing(share: float, text: str) -> None:
    assert percent(share) == text


@pytest.mark.parametrize(("value", "text"), [(3.4178, "3.42"), (0.00042, "0.00042"), (0, "0"), (12_345, "12.3 k")])
def test_decimal(value: float, text: str) -> None:
    assert decimal(value) == text


def test_plural() -> None:
    assert plural(1, "document") == "1 document"
    assert plural(12_345, "document") == "12.3 k documents"


def test_printable_keeps_text_and_takes_what_steers_a_terminal() -> None:
    assert printable("naïve 漢字 🙂\n\tend") == "naïve 漢字 🙂\n\tend"
    assert printable("\x1b[31m\u202e\ud800\x00\r\x9b") == "�[31m�����"


@given(st.text(alphabet=st.characters(), max_size=60), st.integers(min_value=1, max_value=20))
def test_shorten_is_one_encodable_line(text: str, length: int) -> None:
    line = shorten(text, length)
    assert len(line) <= length
    assert "\x1b" not in line
    assert len(line.splitlines()) <= 1
    line.encode("utf-8")
