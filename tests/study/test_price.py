"""Tests that money is the price of the device hours that the trials used."""

import pytest

from krona_tune.study.formatting import format_money
from krona_tune.study.price import price_of
from krona_tune.study.request.study_spec import ResourcesSpec
from tests.study.final_rows import row


def test_money_is_the_price_of_the_hours_of_all_devices() -> None:
    trials = [row(f"00{number}", "search", 0.5, device_seconds=number * 1800.0) for number in (1, 4)]
    price = price_of(ResourcesSpec(price_per_hour=2))
    assert price
    assert [price.of(trials[:number]) for number in range(3)] == [0.0, 1.0, 5.0]
    assert price.said == "2.00 a device hour"


def test_without_a_price_there_is_no_money() -> None:
    assert price_of(ResourcesSpec()) is None


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0.00"), (0.00421, "0.0042"), (0.5, "0.50"), (2.1, "2.10"), (12345.678, "12,345.68")]
)
def test_money_has_two_decimals_or_two_digits(value: float, text: str) -> None:
    assert format_money(value) == text
