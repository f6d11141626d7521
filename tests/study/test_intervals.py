"""Tests what few seeds and test examples say of a mean and of a difference."""

from collections.abc import Sequence
from math import nan, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from krona_tune.study.intervals import (
    Scored,
    comparisons_of,
    difference,
    estimate,
    unpaired_difference,
)

DRAWS = np.random.default_rng(3).normal(0.0, 0.02, 400)
SCORES = st.lists(st.floats(-1, 1), min_size=2, max_size=7)


def around(*scores: float) -> list[list[float]]:
    """Returns draws of the same examples around each score."""
    return [(score + DRAWS).tolist() for score in scores]


def by_seed(scores: Sequence[float], draws: Sequence[Sequence[float]] = ()) -> dict[int, Scored]:
    return {seed: (score, draws[seed] if draws else ()) for seed, score in enumerate(scores)}


@pytest.mark.parametrize(("scores", "t"), [((0.2, 0.5, 0.6), 4.3027), ((0.2, 0.5, 0.6, 0.4, 0.1), 2.7764)])
def test_over_seeds_alone_the_interval_is_students(scores: tuple[float, ...], t: float) -> None:
    found = estimate(scores)
    low, high = found.interval() or (0, 0)
    assert (low + high) / 2 == pytest.approx(np.mean(scores))
    assert (high - low) / 2 == pytest.approx(t * np.std(scores, ddof=1) / sqrt(len(scores)), rel=1e-3)
    assert (found.covers, found.whole) == ("seeds only", False)


def test_over_test_examples_alone_it_is_normal_with_the_draws_deviation() -> None:
    found = estimate([0.5], around(0.5), 2_000)
    low, high = found.interval() or (0, 0)
    assert (high - low) / 2 == pytest.approx(1.961 * DRAWS.std(ddof=1), rel=2e-3)
    assert found.covers == "test examples only"


def test_the_variance_is_that_of_the_seeds_and_of_what_their_draws_share() -> None:
    """What of a draw is each seed's own is in the spread of their scores, and counts once."""
    rng = np.random.default_rng(4)
    own = [(score + DRAWS + rng.normal(0, 0.03, 400)).tolist() for score in (0.4, 0.5, 0.6)]
    found = estimate([0.4, 0.5, 0.6], own, 1_000)
    assert found.of_seeds == pytest.approx(0.01 / 3)
    assert found.of_examples == pytest.approx(DRAWS.var(), rel=0.25)


def test_draws_that_vary_against_each_other_share_nothing() -> None:
    assert estimate([0.5, 0.6], [DRAWS.tolist(), (-DRAWS).tolist()], 100).of_examples == 0.0


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-1.0, 1.0)])
def test_the_interval_of_a_bounded_metric_stays_between_its_bounds(bounds: tuple[float, float]) -> None:
    low, high = estimate([0.99, 0.7, 0.98]).interval(bounds) or (0, 0)
    assert bounds[0] < low < 0.7
    assert 0.98 < high < bounds[1]
    assert (estimate([0.99, 0.7, 0.98]).interval() or (0, 0))[1] > 1


def test_a_score_beyond_its_bounds_has_a_plain_interval() -> None:
    assert estimate([70.0, 72.0]).interval((0, 1)) == estimate([70.0, 72.0]).interval()


@pytest.mark.parametrize(
    ("scores", "draws", "examples", "why"),
    [
        ([0.4], [], 0, "one seed, and no draws of the test examples"),
        ([0.4], [()], 90, "one seed, and no draws of the test examples"),
        ([1.0, 0.0], [[1.0, 1.0], [0.0, 0.0]], 1, "one test example"),
        ([0.4, 0.4], [], 0, "all scores are equal"),
        ([1.0, 1.0], [[1.0] * 9] * 2, 200, "all scores are equal"),
        ([0.5], [[nan] * 500], 200, "one seed, and no draws of the test examples"),
    ],
)
def test_where_nothing_varies_the_word_says_why(
    scores: list[float], draws: list[list[float]], examples: int, why: str
) -> None:
    found = estimate(scores, draws, examples)
    assert (found.lacks, found.interval()) == (why, None)


