"""Tests that money is device hours times the price, for as many devices as a trial has."""

from dataclasses import replace

import pytest

from krona_tune.study.formatting import format_money
from krona_tune.study.price import price_of
from krona_tune.study.spec.study_spec import ResourcesSpec
from tests.study.final_rows import row

HALF_AN_HOUR = replace(row("000", "search", 0.5), train_seconds=1500.0, evaluation_seconds=300.0)


@pytest.mark.parametrize(
    ("resources", "gpu", "money"),
    [
        ({}, False, 1.0),
        ({"cpus_per_trial": 4}, False, 4.0),
        ({"cpus_per_trial": 4}, True, 1.0),
        ({"cpus_per_trial": 4, "gpus_per_trial": 2}, True, 2.0),
        ({"gpus_per_trial": 0.5}, True, 0.5),
    ],
)
def test_money_is_the_price_of_the_hours_of_all_devices(resources: dict[str, float], gpu: bool, money: float) -> None:
    price = price_of(ResourcesSpec.model_validate({"price_per_hour": 2, **resources}), gpu=gpu)
    assert price
    assert price.of([HALF_AN_HOUR]) == money
    assert price.of([HALF_AN_HOUR] * 3) == 3 * money
    assert price.of([]) == 0
    assert price.said == "2.00 a device hour"


def test_without_a_price_there_is_no_money() -> None:
    assert price_of(ResourcesSpec(), gpu=True) is None


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0.00"), (0.00421, "0.0042"), (0.5, "0.50"), (2.1, "2.10"), (12345.678, "12,345.68")]
)
def test_money_has_two_decimals_or_two_digits(value: float, text: str) -> None:
    assert format_money(value) == text
