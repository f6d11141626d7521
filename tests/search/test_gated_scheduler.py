"""Tests that trials pause at a rung while fewer may run, continue when more may, and end if somebody stops them."""

from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler

from krona_tune.search.schedulers.asha import CONTINUE, STOP
from krona_tune.search.schedulers.gated_scheduler import PAUSE, GatedScheduler
from krona_tune.search.searchers.gated_searcher import Gate


class Tune:
    """Takes the place of Tune's controller: trials with states, and those that it was told to stop."""

    def __init__(self, *states: str) -> None:
        self.trials = [SimpleNamespace(trial_id=f"t{number}", status=state) for number, state in enumerate(states)]
        self.stopped: list[str] = []

    def get_trials(self) -> list[Any]:
        return self.trials

    def stop_trial(self, trial: Any) -> None:
        self.stopped.append(trial.trial_id)
        trial.status = Trial.TERMINATED


class Stopping(FIFOScheduler):
    """Stops every trial."""

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        return STOP


@pytest.mark.parametrize(("most", "decision"), [(0, PAUSE), (1, PAUSE), (2, CONTINUE), (3, CONTINUE)])
def test_a_trial_pauses_if_more_run_than_may(most: int, decision: str) -> None:
    tune = Tune(Trial.RUNNING, Trial.RUNNING, Trial.PAUSED, Trial.TERMINATED)
    assert GatedScheduler(FIFOScheduler(), Gate(most)).on_trial_result(tune, tune.trials[0], {}) == decision
    assert GatedScheduler(Stopping(), Gate(most)).on_trial_result(tune, tune.trials[0], {}) == STOP


def test_a_paused_trial_continues_when_there_is_room() -> None:
    tune = Tune(Trial.RUNNING, Trial.PAUSED)
    assert GatedScheduler(FIFOScheduler(), Gate(1)).choose_trial_to_run(tune) is None
    assert GatedScheduler(FIFOScheduler(), Gate(2)).choose_trial_to_run(tune) is tune.trials[1]
    assert GatedScheduler(FIFOScheduler(), Gate(0)).choose_trial_to_run(Tune(Trial.PENDING)) is None


def test_a_paused_trial_that_somebody_stopped_ends_without_running() -> None:
    class Stop(Gate):
        def stopped(self, tune_id: str) -> bool:
            return tune_id == "t1"

    tune = Tune(Trial.RUNNING, Trial.PAUSED, Trial.PAUSED)
    assert GatedScheduler(FIFOScheduler(), Stop(0)).choose_trial_to_run(tune) is None
    assert tune.stopped == ["t1"]
