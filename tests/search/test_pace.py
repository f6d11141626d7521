"""Tests that the seconds of steps of any size are found from a few: plain numbers in, seconds out."""

import numpy as np
import pytest

from krona_tune.search.pace import Load, Pace, middle
from krona_tune.study.request.domain import Choice, Domain, Fixed, Range
from krona_tune.train.step_times import StepTime

PACE = Pace(step=0.02, token=1e-4, pair=3e-7)


def timed(rows: int, length: int, noise: float = 1.0) -> StepTime:
    load = Load(steps=1, tokens=rows * length, pairs=rows * length**2)
    return StepTime(rows=rows, length=length, seconds=noise * PACE.seconds(load))


def test_a_load_counts_padding_too() -> None:
    load = Load.of([np.array([0, 2]), np.array([1])], np.array([3, 7, 5]))
    assert load == Load(steps=2, tokens=2 * 5 + 7, pairs=2 * 25 + 49)


def test_the_pace_is_found_from_three_steps() -> None:
    found = Pace.of([timed(2, 16), timed(32, 16), timed(8, 96)])
    assert (found.step, found.token, found.pair) == pytest.approx((PACE.step, PACE.token, PACE.pair))


def test_a_noisy_probe_gives_no_negative_pace_and_little_error() -> None:
    found = Pace.of([timed(2, 16, 1.2), timed(32, 16), timed(8, 96, 0.8)])
    assert min(found.step, found.token, found.pair) >= 0
    load = Load(steps=16, tokens=16 * 32 * 70, pairs=16 * 32 * 70**2)
    assert found.seconds(load) == pytest.approx(PACE.seconds(load), rel=0.3)


@pytest.mark.parametrize(
    ("domain", "size"),
    [
        (Fixed(24), 24),
        (Choice((64, 8, 16)), 16),
        (Choice((8, 16)), 12),
        (Range(8, 64), 36),
        (Range(8, 64, step=8), 36),
        (Range(4, 64, log=True), 16),
        (Range(1, 2**63 - 1, log=True), 2**31.5),
    ],
)
def test_the_middle_of_a_domain_is_no_end_of_it(domain: Domain, size: float) -> None:
    assert middle(domain) == pytest.approx(size)