def test_a_draw_that_one_seed_has_no_score_on_is_left_out_for_all() -> None:
    first, second = around(0.5, 0.6)
    whole = estimate([0.5, 0.6], [first[:380], second[:380]], 90)
    assert estimate([0.5, 0.6], [[*first[:380], *[nan] * 20], second], 90) == whole
    assert not estimate([0.5, 0.6], [[nan] * 200 + first[200:], second[:200] + [nan] * 200]).drawn
    assert estimate([0.2, 0.6], [[0.2, 0.3], [0.6]]) == estimate([0.2, 0.6])


@given(SCORES)
def test_an_interval_is_around_its_mean(scores: list[float]) -> None:
    low, high = estimate(scores).interval((-1, 1)) or (-1, 1)
    assert -1 - 1e-9 <= low <= np.mean(scores) + 1e-9
    assert np.mean(scores) - 1e-9 <= high <= 1 + 1e-9


def test_differences_are_paired_by_seed() -> None:
    """Seeds change both scores by far more than the configurations differ."""
    first, second = by_seed((0.30, 0.60, 0.90)), by_seed((0.28, 0.581, 0.879))
    assert difference(first, second).apart is True
    assert difference(first, by_seed((0.60, 0.90, 0.30))).apart is False


def test_differences_are_paired_by_example() -> None:
    """The draws move both scores by .02; what they share is no doubt about the difference."""
    first, second = (0.700, 0.704, 0.708), (0.660, 0.665, 0.667)
    together = difference(by_seed(first, around(*first)), by_seed(second, around(*second)), 500)
    shuffled = [list(reversed(each)) for each in around(*second)]
    assert together.apart is True
    assert difference(by_seed(first, around(*first)), by_seed(second, shuffled), 500).apart is False


@pytest.mark.parametrize(("d", "apart"), [(4.30, True), (4.31, False)])
def test_three_seeds_are_held_against_t_with_two_degrees_of_freedom(d: float, apart: bool) -> None:
    """t(0.975, 2) is 4.3027: at a mean of 4.3027·s/√3 the interval just touches zero."""
    s = 1 / d
    differences = by_seed((1 / sqrt(3) - s, 1 / sqrt(3), 1 / sqrt(3) + s))
    assert difference(differences, by_seed((0.0,) * 3)).apart is not apart


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((0.75, 0.5), (0.5, 0.25)),
        ((0.75, 0.5), (0.75, 0.5)),
        ((0.9, 0.8, 0.7), (0.8, 0.7, 0.6)),  # .1 each, but for rounding
    ],
)
def test_a_difference_that_is_the_same_at_every_seed_is_no_proof(
    first: tuple[float, ...], second: tuple[float, ...]
) -> None:
    found = difference(by_seed(first), by_seed(second))
    assert (found.apart, found.detectable, found.lacks) == (False, None, "all scores are equal")


@pytest.mark.parametrize("paired", [True, False])
def test_all_right_against_all_wrong_is_told_apart_by_the_number_of_examples(paired: bool) -> None:
    """No draw of the examples shows chance; the next example may be another."""
    one, other = (dict.fromkeys(range(3), (score, (score,) * 9)) for score in (1.0, 0.0))
    for examples, apart in ((200, True), (2, False)):
        found = (
            difference(one, other, examples, bounds=(0.0, 1.0))
            if paired
            else unpaired_difference(
                tuple(one.values()), tuple(other.values()), (examples,) * 2, bounds=(0.0, 1.0), same_examples=True
            )
        )
        assert found.apart is apart
        assert found.lacks == ""
    assert difference(one, one, 200, bounds=(0.0, 1.0)).apart is False
    assert difference(one, other, 200).apart is False  # of a metric without bounds nobody knows what is much


def test_fewer_than_two_shared_seeds_tell_nothing() -> None:
    found = difference({1: (0.9, ()), 2: (0.8, ())}, {2: (0.1, ()), 3: (0.2, ())})
    none = difference({1: (0.9, ())}, {2: (0.8, ())})
    assert [(each.apart, each.detectable) for each in (found, none)] == [(None, None)] * 2
    assert found.lacks == none.lacks == "they share fewer than two seeds that learned"


