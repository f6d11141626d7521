"""What ends a study before its end, and what becomes of the trials that were under way."""

from krona_tune.search.budget import Amount, Budget
from krona_tune.search.stopping import Stopping
from krona_tune.study.result import Status


def stopping() -> Stopping:
    return Stopping(Budget(), lambda seconds: Amount())


def test_a_trial_that_could_not_keep_its_state_ends_the_study() -> None:
    study = stopping()
    assert not study("cola-000", {"score": 0.5})
    assert not study("cola-001", {"status": "failed", "error": "KeyError", "done": True})
    assert not study.stop_all()
    study("cola-002", {"status": "interrupted", "error": "no room for cola-002", "done": True})
    study("cola-003", {"status": "interrupted", "error": "no room for cola-003", "done": True})
    assert study.stop_all()
    assert study.halted == "no room for cola-002"


def test_trials_that_were_under_way_when_the_study_was_halted_are_interrupted() -> None:
    study, at_a_rung = stopping(), {"score": 0.5}
    assert study.verdict(at_a_rung, False) is Status.STOPPED_EARLY
    study.halt("the records could not be kept")
    assert study.verdict(at_a_rung, False) is Status.INTERRUPTED
    assert study.verdict({"status": "completed", "score": 0.5}, False) is Status.COMPLETED
