"""Tests that validation decides who wins; the test half only measures the winner; and the statistics of both."""

from dataclasses import replace
from math import inf, nan, sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from krona_tune.study.finals import bootstrap_interval, deviation, differ_significantly, rank_finals
from krona_tune.study.result import Status, is_score
from tests.study.final_rows import repeats, row


def test_the_highest_validation_mean_wins_whatever_test_says() -> None:
    held = rank_finals(
        [*repeats("a", (0.6, 0.8, 0.7), (0.5, 0.5, 0.5)), *repeats("b", (0.6, 0.7, 0.6), (0.9, 0.9, 0.9))]
    )
    assert [each.of for each in held.finalists] == ["a", "b"]
    assert held.winner is not None
    assert held.winner.validation.mean == pytest.approx(0.7)
    assert held.winner.validation.deviation == pytest.approx(0.1)
    assert (held.winner.test.mean, held.winner.test.deviation, held.winner.seeds) == (0.5, 0.0, 3)


def test_what_is_taken_away_is_the_seed_with_the_best_validation() -> None:
    held = rank_finals(repeats("a", (0.6, 0.8, 0.7), (0.9, 0.1, 0.5)))
    assert held.winner is not None
    assert held.winner.best_row.score == 0.8


def test_searched_trials_baselines_and_other_ends_are_no_finalists() -> None:
    cut = replace(repeats("a", (0.9,), (0.9,))[0], status=Status.INTERRUPTED)
    unseen = replace(repeats("a", (0.9,), (0.9,))[0], test_score=None)
    assert rank_finals([row("1", "search", 0.9), row("h", "baseline", 0.9), cut, unseen]).winner is None


def test_a_score_without_a_mean_and_a_square_is_no_score() -> None:
    far = [*repeats("a", (-1e308, -1e308), (0.9, 0.8)), *repeats("b", (0.9, 0.8), (1e308, 1e308))]
    assert rank_finals([*far, *repeats("c", (0.6, 0.7), (0.6, 0.7))]).finalists[0].of == "c"
    assert rank_finals(far).winner is None
    assert [is_score(value) for value in (None, nan, -inf, 1e101, -1e100, 0.0)] == [False] * 4 + [True] * 2


def test_a_configuration_that_lost_a_seed_comes_after_those_that_have_all() -> None:
    held = rank_finals([*repeats("a", (0.9, 0.9), (0.9, 0.9)), *repeats("b", (0.6, 0.6, 0.6), (0.6, 0.6, 0.6))])
    assert [(each.of, each.seeds) for each in held.finalists] == [("b", 3), ("a", 2)]


def test_an_equal_mean_ranks_by_fewer_parameters() -> None:
    many = repeats("a", (0.75, 0.5), (0.5, 0.5), trainable_parameters=900)
    assert [each.of for each in rank_finals([*many, *repeats("b", (0.5, 0.75), (0.5, 0.5))]).finalists] == ["b", "a"]


def test_the_head_alone_stands_beside_and_never_wins() -> None:
    held = rank_finals(
        [
            *repeats("a", (0.6, 0.62, 0.61), (0.65, 0.66, 0.67)),
            *repeats("head", (0.9, 0.9, 0.9), (0.55, 0.57, 0.56), method="head_only"),
        ]
    )
    assert [each.of for each in held.finalists] == ["a"]
    assert held.head_only is not None
    assert held.gain_over_head == pytest.approx(0.10)
    assert held.beats_head is True


def test_whether_the_head_is_beaten_needs_seeds_and_a_gain() -> None:
    def beats(winner: tuple[float, ...], head: tuple[float, ...]) -> bool | None:
        rows = [*repeats("a", winner, winner), *repeats("head", head, head, method="head_only")]
        return rank_finals(rows).beats_head

    assert beats((0.8,), (0.5,)) is None
    assert beats((0.5, 0.51, 0.5), (0.8, 0.8, 0.81)) is False
    assert rank_finals([]).beats_head is None


def test_ties_are_told_by_test_scores_seed_by_seed() -> None:
    held = rank_finals(
        [
            *repeats("a", (0.8, 0.8, 0.8), (0.70, 0.50, 0.60)),
            *repeats("b", (0.7, 0.7, 0.7), (0.69, 0.51, 0.60)),
            *repeats("c", (0.6, 0.6, 0.6), (0.60, 0.401, 0.499)),
        ]
    )
    assert [(each.of, each.tied) for each in held.finalists] == [("a", True), ("b", True), ("c", False)]


def test_the_interval_covers_the_test_examples_where_they_were_drawn_again() -> None:
    rows = repeats("a", (0.5, 0.5), (0.5, 0.5), test_resampled=(0.4, 0.5, 0.6))
    plain = repeats("a", (0.5, 0.5), (0.5, 0.5))
    assert [rank_finals(each).finalists[0].test.interval for each in (rows, plain)] == [(0.4, 0.6), (0.5, 0.5)]


def test_a_seed_without_resampled_scores_leaves_no_interval_and_a_draw_without_one_is_left_out() -> None:
    rows = repeats("a", (0.5, 0.5), (0.5, 0.7), test_resampled=(0.4, 0.5, 0.6))
    lacking = [rows[0], replace(rows[1], test_resampled=(), test_note="no interval: too slow")]
    held = rank_finals(lacking).finalists[0]
    assert (held.test.interval, held.note) == (None, "no interval: too slow")
    fewer = [rows[0], replace(rows[1], test_resampled=(nan, 0.5, 0.5), test_note="no value for 1 of 3 draws")]
    held = rank_finals(fewer).finalists[0]
    assert (held.test.interval, held.note) == ((0.5, 0.6), "no value for 1 of 3 draws")


