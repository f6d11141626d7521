"""Pauses trials at their next rung while fewer may run than do, and lets them continue when more may."""

import time
from functools import partial
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from krona_tune.search.ray_internals import release_idle_workers
from krona_tune.search.schedulers.asha import CONTINUE
from krona_tune.search.searchers.gated_searcher import Gate

IDLE_SECONDS = 0.1
PAUSE = str(TrialScheduler.PAUSE)


class GatedScheduler(FIFOScheduler):  # type: ignore[misc]
    """A scheduler that decides like another one, as far as the gate lets trials run.

    A paused trial's state is that of its last rung: it continues from there, on any worker.
    """

    def __init__(self, inner: TrialScheduler, gate: Gate) -> None:
        super().__init__()
        self._inner, self._gate = inner, gate

    def __getstate__(self) -> dict[str, Any]:
        """Returns nothing: Tune pickles its driver's objects, but a resumed study is rebuilt from its records."""
        return {}

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        decision = str(self._inner.on_trial_result(tune_controller, trial, result))
        return PAUSE if decision == CONTINUE and _running(tune_controller) > self._gate.slots() else decision

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Returns a trial to start or to continue, or None; ends the paused trials that somebody stopped."""
        for trial in tune_controller.get_trials():
            if trial.status == Trial.PAUSED and self._gate.stopped(trial.trial_id):
                tune_controller.stop_trial(trial)
        running = _running(tune_controller)
        self._gate.release = partial(release_idle_workers, tune_controller)
        if running >= self._gate.slots():
            self._gate.release()
            if not running:
                time.sleep(IDLE_SECONDS)  # with nothing to wait for, Tune would ask again at once
            return None
        return super().choose_trial_to_run(tune_controller)


def _running(tune_controller: Any) -> int:
    return sum(trial.status == Trial.RUNNING for trial in tune_controller.get_trials())
