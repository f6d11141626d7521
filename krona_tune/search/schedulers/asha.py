"""One ASHA a group, so that an easy task's scores never stop a hard task's trials."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from krona_tune.search.planning.space import Params
from krona_tune.search.schedulers.asha_rule import Rungs
from krona_tune.search.trial_message import TrialMessage
from krona_tune.study.result import Report
from krona_tune.study.spec.schedule import Schedule

TIE = 1e-6
"""What a unit of training loss weighs beside the score."""
CONTINUE, STOP = str(TrialScheduler.CONTINUE), str(TrialScheduler.STOP)


class AshaPerGroup(FIFOScheduler):  # type: ignore[misc]
    """ASHA for what competes: a task's searched trials or, `per_method`, those of one method on a task.

    Trials report exactly at ASHA's rungs, grace·ηᵏ examples, so each report counts at its own rung. Baselines and
    finalists run to their end. Equal scores are told apart by the training loss: on a hard task many a trial
    begins with one answer to everything, and scores the same.

    Args:
        size_of: the parameters of a point; with it, a trial is judged among those that are not larger, so that the
            whole front of score against parameters is trained to its end.
    """

    def __init__(
        self, schedules: Mapping[str, Schedule], *, per_method: bool, size_of: Callable[[Params], int] | None = None
    ) -> None:
        super().__init__()
        self._schedules, self._per_method, self._size_of = schedules, per_method, size_of
        self._groups: dict[tuple[str, str], Rungs] = {}
        self._judged: set[tuple[str, int]] = set()
        self._awaited: dict[str, tuple[Report, Params]] = {}

    def replay(self, reports: Iterable[tuple[Report, Params]]) -> None:
        """Puts earlier reports, each with its trial's point, at their rungs again, so that a resumed study judges as
        before."""
        for report, params in reports:
            self._judged.add((report.trial_id, report.examples))
            self._survives(report.task, params, report.examples, report.score, report.train_loss)

    def expect(self, reports: Iterable[tuple[Report, Params]]) -> None:
        """The last reports of trials that go on: each is judged when it comes again, or put at its rung when the next
        one comes instead, from a worker that was ahead of what the records had."""
        self._awaited |= {report.trial_id: (report, params) for report, params in reports}

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Whether the trial goes on from the rung that its `examples` are."""
        message = TrialMessage.from_dict(trial.config)
        if message.kind != "search" or "score" not in result:
            return CONTINUE
        trial_id, examples = message.trial_id, result["examples"]
        if trial_id in self._awaited and self._awaited[trial_id][0].examples <= examples:
            last = self._awaited.pop(trial_id)
            self.replay([last] if last[0].examples < examples else [])
        if (trial_id, examples) in self._judged:  # it went on from here, and reports again after a fault
            return CONTINUE
        self._judged.add((trial_id, examples))
        survives = self._survives(message.task, message.params, examples, result["score"], result["train_loss"])
        return CONTINUE if survives else STOP

    def _survives(self, task: str, params: Params, examples: int, score: float, train_loss: float) -> bool:
        """Judges a report in its group; the full budget ends every trial and judges nobody."""
        schedule = self._schedules[task]
        if examples >= schedule.total_examples:
            return False
        group = (task, params["method"] if self._per_method else "")
        rungs = self._groups.setdefault(group, Rungs(schedule.reduction))
        return rungs.survives(examples, score - TIE * train_loss, self._size_of(params) if self._size_of else 0)
