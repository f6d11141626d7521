"""Tests that the default or the head alone is chosen unless a finalist is shown to be better, on validation."""

from dataclasses import replace
from typing import Any

import pytest

from krona_tune.study.chosen_finalist import choose, contenders, is_better, lower_bound
from krona_tune.study.finals import DEFAULT, HEAD, Finalist, rank_finals
from krona_tune.study.result import Status, TrialResult
from tests.record.events import manifest
from tests.study.final_rows import repeats, with_draws

FACTS = manifest("rte").tasks["rte"].model_copy(update={"final_seeds": 3})
"""100 validation examples, of which a constant answer has .55; three seeds at least."""
CLOSE = (0.8, 0.81, 0.79)
BOUNDED = {"metrics": {"accuracy": 0.8}}
"""Makes a row's score one of a metric with bounds."""


def default(*scores: float, **more: Any) -> list[TrialResult]:
    return best(*scores, name="default", number=DEFAULT, **more)


def head(*scores: float) -> list[TrialResult]:
    return best(*scores, name="head", number=HEAD, method="head_only")


def best(*scores: float, test: float = 0.5, name: str = "a", number: int = 1, **more: Any) -> list[TrialResult]:
    rows = repeats(name, scores, [test] * len(scores), number=number, **{**BOUNDED, **more})
    return rows if "validation_resampled" in more else with_draws(rows)


def chosen(*rows: list[TrialResult]) -> str:
    choice = choose(rank_finals([each for some in rows for each in some], FACTS))
    assert choice is not None
    return choice.finalist.of


def test_a_finalist_is_chosen_that_is_better_than_the_default_and_the_head_with_every_seed() -> None:
    assert chosen(best(0.9, 0.92, 0.91), default(*CLOSE), head(0.6, 0.6, 0.61)) == "a"


def test_the_default_is_chosen_over_a_winner_that_is_not_shown_to_be_better() -> None:
    rows = [best(0.9, 0.78, 0.81), default(*CLOSE), head(0.6, 0.6, 0.61)]
    finals = rank_finals([each for some in rows for each in some], FACTS)
    assert finals.winner is not None
    assert finals.winner.of == "a"
    assert chosen(*rows) == "default"


def test_alone_the_default_is_not_said_to_be_better_than_others() -> None:
    choice = choose(rank_finals(default(*CLOSE), FACTS))
    assert choice is not None
    assert choice.reason == "no other configuration was trained again"


def test_a_lower_confidence_chooses_what_a_higher_one_leaves() -> None:
    rows = [*best(0.9, 0.86, 0.88), *default(0.81, 0.84, 0.79), *head(0.6, 0.6, 0.61)]

    def asked(confidence: float) -> tuple[str, str]:
        choice = choose(rank_finals(rows, FACTS.model_copy(update={"confidence": confidence})))
        assert choice is not None
        return choice.finalist.of, choice.reason.rpartition("with ")[2]

    assert asked(0.9) == ("a", "90 % confidence")
    assert asked(0.999) == ("default", "99.9 % confidence")


def test_the_test_half_has_no_say() -> None:
    rows = [default(*CLOSE), head(0.6, 0.6, 0.61)]
    assert chosen(best(0.9, 0.78, 0.81, test=0.99), *rows) == "default"
    assert chosen(best(0.9, 0.92, 0.91, test=0.01), *rows) == "a"


def test_a_perfect_finalist_is_chosen_over_what_is_always_wrong() -> None:
    """No draw of the examples varies; the next example may still be another."""
    right, wrong = {"validation_resampled": (1.0,) * 9}, {"validation_resampled": (0.0,) * 9}
    one, none = best(1.0, 1.0, 1.0, **right), default(0.0, 0.0, 0.0, **wrong)
    assert chosen(one, none) == "a"
    two = FACTS.model_copy(update={"validation_examples": 2})
    choice = choose(rank_finals([*one, *none], two))
    assert choice is not None
    assert choice.finalist.of == "default"  # two examples show nothing
    assert chosen(best(1.0, 1.0, 1.0, **right), default(1.0, 1.0, 1.0, **right)) == "default"