def test_one_test_example_decides_nothing() -> None:
    found = difference(by_seed((1.0, 0.0), [[1.0] * 5, [0.0] * 5]), by_seed((0.0, 0.0), [[0.0] * 5] * 2), 1)
    assert (found.apart, found.lacks) == (None, "one test example")


@given(SCORES, SCORES)
def test_who_is_named_first_does_not_matter(first: list[float], second: list[float]) -> None:
    one, other = by_seed(first), by_seed(second)
    assert difference(one, other).apart is difference(other, one).apart


def test_a_true_difference_of_the_detectable_size_is_seen_in_four_of_five_cases() -> None:
    """With five seeds whose difference has a deviation of 1."""
    rng = np.random.default_rng(5)
    zeros = by_seed((0.0,) * 5)
    sizes = [difference(by_seed(rng.normal(size=5).tolist()), zeros).detectable or 0 for _ in range(2_000)]
    size = float(np.median(sizes))
    seen = [difference(by_seed((size + rng.normal(size=5)).tolist()), zeros).apart for _ in range(2_000)]
    assert 0.76 < np.mean(seen) < 0.84


def test_the_number_of_comparisons_grows_with_the_finalists_and_widens_the_margin() -> None:
    assert [round(comparisons_of(k), 2) for k in (1, 2, 3, 5)] == [1.0, 1.0, 2.29, 5.43]
    found = estimate([0.2, 0.5, 0.6])
    assert found.margin(5) > 2 * found.margin()


def test_a_difference_has_an_interval_without_zero_exactly_if_it_is_told_apart() -> None:
    near, far = by_seed((0.60, 0.66, 0.69)), by_seed((0.30, 0.37, 0.38))
    for other, comparisons in ((near, 1.0), (far, 1.0), (far, 40.0)):
        found = difference(by_seed((0.61, 0.65, 0.70)), other, comparisons=comparisons)
        low, high = found.interval or (0, 0)
        assert found.apart is not (low <= 0 <= high)
    assert difference(near, {}).interval is None


def test_with_other_seeds_the_parts_of_the_seeds_add_up_with_welchs_degrees_of_freedom() -> None:
    """Variances of the means .01/3 and .0004/4, so 2.1 degrees of freedom."""
    first, second = [(x, ()) for x in (0.4, 0.5, 0.6)], [(0.3 + x, ()) for x in (0.0, 0.02, 0.04, 0.02)]
    found = unpaired_difference(first, second, same_examples=False).estimate
    assert found
    of_second = float(np.var([0.0, 0.02, 0.04, 0.02], ddof=1)) / 4
    assert found.mean == pytest.approx(0.18)
    assert found.of_seeds == pytest.approx(0.01 / 3 + of_second)
    parts = (0.01 / 3, of_second)
    assert found.seeds == pytest.approx(1 + sum(parts) ** 2 / (parts[0] ** 2 / 2 + parts[1] ** 2 / 3))
    alike = unpaired_difference(first, first, same_examples=False).estimate
    assert alike
    assert alike.seeds == pytest.approx(5)
    same = [(0.5, ())] * 3
    assert unpaired_difference(same, same[:2], same_examples=False).apart is False


def test_what_two_studies_share_of_the_same_examples_is_no_doubt_about_their_difference() -> None:
    """The draws move all scores by .02; other examples would add that for each study."""
    scores = ((0.700, 0.702, 0.704), (0.670, 0.674, 0.672, 0.671))
    first, second = ([(x, draws) for x, draws in zip(each, around(*each), strict=True)] for each in scores)
    same = unpaired_difference(first, second, (90, 90), same_examples=True)
    other = unpaired_difference(first, second, (90, 90), same_examples=False)
    assert (same.apart, other.apart) == (True, False)
    assert other.estimate
    assert other.estimate.of_examples == pytest.approx(2 * DRAWS.var(ddof=1) * 90 / 89)


def test_a_study_of_one_seed_is_not_held_against_another() -> None:
    found = unpaired_difference([(0.9, ())], [(0.5, ()), (0.6, ())], same_examples=True)
    assert (found.apart, found.interval, found.lacks) == (None, None, "one of them has a single seed")
