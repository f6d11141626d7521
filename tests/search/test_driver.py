"""Tests what a driver does with its trials, and what it says between its phases."""

from typing import Any, cast

import pytest

from krona_tune.search.budget import Amount, Budget
from krona_tune.search.driver import TrialLoop, await_slots, cut_short, left_over
from krona_tune.search.searchers.task_searcher import StudySearcher
from krona_tune.search.study_orders import StudyOrders
from krona_tune.search.study_stopper import StudyStopper
from krona_tune.search.trial_message import StepResult, TrialMessage
from krona_tune.study.result import Status
from tests.record.events import curve
from tests.search.ledgers import config, ledger


@pytest.fixture
def loop() -> TrialLoop:
    return TrialLoop(ledger=ledger()[0], stopper=StudyStopper(Budget(), Amount), changed=lambda: None)


def test_a_trial_that_another_worker_goes_on_with_is_begun_once(loop: TrialLoop) -> None:
    loop.start(config(0))
    began = loop.ledger.rows["cola-000"]
    loop.start(config(0))
    assert loop.ledger.rows["cola-000"] is began


def test_a_trial_that_diverges_between_two_rungs_has_the_end_of_its_curve_in_its_row(loop: TrialLoop) -> None:
    loop.start(config(0))
    end = StepResult(status=Status.DIVERGED, error="the training loss is inf", curve=curve(0.9, 4.5))
    loop.end(config(0), "tune0", end.to_dict())
    row = loop.ledger.rows["cola-000"]
    assert (row.status, row.error, row.curve) == (Status.DIVERGED, "the training loss is inf", curve(0.9, 4.5))


def test_a_trial_whose_worker_took_too_much_memory_says_how_large_it_was(loop: TrialLoop) -> None:
    loop.lose(config(0, batch_size=64), "tune0", "Ray ended the worker", out_of_memory=True)
    row = loop.ledger.rows["cola-000"]
    assert row.status is Status.OUT_OF_MEMORY
    assert row.error.startswith("Ray ended the worker; batches of 64; ")


@pytest.mark.parametrize(
    ("limit", "left", "said"),
    [
        (1, 0, ""),
        (1, 1, "The budget of seconds ended the search with 1 trial to go."),
        (1, 3, "The budget of seconds ended the search with 3 trials to go."),
        (9, 3, ""),
    ],
)
def test_a_search_that_has_just_ended_is_not_said_to_be_cut_short(limit: float, left: int, said: str) -> None:
    stopper = StudyStopper(Budget(seconds=limit), lambda: Amount(seconds=2))
    assert cut_short(stopper, left) == said


@pytest.mark.parametrize(("limit", "how"), [(1, "is resumed with a longer time budget."), (9, "is resumed.")])
def test_finals_that_are_left_are_said_to_need_more_time_where_it_is_used_up(limit: float, how: str) -> None:
    stopper = StudyStopper(Budget(seconds=limit), lambda: Amount(seconds=2))
    assert left_over(stopper, 2, 6, "finalists") == (
        f"Stopped with 2 of 6 finalists to go; they are trained when the study {how}"
    )


@pytest.mark.parametrize("left", [[], [config(0)]])
def test_a_study_whose_trials_may_not_run_waits_only_while_some_are_left(left: list[TrialMessage]) -> None:
    stopper = StudyStopper(Budget(), Amount)

    class Paused:
        looks = 0

        def slots(self) -> int:
            return 0

        def look(self) -> None:
            self.looks += 1
            stopper.ask("cancelled")

    paused: Any = Paused()
    await_slots(cast(StudyOrders, paused), StudySearcher(left, {}, {}, stopper.verdict, {}), stopper)
    assert paused.looks == len(left)