def test_a_default_that_learned_nothing_bars_no_finalist_of_which_one_seed_did_not_learn() -> None:
    """Its seeds are all alike, since none lies above the constant answer."""
    unsteady = best(0.99, 0.56, 0.99, 0.98, 0.97, 0.99)
    assert chosen(unsteady, default(0.9, 0.55, 0.9, 0.9, 0.9, 0.9), head(*[0.6] * 6)) == "a"
    assert chosen(unsteady, default(*[0.55] * 6), head(*[0.6] * 6)) == "a"


def test_a_default_that_learned_nothing_is_not_chosen_over_a_head_of_which_one_seed_did_not_learn() -> None:
    rows = [best(0.7, 0.72, 0.6), default(0.55, 0.55, 0.55), head(0.75, 0.55, 0.74)]
    choice = choose(rank_finals([each for some in rows for each in some], FACTS))
    assert choice is not None
    assert choice.finalist.of == "head"


def test_finals_that_have_not_ended_say_that_another_may_be_chosen() -> None:
    facts = FACTS.model_copy(update={"final_seeds": 3})
    whole = [*best(0.7, 0.72, 0.6), *default(0.66, 0.7, 0.6), *head(0.75, 0.75, 0.74)]
    other = best(0.9, name="b", number=2)[0]
    running = replace(other, status=Status.INTERRUPTED, ended_at=None, test_score=None)
    choices = [choose(rank_finals(rows, facts)) for rows in (whole, whole[:-1], [*whole, running])]
    said = "; the finals have not ended, so that another may be chosen"
    assert [bool(each and each.reason.endswith(said)) for each in choices] == [False, True, True]


def test_the_head_alone_is_chosen_where_nothing_is_better() -> None:
    assert chosen(best(0.7, 0.72, 0.6), default(0.66, 0.7, 0.6), head(0.75, 0.75, 0.74)) == "head"


def test_a_second_finalist_may_be_better_than_the_default_where_the_first_is_not() -> None:
    unsteady, steady = best(0.99, 0.78, 0.99), best(0.85, 0.86, 0.845, name="b", number=2)
    assert chosen(unsteady, steady, default(*CLOSE), head(0.6, 0.6, 0.61)) == "b"


def test_a_seed_that_did_not_learn_loses_against_steady_ones_and_is_no_default() -> None:
    failing, steady = best(0.99, 0.56, 0.99), best(0.85, 0.86, 0.845, name="b", number=2)
    assert chosen(failing, steady, default(*CLOSE), head(0.6, 0.6, 0.61)) == "b"
    lame = default(0.9, 0.55, 0.9)
    assert chosen(failing, lame, head(0.6, 0.6, 0.61)) == "head"
    more = best(0.99, 0.56, 0.99, 0.98, 0.97, 0.99)
    assert chosen(more, lame, head(0.6, 0.6, 0.61, 0.6, 0.6, 0.61)) == "a", "more seeds may show that it is better"


def test_a_default_of_which_a_seed_did_not_learn_is_not_compared_with_and_the_reason_says_so() -> None:
    """Its seeds differ so much that nothing is shown to be better than it."""
    choice = choose(rank_finals([*best(0.86, 0.88, 0.87), *default(0.95, 0.55, 0.95), *head(0.6, 0.6, 0.61)], FACTS))
    assert choice is not None
    assert choice.finalist.of == "a"
    assert choice.reason.endswith(
        "; the default configuration (default) did not learn, or not to the end, with 1 of 3 seeds"
    )


