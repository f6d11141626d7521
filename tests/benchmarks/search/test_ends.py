"""Tests the comparison of searches that end by themselves with shorter ones."""

import numpy as np

from tests.benchmarks.search.ends import LEAST_GAINS, TRIALS, ended_after, table


def test_alike_scores_end_a_search_and_rising_ones_do_not() -> None:
    assert ended_after(np.array([0.5, 0.71, 0.7, 0.702, 0.701, 0.7, 0.9]), 0.01) == 5
    assert ended_after(np.array([0.1, 0.2, 0.4, 0.7, 1.1, 1.6, 2.2]), 0.01) == 7


def test_less_is_saved_and_lost_the_less_gain_is_asked_for() -> None:
    found = table(seeds=8)
    assert list(found.index) == [(asked, least) for asked in TRIALS for least in LEAST_GAINS]
    for asked in TRIALS:
        part = found.loc[asked]
        assert part.share.is_monotonic_decreasing
        assert part.lost.is_monotonic_increasing
        assert (part.lost < part.index).all(), "what is lost on average is less than the gain that was too little"
