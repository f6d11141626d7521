"""Tests that a trial's devices are what its request gives it, that its row says what it used of them, and the money."""

from dataclasses import replace

import pytest

from krona_tune.study.devices import Devices, devices_of, price_of
from krona_tune.study.request.study_spec import ResourcesSpec
from tests.record.events import manifest
from tests.study.final_rows import row

HALF_AN_HOUR = row("000", "search", 0.5, train_seconds=1500.0, evaluation_seconds=300.0)
FOUR_CORES, A_SHARE = Devices(kind="cpu", count=4.0), Devices(kind="cuda", count=0.5)


@pytest.mark.parametrize(
    ("resources", "gpu", "said"),
    [
        ({}, False, "1 CPU core"),
        ({"cpus_per_trial": 4}, False, "4 CPU cores"),
        ({"cpus_per_trial": 4}, True, "1 GPU"),
        ({"cpus_per_trial": 4, "gpus_per_trial": 2}, True, "2 GPUs"),
        ({"gpus_per_trial": 0.5}, True, "0.5 GPUs"),
    ],
)
def test_a_trials_devices_are_its_gpus_or_its_cores(resources: dict[str, float], gpu: bool, said: str) -> None:
    assert devices_of(ResourcesSpec.model_validate(resources), gpu=gpu).text == said


def test_a_row_that_does_not_say_what_it_used_counts_with_the_devices_of_then() -> None:
    counted = FOUR_CORES.filled_in(HALF_AN_HOUR)
    assert (counted.device, counted.devices, counted.device_seconds) == ("cpu", 4.0, 7200.0)
    assert A_SHARE.filled_in(counted) is counted


def test_seconds_count_on_the_devices_on_which_they_passed() -> None:
    moved = A_SHARE.given_to(FOUR_CORES.filled_in(HALF_AN_HOUR)).with_seconds(1600.0, 400.0)
    assert moved.device_seconds == 7200 + 0.5 * 200
    assert moved.busy_seconds == 2000
    assert Devices.of(moved) == A_SHARE


def test_a_resumed_study_still_knows_what_its_rows_of_an_earlier_version_had() -> None:
    small = ResourcesSpec(cpus_per_trial=1)
    earlier = replace(FOUR_CORES, count=8.0)
    known = manifest("cola")
    assert known.unrecorded_devices(ResourcesSpec(cpus_per_trial=8)) == earlier
    resumed = known.model_copy(update={"device": "cuda", "earlier_devices": earlier})
    again = type(resumed).model_validate_json(resumed.model_dump_json())
    assert again.unrecorded_devices(small) == earlier


def test_money_is_the_price_of_the_hours_of_all_devices() -> None:
    trials = [row(f"00{number}", "search", 0.5, device_seconds=number * 1800.0) for number in (1, 4)]
    price = price_of(ResourcesSpec(price_per_hour=2))
    assert price
    assert [price.of(trials[:number]) for number in range(3)] == [0.0, 1.0, 5.0]
    assert price.text == "2.00 a device hour"


def test_without_a_price_there_is_no_money() -> None:
    assert price_of(ResourcesSpec()) is None