def test_a_steady_finalist_need_not_be_better_than_a_default_that_is_not_where_one_is_looked_for() -> None:
    """The head alone does not learn either, so that an older study compares with both."""
    unsteady, flat = default(0.9, 0.55, 0.9, 0.55), head(0.54, 0.54, 0.54, 0.54)
    steady, other = best(0.73, 0.74, 0.75, 0.73), best(0.8, 0.55, 0.82, 0.81, name="b", number=2)

    def chosen_of(*rows: list[TrialResult], looked_for: bool) -> str:
        facts = FACTS.model_copy(update={"steady": looked_for})
        choice = choose(rank_finals([each for some in rows for each in some], facts))
        assert choice is not None
        return choice.finalist.of

    assert chosen_of(steady, unsteady, flat, looked_for=True) == "a"
    assert chosen_of(steady, unsteady, flat, looked_for=False) == "default"
    assert chosen_of(other, unsteady, flat, looked_for=True) == "default", "an unsteady one has to be better than it"
    assert chosen_of(steady, default(*CLOSE, 0.8), flat, looked_for=True) == "default"
    assert chosen_of(steady, unsteady, looked_for=True) == "a", "also without the head alone"
    lost = default(*CLOSE) + [replace(row, status=Status.FAILED, test_score=None) for row in default(0.8)]
    assert chosen_of(best(0.9, 0.72, 0.82), lost, flat, looked_for=True) == "default", "all that ended have learned"
    weak = best(0.69, 0.7, 0.71, 0.7)
    assert chosen_of(weak, unsteady, flat, looked_for=True) == "default", "failed seeds leave it a mean of .725"
    learned = head(0.6, 0.6, 0.61, 0.6)
    assert chosen_of(weak, unsteady, learned, looked_for=True) != "a", "a head that learns does not change that"
    assert chosen_of(best(0.8), unsteady, looked_for=True) == "default", "one seed shows nothing"


@pytest.mark.parametrize("means_decide", [True, False])
def test_an_unsteady_default_gives_way_to_a_head_with_a_lower_mean_only_in_an_older_study(
    *, means_decide: bool
) -> None:
    """Its mean is .783, failed seed included."""
    unsteady, failing = default(0.9, 0.55, 0.9), best(0.8, 0.55, 0.82)
    facts = FACTS.model_copy(update={"steady": True, "means_decide": means_decide})

    def chosen_of(*rows: list[TrialResult]) -> str:
        choice = choose(rank_finals([each for some in rows for each in some], facts))
        assert choice is not None
        return choice.finalist.of

    kept = "default" if means_decide else "head"
    assert chosen_of(failing, unsteady, head(0.7, 0.72, 0.71)) == kept
    assert chosen_of(failing, unsteady, head(0.79, 0.8, 0.79)) == "head", "its mean is no lower"
    assert chosen_of(failing, default(0.875, 0.5, 0.875), head(0.75, 0.75, 0.75)) == "head", "the means are equal"
    assert chosen_of(best(0.8, 0.81, 0.8), unsteady, head(0.7, 0.72, 0.71)) == "a", "its mean is no lower than both"
    weak, better = best(0.75, 0.76, 0.75), best(0.99, 0.56, 0.99, 0.98, 0.97, 0.99)
    assert chosen_of(weak, unsteady, head(0.7, 0.72, 0.71)) == kept, "but its mean may not be lower"
    assert chosen_of(better, default(0.9, 0.55, 0.9), head(*[0.6, 0.61] * 3)) == ("default" if means_decide else "a")
    first, second, third = default(0.9, 0.72, 0.8)
    for status in (Status.DIVERGED, Status.OUT_OF_MEMORY):
        unscored = replace(third, status=status, score=None, test_score=None)
        rows = [failing, [first, second, unscored], head(0.7, 0.72, 0.71)]
        assert chosen_of(*rows) == "head", "a seed without a score has no part in the mean"


@pytest.mark.parametrize(("means_decide", "of"), [(True, "head"), (False, "default")])
def test_an_unsteady_head_gives_way_to_a_default_by_the_same_rule(*, means_decide: bool, of: str) -> None:
    facts = FACTS.model_copy(update={"steady": True, "means_decide": means_decide})
    choice = choose(rank_finals([*default(0.6, 0.61, 0.6), *head(0.9, 0.55, 0.9)], facts))
    assert choice is not None
    assert choice.finalist.of == of


def test_a_default_that_is_chosen_though_a_seed_of_it_did_not_learn_is_no_reason_of_its_own() -> None:
    lame = default(0.9, 0.92, 0.91, 0.9, 0.92, 0.55)
    choice = choose(rank_finals([*best(0.7, 0.55, 0.71), *lame, *head(*[0.6, 0.61] * 3)], FACTS))
    assert choice is not None
    assert choice.finalist.of == "default"
    assert choice.reason == "it is better than the head alone, on validation with 95 % confidence"


