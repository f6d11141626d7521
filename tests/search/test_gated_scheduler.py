"""Tests that trials pause at a rung while fewer may run, continue when more may, and end if somebody stops them."""

from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler

from krona_tune.search.searchers.asha import CONTINUE, STOP
from krona_tune.search.searchers.task_searcher import Gate, GatedSearcher
from krona_tune.search.tune_host import PAUSE, GatedScheduler
from krona_tune.study.result import Status


class Tune:
    """Takes the place of Tune's controller: trials with states, and those that it was told to stop."""

    def __init__(self, *states: str) -> None:
        self.trials = [SimpleNamespace(trial_id=f"t{number}", status=state) for number, state in enumerate(states)]
        self.stopped: list[str] = []
        self.released = 0
        self._running_trials = [trial for trial in self.trials if trial.status == Trial.RUNNING]
        self._pending_trials = [trial for trial in self.trials if trial.status == Trial.PENDING]
        self._paused_trials = [trial for trial in self.trials if trial.status == Trial.PAUSED]
        self._actor_manager = Workers()

    def _cleanup_cached_actors(self, force_all: bool) -> None:
        self.released += force_all

    def get_trials(self) -> list[Any]:
        return self.trials

    def stop_trial(self, trial: Any) -> None:
        self.stopped.append(trial.trial_id)
        trial.status = Trial.TERMINATED


class Workers:
    """Takes the place of what holds the workers: one is about to end, which is known when somebody listens."""

    num_live_actors = 1

    def next(self, timeout: float) -> None:
        self.num_live_actors = 0


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


@pytest.mark.parametrize(
    ("states", "most", "released", "heard"),
    [
        ([Trial.RUNNING, Trial.PAUSED], 2, 0, False),
        ([Trial.RUNNING, Trial.PAUSED], 1, 1, False),
        ([Trial.PAUSED], 0, 1, False),
        ([Trial.TERMINATED], 0, 1, True),  # Tune hears nothing while it waits for the searcher alone
        ([], 0, 1, True),
    ],
)
def test_idle_workers_give_back_what_nobody_may_use(states: list[str], most: int, released: int, heard: bool) -> None:
    tune, gate = Tune(*states), Gate(most)
    GatedScheduler(FIFOScheduler(), gate).choose_trial_to_run(tune)
    assert (tune.released, not tune._actor_manager.num_live_actors) == (released, heard)
    searcher = Known([], lambda *told: Status.COMPLETED, {})
    searcher.gate = gate
    searcher.suggest("t9")
    assert tune.released == released + (most == 0), "a worker that the next trial needs must stay"


class Known(GatedSearcher):
    """A searcher that proposes nothing."""

    exhausted = False

    def propose(self) -> None:
        return None

    def forget(self, message: Any) -> None: ...

    def tell_end(self, message: Any, status: Status, result: Any) -> None: ...


def test_a_paused_trial_that_somebody_stopped_ends_without_running() -> None:
    class Stop(Gate):
        def stopped(self, tune_id: str) -> bool:
            return tune_id == "t1"

    tune = Tune(Trial.RUNNING, Trial.PAUSED, Trial.PAUSED)
    assert GatedScheduler(FIFOScheduler(), Stop(0)).choose_trial_to_run(tune) is None
    assert tune.stopped == ["t1"]
