"""Tests that validation decides who wins; the test half only measures the winner; and the statistics of both."""

from dataclasses import replace
from math import inf, nan, sqrt

import pytest

from krona_tune.study.finals import DEFAULT, deviation, rank_finals
from krona_tune.study.manifest import TaskFacts
from krona_tune.study.result import Status, is_score
from tests.record.events import manifest
from tests.study.final_rows import repeats, row

FACTS = manifest("rte").tasks["rte"].model_copy(update={"final_seeds": 3})
"""100 validation examples, of which a constant answer has .55; three seeds at least."""


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
    *kept, last = repeats("a", (0.9, 0.9, 0.9), (0.9, 0.9, 0.9))
    lost = replace(last, status=Status.FAILED, score=None, test_score=None)
    held = rank_finals([*kept, lost, *repeats("b", (0.6, 0.6, 0.6), (0.6, 0.6, 0.6))])
    assert [(each.of, each.seeds) for each in held.finalists] == [("b", 3), ("a", 2)]


def test_more_seeds_than_all_have_are_no_advantage_without_a_default_either() -> None:
    more, fewer = repeats("a", (0.79,) * 4, (0.5,) * 4), repeats("b", (0.84,) * 3, (0.5,) * 3)
    assert [(each.of, each.seeds) for each in rank_finals([*more, *fewer], FACTS).finalists] == [("b", 3), ("a", 4)]


@pytest.mark.parametrize("facts", [FACTS, None])
def test_in_finals_that_were_cut_short_a_lucky_seed_is_not_ranked_by_its_mean(facts: TaskFacts | None) -> None:
    lucky, two = repeats("a", (0.95,), (0.5,)), repeats("b", (0.8, 0.81), (0.5, 0.5))
    head = repeats("head", (0.6,), (0.5,), method="head_only")
    begun = replace(repeats("a", (0.9, 0.9), (0.5, 0.5))[1], status=Status.INTERRUPTED)
    held = rank_finals([*lucky, begun, *two, *head], facts)
    assert [(each.of, each.seeds) for each in held.finalists] == [("b", 2), ("a", 1)]


def test_how_far_the_head_alone_has_come_ranks_nobody() -> None:
    rows = [*repeats("a", (0.7,) * 3, (0.5,) * 3), *repeats("b", (0.9, 0.9), (0.5, 0.5))]
    ranks = [
        [each.of for each in rank_finals([*rows, *head], FACTS).finalists]
        for head in ([], repeats("head", (0.6,), (0.5,), method="head_only"))
    ]
    assert ranks == [["a", "b"]] * 2


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


def test_whether_the_head_is_beaten_is_told_by_the_seeds_that_both_have() -> None:
    """The mean over all seeds of the winner is below that of the head, but with each shared seed it is above."""
    low, shared = repeats("a", (0.8,) * 4, (0.70, 0.72, 0.71, 0.0)), (0.6, 0.621, 0.61)
    held = rank_finals([*low, *repeats("head", shared, shared, method="head_only")])
    assert held.winner.test.mean < held.head_only.test.mean
    assert held.gain_over_head == pytest.approx(0.09967, abs=1e-5)
    assert held.beats_head is True


def test_ties_are_told_by_test_scores_seed_by_seed() -> None:
    held = rank_finals(
        [
            *repeats("a", (0.8, 0.8, 0.8), (0.70, 0.50, 0.60)),
            *repeats("b", (0.7, 0.7, 0.7), (0.69, 0.51, 0.60)),
            *repeats("c", (0.6, 0.6, 0.6), (0.60, 0.401, 0.499)),
        ]
    )
    assert [(each.of, each.tied) for each in held.finalists] == [("a", True), ("b", True), ("c", False)]


def test_a_finalist_that_was_not_compared_is_not_tied() -> None:
    held = rank_finals([*repeats("a", (0.8, 0.8), (0.7, 0.6)), *repeats("b", (0.7,), (0.7,))])
    assert [(each.of, each.tied) for each in held.finalists] == [("a", True), ("b", False)]


def test_the_interval_is_of_seeds_and_of_test_examples_where_they_were_drawn_again() -> None:
    drawn, plain = repeats("a", (0.5, 0.5), (0.5, 0.5), test_resampled=(0.4, 0.5, 0.6)), repeats("a", (0.5,), (0.5,))
    low, high = rank_finals(drawn).finalists[0].test.interval or (0, 0)
    assert 0.2 < low < 0.4
    assert 0.6 < high < 0.8
    held = rank_finals(plain).finalists[0]
    assert (held.test.interval, held.note) == (None, "no interval: one seed, and no draws of the test examples")


def test_a_seed_without_resampled_scores_leaves_no_interval_and_a_draw_without_one_is_left_out() -> None:
    rows = repeats("a", (0.5, 0.5), (0.5, 0.7), test_resampled=(0.4, 0.5, 0.6))
    lacking = [rows[0], replace(rows[1], test_resampled=(), test_note="no interval: too slow")]
    held = rank_finals(lacking).finalists[0]
    assert (held.test.interval, held.note) == (None, "no interval: too slow")
    fewer = [rows[0], replace(rows[1], test_resampled=(nan, 0.5, 0.5), test_note="no value for 1 of 3 draws")]
    held = rank_finals(fewer).finalists[0]
    assert held.test.interval is not None
    assert held.note == "no value for 1 of 3 draws"