def test_a_finalist_of_which_a_seed_diverged_is_not_taken_over_a_steady_default() -> None:
    first, second, third = best(0.9, 0.91, 0.92)
    diverged = replace(third, status=Status.DIVERGED, score=None, test_score=None)
    low = head(0.6, 0.6, 0.61)
    assert chosen([first, second, diverged], default(*CLOSE), low) == "default"
    assert chosen([first, second, diverged], default(0.8, 0.55, 0.79), low) == "a", "nor is that default steady"


def test_finals_without_a_default_choose_their_winner_and_none_have_no_choice() -> None:
    rows = [best(0.9, 0.5, 0.9), best(0.7, 0.7, 0.71, name="b", number=2), head(0.95, 0.95, 0.95)]
    assert chosen(*rows) == "a"
    assert choose(rank_finals(head(0.9, 0.9), FACTS)) is None


def test_draws_of_the_examples_count_in_pairs() -> None:
    """Both vary much with the examples, but alike: then a small difference is seen, and else it is not."""
    drawn, alike, other = (0.7, 0.8, 0.9), (0.71, 0.81, 0.91), (0.91, 0.81, 0.71)

    def pair(draws: tuple[float, ...]) -> list[Finalist]:
        rows = [*best(0.81, 0.822, 0.8, validation_resampled=draws), *default(*CLOSE, validation_resampled=drawn)]
        return list(rank_finals(rows).finalists)

    assert is_better(*pair(alike), 0.95)
    assert not is_better(*pair(other), 0.95)


@pytest.mark.parametrize("scores", [(0.9,), (0.8, 0.8), (0.8, 0.8, 0.8)])
def test_one_seed_or_equal_scores_show_nothing(scores: tuple[float, ...]) -> None:
    same = default(*[0.8] * len(scores))
    assert chosen(best(*scores), same, head(*[0.6] * len(scores))) == "default"


def test_the_lower_bound_is_the_mean_where_nothing_is_known_of_its_chance() -> None:
    [one] = rank_finals(best(0.9, validation_resampled=())).finalists
    assert lower_bound(one, 0.95) == 0.9
    [three] = rank_finals(best(0.8, 0.9, 1.0, validation_resampled=())).finalists
    assert lower_bound(three, 0.95) == pytest.approx(0.9 - 2.92 * 0.1 / 3**0.5, abs=1e-4)


def test_more_seeds_are_for_those_whose_seeds_leave_the_best_open() -> None:
    def open_ones(*rows: list[TrialResult]) -> set[str]:
        return {each.of for each in contenders(rank_finals([each for some in rows for each in some], FACTS))}

    assert open_ones(best(0.9, 0.7, 0.8), default(*CLOSE), head(0.6, 0.61, 0.6)) == {"a", "default"}
    assert open_ones(best(0.9, 0.91, 0.92), default(*CLOSE), head(0.6, 0.61, 0.6)) == set(), "it is clear"
    assert open_ones(best(0.8, 0.805, 0.8), default(0.8, 0.8, 0.805)) == set(), "the difference is small"
    assert open_ones() == set()


def test_after_one_seed_each_whole_one_gets_another() -> None:
    one = [*best(0.9), *best(0.7, name="b", number=2), *head(0.6)]
    assert [each.of for each in contenders(rank_finals(one, FACTS))] == ["a", "b", "head"]
    lost = replace(best(0.9, 0.9, name="b", number=2)[1], status=Status.OUT_OF_MEMORY, score=None, test_score=None)
    assert [each.of for each in contenders(rank_finals([*one, lost], FACTS))] == ["a", "head"]


