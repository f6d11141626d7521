"""Tests what a driver does with its trials, and what it says between its phases."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console

from krona_tune.record.sink import FanOut
from krona_tune.search import budget, driver
from krona_tune.search.budget import Amount, Budget, StudyClock
from krona_tune.search.driver import Driver, TrialLoop, await_slots, cut_short, left_over
from krona_tune.search.driver_options import DriverOptions
from krona_tune.search.searchers.task_searcher import StudySearcher
from krona_tune.search.startup.cluster import Slots
from krona_tune.search.study_orders import StudyOrders
from krona_tune.search.study_records import OpenRecords
from krona_tune.search.study_stopper import StudyStopper
from krona_tune.search.trial_message import StepResult, TrialMessage
from krona_tune.study.folder import StudyFolder
from krona_tune.study.result import Status
from tests.record.events import curve, manifest
from tests.search.ledgers import config, ledger
from tests.search.plans import plan
from tests.train.conftest import tiny_work


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


class Killed(BaseException):
    """The driver is killed."""


class Records(FanOut):
    """The sinks of a driver that keeps its records in the study's folder only."""

    unrecorded = ""

    def __init__(self, opened: OpenRecords, *of: object) -> None:
        super().__init__([opened.sink])


def test_a_study_that_is_killed_again_and_again_before_its_first_rung_uses_up_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, folder = [1000.0], StudyFolder(tmp_path)
    monkeypatch.setattr(budget.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(driver, "StudySinks", Records)

    def train_for_a_minute(phase: object, loop: TrialLoop, **of: object) -> None:
        for _ in range(60):
            now[0] += 1
            loop.obey()
        raise Killed

    monkeypatch.setattr(driver, "tune_trials", train_for_a_minute)
    facts = manifest("cola", "rte")
    context: Any = SimpleNamespace(
        plan=plan(),
        folder=folder,
        manifest=facts,
        price=None,
        slots=Slots(count=1, cpus=1, gpus=0),
        prepared=SimpleNamespace(works=dict.fromkeys(facts.tasks, tiny_work()), facts=facts.tasks),
        workplace=lambda folder: None,
    )
    for drivers in (1, 2):
        with pytest.raises(Killed):
            Driver(context, DriverOptions(), None, Console(quiet=True)).run(lambda folder: folder)
        assert 60 * drivers >= StudyClock(folder.clock).seconds() > 60 * drivers - 2 * budget.SAVE_SECONDS
