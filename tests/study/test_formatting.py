"""Tests how values are written for people."""

from pathlib import Path

import pytest

from krona_tune.study.finals import Spread
from krona_tune.study.formatting import (
    format_answer,
    format_epochs,
    format_gain,
    format_many,
    format_money,
    format_score,
    format_spread,
    plain,
)


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


@pytest.mark.parametrize(
    ("value", "text", "gain"),
    [
        (0.5, "0.500", "+0.500"),
        (-0.0504, "-0.050", "−0.050"),
        (0.0, "0.000", "+0.000"),
        (-0.000421, "-0.00042", "−0.00042"),
        (1.3e-05, "1.3e-05", "+1.3e-05"),
        (float("nan"), "–", "–"),
        (None, "–", "–"),
    ],
)
def test_a_loss_in_small_units_is_seen(value: float | None, text: str, gain: str) -> None:
    assert (format_score(value), format_gain(value)) == (text, gain)


def test_one_is_counted_as_one() -> None:
    assert [format_many(count, "seed") for count in (0, 1, 2)] == ["0 seeds", "1 seed", "2 seeds"]
    assert [format_epochs(epochs) for epochs in (1, 0.5, 1.0004, 12.346)] == [
        "1 epoch",
        "0.5 epochs",
        "1 epoch",
        "12.3 epochs",
    ]


def test_a_deviation_has_no_more_decimals_than_its_mean() -> None:
    spreads = [(0.5, 0.004), (-0.00042, 3.1e-05), (0.5, None)]
    written = [format_spread(Spread(mean=mean, deviation=deviation)) for mean, deviation in spreads]
    assert written == ["0.500±0.004", "-0.00042±3.1e-05", "0.500"]


def test_what_json_lacks_is_null_or_a_text() -> None:
    assert plain({"a": (1, float("nan")), 2: [float("inf"), None, Path("x")]}) == {
        "a": [1, None],
        "2": [None, None, "x"],
    }
