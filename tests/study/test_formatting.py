"""Tests how values are written for people."""

import pytest

from krona_tune.study.formatting import format_money


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0.00"), (0.00421, "0.0042"), (0.5, "0.50"), (2.1, "2.10"), (12345.678, "12,345.68")]
)
def test_money_has_two_decimals_or_two_digits(value: float, text: str) -> None:
    assert format_money(value) == text