def test_without_draws_of_the_examples_nothing_is_shown_to_be_better_and_no_seed_would_help() -> None:
    """As of one's own metric that is too slow: seeds that look alike say nothing of the examples."""
    undrawn = best(0.9, 0.92, 0.91, validation_resampled=(), test_note="no interval: too slow")
    rows = [*undrawn, *default(*CLOSE, validation_resampled=()), *head(0.6, 0.6, 0.61)]
    finals = rank_finals(rows, FACTS)
    choice = choose(finals)
    assert choice is not None
    assert choice.finalist.of == "default"
    assert "no draws of the validation examples" in choice.reason
    assert contenders(finals) == ()


@pytest.mark.parametrize("unit", [1e-4, 1.0, 1e3])
def test_what_is_worth_more_seeds_does_not_depend_on_the_unit_of_a_metric_without_bounds(unit: float) -> None:
    """The constant answer scores -10 units. Of a best that scores -1, a difference that is open by .1 is small, and
    one that is open by 1.4 is not."""
    facts = FACTS.model_copy(update={"constant_score": -10 * unit})

    def open_ones(*losses: float) -> set[str]:
        first = repeats("a", [-unit * loss for loss in losses], [0.5] * 3, number=1, metrics={"mse": 1.0})
        second = repeats("b", [-unit * loss for loss in (1.0, 1.1, 0.9)], [0.5] * 3, number=2, metrics={"mse": 1.0})
        return {each.of for each in contenders(rank_finals(with_draws([*first, *second]), facts))}

    assert open_ones(1.0, 1.0, 0.9) == set()
    assert open_ones(0.5, 2.0, 0.4) == {"a", "b"}


def test_a_default_that_failed_with_every_seed_leaves_the_head_to_compare_with() -> None:
    failed = [replace(each, status=Status.DIVERGED, score=None, test_score=None) for each in default(*CLOSE)]
    assert chosen(best(0.7, 0.75, 0.6), failed, head(0.72, 0.73, 0.72)) == "head"
    assert chosen(best(0.9, 0.92, 0.91), failed, head(0.72, 0.73, 0.72)) == "a"


def test_a_default_of_which_no_training_has_ended_is_said_to_be_missing() -> None:
    begun = [replace(each, status=Status.INTERRUPTED) for each in default(*CLOSE)]

    def reason(*rows: list[TrialResult]) -> str:
        finals = rank_finals([each for some in rows for each in some], FACTS)
        assert finals.compares
        choice = choose(finals)
        assert choice is not None
        return f"{choice.finalist.of}: {choice.reason}"

    missing = "no training of the default configuration has ended"
    winner, low = best(0.9, 0.92, 0.91), head(0.6, 0.6, 0.61)
    assert reason(winner, begun) == f"a: {missing}"
    assert reason(winner, begun, low).startswith("a: it is better than the head alone, on validation")
    assert reason(winner, begun, head(0.92, 0.9, 0.91)).startswith("head: no other is shown to be better")
    assert reason(winner, begun, low).endswith(f"; {missing}")
    assert missing not in reason(winner, [default(0.8)[0], *begun[1:]], low)


def test_a_default_that_lost_seeds_is_not_compared_with() -> None:
    whole = default(*CLOSE)
    lost = [replace(each, status=Status.OUT_OF_MEMORY, score=None, test_score=None) for each in whole[1:]]
    assert chosen(best(0.9, 0.92, 0.91), [whole[0], *lost], head(0.6, 0.6, 0.61)) == "a"


def test_a_finalist_that_lost_seeds_comes_after_whole_ones_in_the_race_for_more() -> None:
    first, *others = best(0.95, 0.95, 0.95)
    lost = [replace(each, status=Status.OUT_OF_MEMORY, score=None, test_score=None) for each in others]
    whole, equal = best(0.9, 0.7, 0.8, name="b", number=2), default(0.8, 0.81, 0.79)
    assert [each.of for each in contenders(rank_finals([first, *lost, *whole, *equal], FACTS))] == ["default", "b"]


def test_seeds_beyond_those_of_all_are_no_advantage() -> None:
    rows = [*best(0.9, 0.91, 0.9), *default(0.79, 0.8, 0.8, 0.79), *head(0.6, 0.6, 0.6)]
    held = rank_finals(rows, FACTS)
    assert [each.of for each in held.finalists] == ["a", "default"]
