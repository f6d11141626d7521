"""Tests how values are written for people."""

from pathlib import Path

import pytest

from krona_tune.study.formatting import format_answer, format_money, plain


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0.00"), (0.00421, "0.0042"), (0.5, "0.50"), (2.1, "2.10"), (12345.678, "12,345.68")]
)
def test_money_has_two_decimals_or_two_digits(value: float, text: str) -> None:
    assert format_money(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(3.14159, "3.1416"), (0.0, "0.0000"), (0.0312345678, "0.0312346"), (-1.2255e-07, "-1.2255e-07")]
)
def test_a_predicted_number_keeps_its_digits_where_it_is_small(value: float, text: str) -> None:
    assert format_answer(value) == text


def test_what_json_lacks_is_null_or_a_text() -> None:
    assert plain({"a": (1, float("nan")), 2: [float("inf"), None, Path("x")]}) == {
        "a": [1, None],
        "2": [None, None, "x"],
    }
