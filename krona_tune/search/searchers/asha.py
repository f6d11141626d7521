"""Runs ASHA per group of competing trials: an easy task never stops a hard task's trials."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from krona_tune.search.planning.space import Params
from krona_tune.search.searchers.asha_rule import Rungs
from krona_tune.search.trial_message import TrialMessage
from krona_tune.study.kinds import TrialKind
from krona_tune.study.request.schedule import Schedule
from krona_tune.study.result import Report

CONTINUE, STOP = str(TrialScheduler.CONTINUE), str(TrialScheduler.STOP)


class AshaPerGroup(FIFOScheduler):  # type: ignore[misc]
    """ASHA for each group of competing trials: a task's searched trials or, with `per_method`, those of one method.

    Trials report at ASHA's rungs, grace·ηᵏ examples, so a report there counts at its own rung; they continue from
    reports between the rungs. Baselines and finalists run to their end. The training loss breaks ties: on a hard task
    many trials first give the same answer to every example, and so get the same score.

    Args:
        size_of: returns a point's parameters; with it, a trial competes only with trials that are not larger, so that
            the whole front of score against parameters is trained to its end.
        spared: returns whether a trial continues whatever its score, which counts for the others all the same.
        exact: as `Rungs` takes it.
    """

    def __init__(
        self,
        schedules: Mapping[str, Schedule],
        *,
        per_method: bool,
        size_of: Callable[[Params], int] | None = None,
        spared: Callable[[TrialMessage], bool] = lambda message: False,
        exact: bool = True,
    ) -> None:
        super().__init__()
        self._spared, self._exact = spared, exact
        self._schedules, self._per_method, self._size_of = schedules, per_method, size_of
        self._groups: dict[tuple[str, str], Rungs] = {}
        self._judged: set[tuple[str, int]] = set()
        self._awaited: dict[str, tuple[Report, Params]] = {}

    def replay(self, reports: Iterable[tuple[Report, Params]]) -> None:
        """Adds earlier reports, each with its trial's point, to their rungs: a resumed study then judges as before."""
        for report, params in reports:
            self._judged.add((report.trial_id, report.examples))
            self._survives(report.task, params, report.examples, report.score, report.train_loss)

    def expect(self, reports: Iterable[tuple[Report, Params]]) -> None:
        """Stores the last reports of resumed trials. Each is judged when it comes again, or added to its rung if the
        next report comes instead, from a worker that was ahead of the records."""
        self._awaited |= {report.trial_id: (report, params) for report, params in reports}

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Returns CONTINUE or STOP for a trial at the rung that its `examples` give."""
        message = TrialMessage.from_dict(trial.config)
        if message.kind != TrialKind.SEARCH or "score" not in result:
            return CONTINUE
        trial_id, examples = message.trial_id, result["examples"]
        if trial_id in self._awaited and self._awaited[trial_id][0].examples <= examples:
            last = self._awaited.pop(trial_id)
            self.replay([last] if last[0].examples < examples else [])
        if (trial_id, examples) in self._judged:  # it continued from here before, and reports again after a fault
            return CONTINUE
        self._judged.add((trial_id, examples))
        survives = self._survives(message.task, message.params, examples, result["score"], result["train_loss"])
        return CONTINUE if survives or self._spared(message) else STOP

    def _survives(self, task: str, params: Params, examples: int, score: float, train_loss: float) -> bool:
        """Returns whether a report survives in its group; at the full budget a trial ends and is not judged."""
        schedule = self._schedules[task]
        if examples >= schedule.total_examples:
            return False
        if examples not in schedule.rungs:
            return True
        group = (task, params["method"] if self._per_method else "")
        rungs = self._groups.setdefault(group, Rungs(schedule.reduction, exact=self._exact))
        return rungs.survives(examples, score, self._size_of(params) if self._size_of else 0, train_loss)
