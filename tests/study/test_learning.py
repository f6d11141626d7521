"""Tests which seeds are said not to have learned, and whether what won is above the constant answer."""

from collections.abc import Sequence
from dataclasses import replace
from math import nan, sqrt
from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import strategies as st

from krona_tune.study.learning import FailureRate, Learned, learned_more, quantile_of_best, unlearned, validation_error
from krona_tune.study.result import TrialResult
from tests.record.events import manifest
from tests.study.final_rows import repeats

FACTS = manifest("rte").tasks["rte"]
"""100 validation examples, of which a constant answer has .55."""


def seeds(*scores: float) -> list[TrialResult]:
    return [replace(each, metrics={"accuracy": each.score or 0.0}) for each in repeats("a", scores, scores)]


def scores_of(rows: Sequence[TrialResult]) -> list[float | None]:
    return [row.score for row in rows]


def test_the_validation_error_comes_from_the_draws_for_any_metric() -> None:
    """90 test examples with a deviation of .1 are 100 validation examples with one of .1·√(90/100)."""
    drawn = replace(seeds(0.8)[0], test_resampled=(0.7, 0.8, 0.9, nan), test_examples=90, metrics={"own": 0.8})
    assert validation_error(drawn, FACTS) == pytest.approx(0.1 * sqrt(0.9))
    assert validation_error(replace(drawn, test_resampled=()), FACTS) is None
    assert validation_error(drawn, FACTS.model_copy(update={"compared_by_loss": True})) is None


@pytest.mark.parametrize(
    ("scores", "named"),
    [
        ((0.55, 0.9, 0.92), [0.55]),
        ((0.5, 0.56, 0.92), [0.5, 0.56]),
        ((0.8, 0.9, 0.92), []),  # all are above
        ((0.55, 0.5, 0.56), []),  # none is above: the configuration did not learn
        ((0.64, 0.68), []),  # .64 reaches down to .55, but also up to .68
    ],
)
def test_a_seed_did_not_learn_if_it_reaches_down_to_the_constant_answer_and_another_is_above(
    scores: tuple[float, ...], named: list[float]
) -> None:
    """An accuracy of .55 with 100 examples reaches .10 up and down."""
    assert scores_of(unlearned(seeds(*scores), FACTS)) == named


def test_nothing_is_named_where_the_constant_answer_has_no_score() -> None:
    facts = FACTS.model_copy(update={"constant_score": nan})
    assert unlearned(seeds(0.5, 0.9), facts) == ()
    assert learned_more(seeds(0.5), facts) is None


def test_no_seed_is_named_where_no_error_of_a_score_is_known() -> None:
    rows = repeats("a", (0.549, 0.56, 0.9), (0.5, 0.5, 0.5))
    assert unlearned([replace(row, metrics={"own": row.score or 0.0}) for row in rows], FACTS) == ()


@pytest.mark.parametrize(
    ("failed", "of", "low", "high"),
    [(1, 3, 0.0084, 0.9057), (2, 5, 0.0527, 0.8534), (0, 3, 0.0, 0.7076), (3, 3, 0.2924, 1.0)],
)
def test_the_interval_of_a_failure_rate_is_exact(failed: int, of: int, low: float, high: float) -> None:
    assert FailureRate(failed=failed, seeds=of).interval == (
        pytest.approx(low, abs=1e-4),
        pytest.approx(high, abs=1e-4),
    )


@pytest.mark.parametrize(
    ("scores", "found"),
    [
        ((0.55,), Learned.NOTHING),
        ((0.5503, 0.5503), Learned.NOTHING),  # +0.000
        ((0.4, 0.5), Learned.NOTHING),
        ((0.6,), Learned.UNSHOWN),
        ((0.56, 0.95), Learned.UNSHOWN),  # two seeds that differ so much
        ((0.8,), Learned.YES),
        ((0.8, 0.82, 0.81), Learned.YES),
    ],
)
def test_what_won_is_held_against_the_constant_answer(scores: tuple[float, ...], found: Learned) -> None:
    assert learned_more(seeds(*scores), FACTS) is found


