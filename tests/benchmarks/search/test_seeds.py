"""Tests the rules on invented scores of two points, of which one seed favours the worse."""

import numpy as np
import pytest

from krona_tune.record.recorded_curves import LEARNED, curves
from tests.benchmarks.search.seeds import RULES, deviations, regret, scores_of


def test_a_lucky_seed_misleads_one_look_and_not_two() -> None:
    steady = np.repeat([[0.1], [0.2], [0.3], [0.4], [0.45], [0.5]], 4, axis=1)
    assert [regret(steady, rule, 50) for rule in RULES.values()] == pytest.approx([0.0] * 3)
    lucky = np.full((6, 4), 0.5)
    lucky[2] = 0.8, 0.1, 0.1, 0.1
    one, own, again = (regret(lucky, rule, 400) for rule in RULES.values())
    assert (one, own) == pytest.approx((0.1, 0.1), abs=0.04)
    assert again == pytest.approx(0.0)


def test_what_seeds_do_to_all_points_is_apart_from_what_they_do_to_each() -> None:
    shared, each = deviations(np.add.outer([0.1, 0.2, 0.5], [0.0, 0.1, 0.2]))
    assert [shared, each] == pytest.approx([0.1, 0.0], abs=1e-12)


def test_twelve_recorded_points_have_four_seeds() -> None:
    assert {scores_of(curves(), task).shape for task in LEARNED} == {(12, 4)}
