"""Tests when a task's search ends by itself, and that it stands by that when it is resumed."""

import random
from dataclasses import replace
from statistics import fmean

import pytest

from krona_tune.refusal import Refusal
from krona_tune.search.progress.trials_left import not_begun
from krona_tune.study.manifest import PlanFacts
from krona_tune.study.request.loader import build_spec
from krona_tune.study.request.search_spec import SearchSpec
from krona_tune.study.request.study_spec import FinalistsSpec, StudySpec
from krona_tune.study.result import Status, TrialResult
from krona_tune.study.search_end import SearchEnd, expected_gain, search_end
from tests.record.events import ended, report, started
from tests.search.ledgers import ledger

FLAT = (0.5, 0.71, 0.7, 0.702, 0.701, 0.7)
STEEP = (0.1, 0.2, 0.3, 0.5, 0.8, 0.4)


def search(trials: int = 30, **changed: object) -> SearchSpec:
    return SearchSpec.model_validate({"trials": trials, "stop": "auto", **changed}).settled(several_methods=False)


def rows(scores: tuple[float | None, ...], task: str = "cola") -> list[TrialResult]:
    found = []
    for number, score in enumerate(scores):
        trial = started(number, task)
        last = [] if score is None else [report(trial, 2, score)]
        found.append(ended(trial, Status.DIVERGED if score is None else Status.COMPLETED, last))
    return found


def test_the_expected_gain_is_that_of_exponential_draws() -> None:
    draw = random.Random(3)
    foretold, seen = [], []
    for _ in range(600):
        scores = [draw.expovariate(8.0) for _ in range(24)]
        foretold.append(expected_gain(sorted(scores, reverse=True), 12) or 0.0)
        seen.append(max(0.0, max(draw.expovariate(8.0) for _ in range(12)) - max(scores)))
    assert fmean(foretold) == pytest.approx(fmean(seen), rel=0.15)


def test_a_search_goes_on_while_its_best_trials_differ_and_ends_when_they_are_alike() -> None:
    assert search_end(search(), rows(STEEP), "cola") is None
    end = search_end(search(), rows(FLAT), "cola")
    assert end
    assert (end.begun, end.asked) == (6, 30)
    assert end.gain < 0.02
    assert end.text("CoLA").startswith("The search of CoLA ended by itself with 6 of 30 trials")
    assert search_end(search(), rows(FLAT), "rte") is None
    assert search_end(search(least_gain=1e-4), rows(FLAT), "cola") is None


def test_only_who_asks_for_it_has_it_and_more_trials_lift_it() -> None:
    assert search_end(SearchSpec(trials=30).settled(several_methods=False), rows(FLAT), "cola") is None
    begun = search()
    assert begun.stop_trials == 30
    assert search_end(begun.model_copy(update={"trials": 40}), rows(FLAT), "cola") is None


def test_what_ended_after_the_end_changes_nothing() -> None:
    after = search_end(search(), rows((*FLAT[:5], 0.99, 0.2)), "cola")
    before = search_end(search(), rows(FLAT[:5]), "cola")
    assert after == SearchEnd(begun=7, asked=30, gain=pytest.approx(0.005 * sum(1 / n for n in range(6, 31))))
    assert before
    assert (before.begun, before.gain) == (5, after.gain)
    best_first = [replace(row, ended_at=1.0) if row.score == 0.99 else row for row in rows((*FLAT[:5], 0.99))]
    assert search_end(search(), best_first, "cola") is None, "trials count in the order in which they ended"


@pytest.mark.parametrize(
    "scores",
    [
        (0.5, None, None, None, None),
        (None,) * 8,
        (0.0,) * 6,
        (0.5, 0.527, 0.527, 0.4, 0.527),
        *((equal,) * 15 for equal in (0.1, 0.554, 0.7)),  # whose means are not equal to them
    ],
)
def test_failures_and_equal_scores_end_nothing(scores: tuple[float | None, ...]) -> None:
    assert search_end(search(), rows(scores), "cola") is None


@pytest.mark.parametrize("score", [None, 0.1, 0.95])
def test_a_retried_trial_does_not_let_an_ended_search_go_on(score: float | None) -> None:
    """It failed third; now it runs, or has ended after all others."""
    book, _ = ledger()
    third = rows(FLAT)[2].trial_id
    for each in rows((*FLAT[:2], None, *FLAT[2:])):
        failed = replace(each, status=Status.FAILED) if each.score is None else each
        book.rows[each.trial_id] = replace(failed, ended_at=100.0 + each.number)
    end = search_end(search(), book.rows.values(), "cola")
    assert end
    book.reopened(third)
    again = book.rows[third]
    assert again.failed_at == 102.0
    if score is not None:
        book.rows[third] = replace(again, status=Status.COMPLETED, score=score, ended_at=200.0)
    assert search_end(search(), book.rows.values(), "cola") == end


def test_nothing_is_gained_above_the_highest_score_that_there_is() -> None:
    perfect = [replace(row, metrics={"accuracy": row.score or 0.0}) for row in rows((0.9, 1.0, 1.0, 1.0, 1.0))]
    end = search_end(search(), perfect, "cola")
    assert end
    assert end.gain == 0
    assert search_end(search(), [replace(row, metrics={"my_own": 1.0}) for row in perfect], "cola") is None


def test_failures_between_scores_count_as_trials_that_add_nothing() -> None:
    assert search_end(search(), rows((None, *FLAT, None)), "cola")


def test_a_search_that_has_begun_all_its_trials_has_not_ended_by_itself() -> None:
    assert search_end(search(trials=6), rows(FLAT), "cola") is None
    assert search_end(search(trials=7), rows(FLAT), "cola")


def request(**search_keys: object) -> StudySpec:
    wanted = {"model": "m", "tasks": ["cola", "rte"], "search": {"trials": 30, "stop": "auto", **search_keys}}
    return build_spec(wanted, "x.yaml").settled()


def test_the_trials_that_an_ended_search_leaves_out_are_not_waited_for() -> None:
    wanted = request(repeats={"points": 8, "seeds": 1}).model_copy(update={"finalists": FinalistsSpec(top=8, seeds=1)})
    of_six = request(trials=6, stop=None, repeats={"points": 8, "seeds": 1}).model_copy(
        update={"finalists": wanted.finalists}
    )
    left, whole = (not_begun(each, PlanFacts(), rows(FLAT)) for each in (wanted, of_six))
    assert left["cola"] == whole["cola"] < left["rte"]


@pytest.mark.parametrize("other", [{"per_method": True}, {"shared": True}, {"objective": "pareto"}])
def test_a_search_that_is_not_by_task_is_refused(other: dict[str, object]) -> None:
    with pytest.raises(Refusal, match=r"search\.stop.*needs one search a task"):
        request(**other)
    with pytest.raises(Refusal, match="least_gain"):
        request(least_gain=0)