@pytest.mark.parametrize(("score", "found"), [(0.0, Learned.YES), (-0.0001, Learned.YES), (-0.0002, Learned.NOTHING)])
def test_a_metric_in_small_units_may_have_gained_less_than_three_decimals_show(score: float, found: Learned) -> None:
    """The squared error of labels from 0 to .05; the constant answer has .0002."""
    facts = FACTS.model_copy(update={"constant_score": -0.0002})
    drawn = tuple(score + of for of in (-1e-5, 0.0, 1e-5))
    [small] = repeats("a", (score,), (score,), metrics={"mse": -score}, validation_resampled=drawn)
    assert learned_more([small], facts) is found


def test_of_a_metric_without_a_known_error_nothing_is_shown_without_draws() -> None:
    own = [replace(each, metrics={"own": 0.9}) for each in seeds(0.9, 0.91, 0.9)]
    assert learned_more(own, FACTS) is learned_more(own[:1], FACTS) is Learned.UNSHOWN
    drawn = [replace(each, validation_resampled=(0.89, 0.9, 0.91)) for each in own]
    assert learned_more(drawn, FACTS) is learned_more(drawn[:1], FACTS) is Learned.YES


def test_few_seeds_are_judged_by_students_t() -> None:
    """Two seeds are 10 standard errors of their mean above, and Student's t of one degree of freedom asks for 12.7."""
    two = [replace(each, validation_resampled=(each.score,) * 3) for each in seeds(0.64, 0.66, 0.65)]
    assert learned_more(two[:2], FACTS) is Learned.UNSHOWN
    assert learned_more(two, FACTS) is Learned.YES


@given(trials=st.integers(1, 100))
def test_the_best_of_trials_that_learn_nothing_is_rarely_above(trials: int) -> None:
    above = 1 - NormalDist().cdf(quantile_of_best(trials))
    assert 1 - (1 - above) ** trials <= 0.025 + 1e-9


def test_a_perfect_score_on_a_few_examples_that_chance_gives_is_not_shown() -> None:
    """One of a hundred coins falls right four times in most cases."""
    few = FACTS.model_copy(update={"validation_examples": 4, "constant_score": 0.5})
    assert learned_more(seeds(1.0), few, 100) is Learned.UNSHOWN
    assert learned_more(seeds(1.0), FACTS, 100) is Learned.YES
    lucky = [replace(each, metrics={"matthews": 1.0}) for each in seeds(1.0)]
    assert learned_more(lucky, few.model_copy(update={"constant_score": 0.0}), 100) is Learned.UNSHOWN
    assert learned_more(lucky, FACTS.model_copy(update={"constant_score": 0.0}), 100) is Learned.YES


@pytest.mark.parametrize(("examples", "found"), [(5, Learned.UNSHOWN), (200, Learned.YES)])
def test_seeds_that_answer_few_examples_rightly_are_not_shown_to_have_learned(examples: int, found: Learned) -> None:
    """No draw of the examples varies then."""
    facts = FACTS.model_copy(update={"validation_examples": examples, "constant_score": 0.8})
    perfect = [replace(each, validation_resampled=(1.0,) * 100) for each in seeds(1.0, 1.0, 1.0)]
    assert learned_more(perfect, facts) is found


@pytest.mark.parametrize("metric", ["matthews", "mine:kappa"])
def test_a_seed_that_answers_all_alike_did_not_learn_though_its_draws_do_not_vary(metric: str) -> None:
    facts = FACTS.model_copy(update={"validation_examples": 60, "constant_score": 0.0})
    rows = [replace(each, metrics={metric: each.score or 0.0}) for each in seeds(0.0, 0.67, 0.63)]
    noise = NormalDist(sigma=0.1).samples(100, seed=0)
    rows = [
        replace(each, validation_resampled=tuple((each.score or 0.0) + bool(each.score) * more for more in noise))
        for each in rows
    ]
    assert scores_of(unlearned(rows, facts)) == [0.0]


def test_without_rows_or_facts_it_is_not_known_what_was_learned() -> None:
    assert learned_more([], FACTS) is None
    assert learned_more(seeds(0.5), None) is None