SCORES = st.lists(st.floats(-1, 1), min_size=2, max_size=7)


def test_the_deviation_is_of_a_sample() -> None:
    assert deviation([2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]) == pytest.approx(sqrt(32 / 7))
    assert deviation([0.7]) is None


def test_the_interval_over_seeds_alone_lies_between_the_worst_and_the_best() -> None:
    """With three seeds, 1 draw in 27 takes the lowest three times: its mean is the 2.5 % point."""
    assert bootstrap_interval([0.2, 0.5, 0.6]) == (pytest.approx(0.2), pytest.approx(0.6))


def test_one_seed_without_resampled_examples_has_no_interval() -> None:
    assert bootstrap_interval([0.4]) is None
    assert bootstrap_interval([0.4], [()]) is None


def test_resampled_examples_give_one_seed_an_interval() -> None:
    low, high = bootstrap_interval([0.5], [[x / 1000 for x in range(1001)]]) or (0, 0)
    assert low == pytest.approx(0.025, abs=0.003)
    assert high == pytest.approx(0.975, abs=0.003)


def test_a_draw_that_one_seed_has_no_score_on_is_left_out_for_all() -> None:
    first, second = [x / 500 for x in range(500)], [x / 400 for x in range(500)]
    whole = bootstrap_interval([0.5, 0.6], [first[:480], second[:480]])
    assert bootstrap_interval([0.5, 0.6], [[*first[:480], *[nan] * 20], second]) == whole
    assert bootstrap_interval([0.5, 0.6], [[nan] * 250 + first[250:], second[:250] + [nan] * 250]) == (
        bootstrap_interval([0.5, 0.6])
    )
    assert bootstrap_interval([0.5], [[nan] * 500]) is None


def test_seeds_and_examples_both_widen_the_interval() -> None:
    examples = [0.45 + x / 5000 for x in range(500)]
    alike = bootstrap_interval([0.5, 0.5, 0.5], [examples] * 3) or (0, 0)
    apart = bootstrap_interval([0.4, 0.5, 0.6], [[x + d for x in examples] for d in (-0.1, 0.0, 0.1)]) or (0, 0)
    seeds = bootstrap_interval([0.4, 0.5, 0.6]) or (0, 0)
    assert apart[1] - apart[0] > alike[1] - alike[0]
    assert apart[1] - apart[0] > seeds[1] - seeds[0] > 0


def test_rows_of_unequal_draws_fall_back_to_the_seeds() -> None:
    assert bootstrap_interval([0.2, 0.6], [[0.2, 0.3], [0.6]]) == bootstrap_interval([0.2, 0.6])
    assert bootstrap_interval([0.2, 0.6], [[0.2, 0.3], ()]) == bootstrap_interval([0.2, 0.6])


@given(SCORES)
def test_an_interval_stays_within_what_was_measured_and_is_the_same_again(scores: list[float]) -> None:
    low, high = bootstrap_interval(scores) or (0, 0)
    assert min(scores) - 1e-12 <= low <= high <= max(scores) + 1e-12
    assert bootstrap_interval(scores) == (low, high)


def test_differences_are_paired_by_seed() -> None:
    """Seeds change both scores by far more than the configurations differ."""
    first, second = {5: 0.30, 7: 0.60, 11: 0.90}, {5: 0.28, 7: 0.581, 11: 0.879}
    assert differ_significantly(first, second) is True
    assert differ_significantly(first, {5: 0.60, 7: 0.90, 11: 0.30}) is False


@pytest.mark.parametrize(("d", "apart"), [(4.30, True), (4.31, False)])
def test_three_seeds_are_held_against_t_with_two_degrees_of_freedom(d: float, apart: bool) -> None:
    """t(0.975, 2) is 4.3027: at a mean of 4.3027·s/√3 the interval just touches zero."""
    s = 1 / d
    differences = {1: (1 / sqrt(3) - s), 2: 1 / sqrt(3), 3: (1 / sqrt(3) + s)}
    assert deviation(list(differences.values())) == pytest.approx(s)
    assert differ_significantly(differences, dict.fromkeys(differences, 0.0)) is not apart


def test_fewer_than_two_shared_seeds_tell_nothing() -> None:
    assert differ_significantly({1: 0.9, 2: 0.8}, {2: 0.1, 3: 0.2}) is None


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({1: 0.75, 2: 0.5}, {1: 0.5, 2: 0.25}),
        ({1: 0.75, 2: 0.5}, {1: 0.75, 2: 0.5}),
        ({1: 0.9, 2: 0.8, 3: 0.7}, {1: 0.8, 2: 0.7, 3: 0.6}),  # .1 each, but for rounding
    ],
)
def test_a_difference_that_is_the_same_at_every_seed_is_no_proof(
    first: dict[int, float], second: dict[int, float]
) -> None:
    assert differ_significantly(first, second) is False


@given(SCORES, SCORES)
def test_who_is_named_first_does_not_matter(first: list[float], second: list[float]) -> None:
    one, other = dict(enumerate(first)), dict(enumerate(second))
    assert differ_significantly(one, other) is differ_significantly(other, one)
