"""One ASHA a group, so that an easy task's scores never stop a hard task's trials."""

from collections.abc import Callable, Iterable, Mapping
from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler

from krona_tune.search.smaller import CONTINUE, AshaAmongSmaller
from krona_tune.search.space import Params
from krona_tune.study.result import Report
from krona_tune.study.schedule import Schedule

TIE = 1e-6
"""What a unit of training loss weighs beside the score."""


class AshaPerGroup(FIFOScheduler):  # type: ignore[misc]
    """ASHA for what competes: a task's searched trials or, `per_method`, those of one method on a task.

    Trials report exactly at ASHA's rungs, grace·ηᵏ examples, so each report counts at its own rung. Baselines and
    finalists run to their end. Equal scores are told apart by the training loss: on a hard task many a trial
    begins with one answer to everything, and scores the same.

    Args:
        size_of: the parameters of a point; with it, a trial is judged among those that are not larger.
    """

    def __init__(
        self, schedules: Mapping[str, Schedule], *, per_method: bool, size_of: Callable[[Params], int] | None = None
    ) -> None:
        super().__init__()
        self._schedules, self._per_method, self._size_of = schedules, per_method, size_of
        self._ashas: dict[tuple[str, str], AsyncHyperBandScheduler | AshaAmongSmaller] = {}
        self._judged: set[tuple[str, int]] = set()
        self._awaited: dict[str, tuple[Report, Params]] = {}

    def replay(self, reports: Iterable[tuple[Report, Params]]) -> None:
        """Puts earlier reports, each with its trial's point, at their rungs again, so that a resumed study judges as
        before."""
        for report, params in reports:
            self._judged.add((report.trial_id, report.examples))
            config = {"task": report.task, "kind": "search", "params": params}
            trial: Any = SimpleNamespace(trial_id=f"earlier {report.trial_id}", config=config)
            asha = self._of(trial)
            asha.on_trial_add(None, trial)
            asha.on_trial_result(None, trial, _told(report.examples, report.score, report.train_loss))

    def expect(self, reports: Iterable[tuple[Report, Params]]) -> None:
        """The last reports of trials that go on: each is judged when it comes again, or put at its rung when the next
        one comes instead, from a worker that was ahead of what the records had."""
        self._awaited |= {report.trial_id: (report, params) for report, params in reports}

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        if trial.config["kind"] == "search":
            self._of(trial).on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if trial.config["kind"] != "search" or "score" not in result:
            return CONTINUE
        trial_id, examples = trial.config["trial_id"], result["examples"]
        if trial_id in self._awaited and self._awaited[trial_id][0].examples <= examples:
            last = self._awaited.pop(trial_id)
            self.replay([last] if last[0].examples < examples else [])
        if (trial_id, examples) in self._judged:  # it went on from here, and reports again after a fault
            return CONTINUE
        self._judged.add((trial_id, examples))
        told = _told(examples, result["score"], result["report/train_loss"])  # Tune flattens results
        decision: str = self._of(trial).on_trial_result(tune_controller, trial, told)
        return decision

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Nothing: the full budget judges nobody, and ASHA would put its score at a rung that the trial skipped."""

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        if trial.config["kind"] == "search":
            self._of(trial).on_trial_remove(tune_controller, trial)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Nothing to take back: its earlier reports stay at their rungs."""

    def debug_string(self) -> str:
        return ""

    def _of(self, trial: Any) -> AsyncHyperBandScheduler | AshaAmongSmaller:
        """The ASHA of a trial's group, made when its first trial comes."""
        task, params = trial.config["task"], trial.config["params"]
        group = (task, params["method"] if self._per_method else "")
        if group not in self._ashas:
            self._ashas[group] = self._new(self._schedules[task])
        return self._ashas[group]

    def _new(self, schedule: Schedule) -> AsyncHyperBandScheduler | AshaAmongSmaller:
        if self._size_of:
            return AshaAmongSmaller(schedule, self._size_of)
        return AsyncHyperBandScheduler(
            time_attr="examples",
            metric="score",
            mode="max",
            grace_period=schedule.rungs[0],
            max_t=schedule.total_examples,
            reduction_factor=schedule.reduction,
        )


def _told(examples: int, score: float, train_loss: float) -> dict[str, Any]:
    """What ASHA hears of a report."""
    return {"examples": examples, "score": score - TIE * train_loss}
