"""Tests that validation decides who wins; the test half only measures the winner."""

from dataclasses import replace
from math import inf, nan

import pytest

from krona_tune.study.finals import rank_finals
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
