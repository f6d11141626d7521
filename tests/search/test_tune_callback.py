"""Tests that what Tune says about trials is recorded, or that the study stops and gives the reason."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from krona_tune.search.budget import Amount, Budget
from krona_tune.search.driver import TrialLoop
from krona_tune.search.ledger import Ledger
from krona_tune.search.study_stopper import StudyStopper
from krona_tune.search.tune_host import Recorder
from krona_tune.study.result import Status
from tests.search.ledgers import config, ledger


def tuned(number: int, result: dict[str, Any] | None = None) -> Any:
    """Returns a trial as Tune's callbacks see it."""
    return SimpleNamespace(trial_id=f"tune{number}", config=config(number).to_dict(), last_result=result)


def recorder_of(book: Ledger, stopping: StudyStopper, changed: Callable[[], None] = lambda: None) -> Recorder:
    return Recorder(TrialLoop(ledger=book, stopper=stopping, changed=changed))


@pytest.fixture
def book() -> Ledger:
    return ledger()[0]


@pytest.fixture
def stopping() -> StudyStopper:
    return StudyStopper(Budget(), Amount)


def test_a_trial_is_recorded_from_its_start_to_its_end(book: Ledger, stopping: StudyStopper) -> None:
    shown: list[int] = []
    recorder = recorder_of(book, stopping, lambda: shown.append(len(book.running)))
    recorder.on_trial_start(0, [], tuned(0))
    recorder.on_trial_complete(0, [], tuned(0, {"status": "completed", "score": 0.5}))
    assert book.rows["cola-000"].status is Status.COMPLETED
    assert shown == [1, 0]


def test_an_event_that_can_not_be_recorded_halts_the_study(book: Ledger, stopping: StudyStopper) -> None:
    recorder = recorder_of(book, stopping)
    recorder.on_trial_start(0, [], tuned(0))
    recorder.on_trial_result(0, [], tuned(0), {"report": {"odd": 1}, "checkpoint": ""})
    assert stopping.halted.startswith("the event on_trial_result could not be recorded: TypeError: ")
    recorder.on_trial_complete(0, [], tuned(0, {"score": 0.5}))
    assert book.rows["cola-000"].status is Status.INTERRUPTED


def test_an_error_of_the_view_does_not_stop_the_study(book: Ledger, stopping: StudyStopper) -> None:
    def broken() -> None:
        raise KeyError("a flaw of the view")

    recorder_of(book, stopping, broken).on_trial_start(0, [], tuned(0))
    assert book.running == {"cola-000"}
    assert not stopping.interrupted


def test_a_run_that_was_abandoned_records_nothing_more(book: Ledger, stopping: StudyStopper) -> None:
    recorder = recorder_of(book, stopping)
    recorder.on_trial_start(0, [], tuned(0))
    recorder.close()
    recorder.on_trial_error(0, [], tuned(0))
    recorder.on_trial_start(0, [], tuned(1))
    assert book.running == set(book.rows) == {"cola-000"}


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError(), "ValueError"),
        (ValueError(" \n"), "ValueError"),
        (KeyError("first\nlast"), "KeyError: 'first\\nlast'"),
        (OSError("a trace\n\nlast \n"), "OSError: last"),
        (None, "the worker was lost"),
    ],
)
def test_an_error_of_a_trial_is_recorded_whatever_it_says(
    book: Ledger, stopping: StudyStopper, error: Exception | None, said: str
) -> None:
    failed = tuned(0)
    failed.pickled_error_file, failed.get_pickled_error = "there", lambda: error
    recorder_of(book, stopping).on_trial_error(0, [], failed)
    assert not stopping.halted
    assert (book.rows["cola-000"].status, book.rows["cola-000"].error) == (Status.FAILED, said)
