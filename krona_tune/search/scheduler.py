"""One ASHA a task, so that an easy task's scores never stop a hard task's trials."""

from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from krona_tune.study.result import Report
from krona_tune.study.schedule import Schedule


class AshaPerTask(FIFOScheduler):
    """Ray's ASHA for each task's searched trials; baselines run to their end.

    Trials report exactly at ASHA's rungs, grace·ηᵏ examples, so each report counts at its own rung.
    """

    def __init__(self, schedules: dict[str, Schedule]) -> None:
        super().__init__()
        self._ashas = {
            task: AsyncHyperBandScheduler(
                time_attr="examples",
                metric="score",
                mode="max",
                grace_period=schedule.rungs[0],
                max_t=schedule.total_examples,
                reduction_factor=schedule.reduction,
            )
            for task, schedule in schedules.items()
        }

    def replay(self, reports: list[Report]) -> None:
        """Puts earlier reports of the study at their rungs again, so that a resumed study judges as before."""
        for report in reports:
            trial: Any = SimpleNamespace(trial_id=f"earlier {report.trial_id}")
            asha = self._ashas[report.task]
            asha.on_trial_add(None, trial)
            asha.on_trial_result(None, trial, {"examples": report.examples, "score": report.score})

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        if asha := self._asha(trial):
            asha.on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        asha = self._asha(trial)
        return asha.on_trial_result(tune_controller, trial, result) if asha else TrialScheduler.CONTINUE

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Nothing: the full budget judges nobody, and ASHA would put its score at a rung that the trial skipped."""

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        if asha := self._asha(trial):
            asha.on_trial_remove(tune_controller, trial)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Nothing to take back: its earlier reports stay at their rungs."""

    def debug_string(self) -> str:
        return ""

    def _asha(self, trial: Any) -> AsyncHyperBandScheduler | None:
        return self._ashas[trial.config["task"]] if trial.config["kind"] == "search" else None