def test_where_one_side_has_no_draws_nothing_is_said_of_a_difference_but_its_size() -> None:
    drawn = repeats("a", (0.9,) * 3, (0.8, 0.82, 0.81), test_resampled=(0.8, 0.81, 0.82))
    slow = repeats("b", (0.7,) * 3, (0.6, 0.621, 0.612), test_note="no interval: tasks.x.metric: is too slow")
    head = repeats("h", (0.7,) * 3, (0.5, 0.52, 0.512), method="head_only", test_note="no interval: is too slow")
    held = rank_finals([*drawn, *slow, *head])
    found = held.finalists[1].difference
    assert found is not None
    assert (found.apart, found.interval, found.detectable) == (None, None, None)
    assert found.lacks == "tasks.x.metric: is too slow"
    assert (held.beats_head, held.gain_over_head) == (None, pytest.approx(0.2993, abs=1e-4))
    earlier = [replace(each, test_note="") for each in slow]
    assert rank_finals([*drawn, *earlier]).finalists[1].difference.apart is True, "it made no draws of any metric"


def test_rows_of_an_earlier_version_have_an_interval_over_their_seeds() -> None:
    held = rank_finals(repeats("a", (0.5, 0.6, 0.7), (0.5, 0.6, 0.7))).finalists[0]
    assert held.test.interval is not None
    assert held.note == "the interval is over seeds only"


def test_a_seed_that_did_not_learn_is_named_and_the_test_score_is_that_of_the_others() -> None:
    held = rank_finals(repeats("a", (0.55, 0.9, 0.92), (0.54, 0.88, 0.9), metrics={"accuracy": 0.8}), FACTS)
    winner = held.finalists[0]
    assert [row.score for row in winner.unlearned] == [0.55]
    assert (winner.test.mean, winner.seeds) == (pytest.approx(0.89), 3)
    assert winner.validation.mean == pytest.approx(0.79)
    assert winner.failure_rate is not None
    assert (winner.failure_rate.failed, winner.failure_rate.seeds) == (1, 3)
    assert 101 not in winner.test_by_seed()


def test_a_diverged_seed_did_not_learn_and_another_lost_one_has_no_test_score() -> None:
    rows = repeats("a", (0.6, 0.7, 0.8, 0.8), (0.6, 0.7, 0.8, 0.8))
    ends = [replace(rows[0], status=Status.DIVERGED), replace(rows[1], test_score=nan), *rows[2:]]
    held = rank_finals(ends).finalists[0]
    assert ([row.seed for row in held.unlearned], [row.seed for row in held.lost]) == ([101], [102])
    assert held.failure_rate is not None
    assert (held.failure_rate.failed, held.failure_rate.seeds) == (1, 3)


def test_finalists_that_all_failed_are_kept_as_lost() -> None:
    rows = repeats("a", (0.6, 0.6), (0.6, 0.6))
    held = rank_finals([replace(each, status=Status.FAILED, score=None, test_score=None) for each in rows])
    assert (held.winner, len(held.lost)) == (None, 2)


def test_a_configuration_of_which_a_seed_is_to_come_is_not_lost_yet() -> None:
    whole = [
        replace(each, status=Status.DIVERGED, score=None, test_score=None)
        for each in repeats("a", (0.6,) * 3, (0.6,) * 3)
    ]
    for seen in (whole[:1], [*whole[:2], replace(whole[2], status=Status.INTERRUPTED, ended_at=None)]):
        assert rank_finals(seen, FACTS).lost == ()
        assert rank_finals(seen, FACTS).unfinished
    assert rank_finals(whole, FACTS).lost == tuple(whole)
    assert not rank_finals(whole, FACTS).unfinished
    assert rank_finals(whole[:1]).lost == tuple(whole[:1]), "of an older study nobody knows how many there were to be"


def test_a_default_configuration_takes_part_however_far_it_has_come() -> None:
    begun = [
        replace(each, number=DEFAULT, ended_at=None, status=Status.INTERRUPTED) for each in repeats("d", (0.6,), (0.6,))
    ]
    failed = [
        replace(each, number=DEFAULT, status=Status.FAILED, score=None, test_score=None)
        for each in repeats("d", (0.6,), (0.6,))
    ]
    assert [(each.compares, each.awaits_default) for each in map(rank_finals, ([], begun, failed))] == [
        (False, False),
        (True, True),
        (True, False),
    ]


def test_the_more_finalists_the_larger_a_difference_must_be() -> None:
    def apart(*others: str) -> bool:
        more = [row for name in others for row in repeats(name, (0.1,) * 3, (0.5, 0.6, 0.7))]
        first, second = repeats("a", (0.9,) * 3, (0.7, 0.72, 0.74)), repeats("b", (0.8,) * 3, (0.64, 0.635, 0.66))
        return not rank_finals([*first, *second, *more]).finalists[1].tied

    assert apart()
    assert not apart("c", "d", "e")


def test_the_deviation_is_of_a_sample() -> None:
    assert deviation([2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]) == pytest.approx(sqrt(32 / 7))
    assert deviation([0.7]) is None
