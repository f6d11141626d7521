"""Searches one configuration for all tasks: trained task by task, judged by the average over the tasks so far."""

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np

from krona_tune.search.searchers.asha import Rungs
from krona_tune.search.searchers.task_sampler import TaskSampler
from krona_tune.search.searchers.task_searcher import GatedSearcher, Verdict
from krona_tune.search.trial_message import TrialMessage
from krona_tune.study.kinds import TrialKind
from krona_tune.study.result import Status, TrialResult


def shared_id(number: int) -> str:
    """Returns a configuration's name in Optuna."""
    return f"shared-{number:03d}"


class SharedSearcher(GatedSearcher):
    """A searcher that gives Tune each configuration's trials one task at a time, the next when the last has ended.

    After 1, η, η² … tasks a configuration continues if its average is in the upper 1/η of those that got as far.

    Args:
        waiting: trials to run before the sampler is asked for any.
        sampler: proposes configurations and gets their averages; the step is the number of tasks done.
        tasks: the tasks in the order of training, cheap ones first.
        numbers: the numbers of the configurations that may still be proposed.
        rows: the rows of earlier trials; the sampler learns the configurations that it does not know.
    """

    def __init__(
        self,
        waiting: Sequence[TrialMessage],
        sampler: TaskSampler,
        tasks: Sequence[str],
        numbers: Iterable[int],
        seeds: Mapping[str, int],
        verdict: Verdict,
        rows: Iterable[TrialResult],
        reduction: int,
    ) -> None:
        super().__init__(waiting, verdict, seeds)
        self._numbers = deque(numbers)
        self._sampler, self._tasks = sampler, tuple(tasks)
        self._judged_after = {
            reduction**power for power in range(len(self._tasks)) if reduction**power < len(self._tasks)
        }
        self._rungs = Rungs(reduction)
        self._params: dict[int, dict[str, Any]] = {}
        self._scores: dict[int, dict[str, float]] = defaultdict(dict)
        self._ready: deque[int] = deque()
        self._take_up([row for row in rows if row.kind == TrialKind.SEARCH])

    @property
    def exhausted(self) -> bool:
        return not (self.waiting or self._numbers or self._ready)

    def extend(self, numbers: Iterable[int]) -> None:
        """Lets the study ask for more configurations, by these numbers."""
        self._numbers.extend(numbers)

    def tell_end(self, message: TrialMessage, status: Status, result: Mapping[str, Any]) -> None:
        number = message.number
        if status is Status.COMPLETED and result and isfinite(result["score"]):
            self._judge(number, message.task, result["score"])
        elif status is not Status.INTERRUPTED:
            self._sampler.tell(shared_id(number), status, None)

    def forget(self, message: TrialMessage) -> None:
        self._sampler.tell(shared_id(message.number), Status.STOPPED_BY_USER, None)

    def propose(self) -> TrialMessage | None:
        """Returns the next task's trial of a configuration that continues, else the first of a new one, else None."""
        if self._ready:
            return self._config(self._ready.popleft())
        while self._numbers:
            number = self._numbers.popleft()
            params = self._sampler.ask(shared_id(number), number)
            if params is not None:
                self._params[number] = params
                return self._config(number)
        return None

    def _config(self, number: int) -> TrialMessage:
        task = next(task for task in self._tasks if task not in self._scores[number])
        return self.message_of(task, number, self._params[number], self._sampler.origin(shared_id(number)))

    def _judge(self, number: int, task: str, score: float) -> None:
        """Reports the average after a task; then the configuration continues, is stopped or is done."""
        average, status = self._averaged(number, task, score)
        self._sampler.report(shared_id(number), len(self._scores[number]), average)
        if status is Status.INTERRUPTED:
            self._ready.append(number)
        else:
            self._sampler.tell(shared_id(number), status, average if status is Status.COMPLETED else None)

    def _averaged(self, number: int, task: str, score: float) -> tuple[float, Status]:
        """Returns a configuration's average with one more task and its status: INTERRUPTED if it continues."""
        scores = self._scores[number]
        scores[task] = score
        average, done = float(np.mean(list(scores.values()))), len(scores)
        if done == len(self._tasks):
            return average, Status.COMPLETED
        goes = done not in self._judged_after or self._rungs.survives(done, average)
        return average, Status.INTERRUPTED if goes else Status.STOPPED_EARLY

    def _take_up(self, rows: Sequence[TrialResult]) -> None:
        """Judges earlier trials again in the order of their ends; configurations between two tasks will continue."""
        statuses: dict[int, Status] = {}
        averages: dict[int, dict[int, float]] = defaultdict(dict)
        for row in sorted(rows, key=lambda row: row.ended_at or 0.0):
            self._params[row.number] = row.params
            statuses.setdefault(row.number, Status.INTERRUPTED)
            if row.finished and row.score is not None:
                average, statuses[row.number] = self._averaged(row.number, row.task, row.score)
                averages[row.number][len(averages[row.number]) + 1] = average
            elif row.ended:
                statuses[row.number] = row.status
        waiting = {config.number for config in self.waiting if config.kind == TrialKind.SEARCH}
        for number, params in self._params.items():
            self._sampler.recall(shared_id(number), params, statuses[number], averages[number])
            if self._sampler.is_open(shared_id(number)) and number not in waiting:
                self._ready.append(number)
