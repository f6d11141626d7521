"""Searches one configuration for all tasks: trained task by task, judged by the average over the tasks so far."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import isfinite
from typing import Any

from krona_tune.search.searchers.asha_rule import SharedAverages
from krona_tune.search.searchers.task_sampler import TaskSampler
from krona_tune.search.searchers.task_searcher import FinalStatus, GatedSearcher
from krona_tune.search.trial_message import TrialMessage
from krona_tune.study.kinds import TrialKind
from krona_tune.study.result import Status, TrialResult


def shared_id(number: int) -> str:
    """Returns a configuration's name in Optuna."""
    return f"shared-{number:03d}"


class SharedSearcher(GatedSearcher):
    """A searcher that gives Tune each configuration's trials one task at a time, the next when the last has ended.

    Args:
        waiting: trials to run before the sampler is asked for any.
        sampler: proposes configurations and gets their averages; the step is the number of tasks done.
        tasks: the tasks in the order of training, cheap ones first.
        numbers: the numbers of the configurations that may still be proposed.
        rows: the rows of earlier trials; the sampler learns the configurations that it does not know.
        averages: says which configurations continue.
        leaves_out: is told how many trials of each task will not come, whenever a configuration ends before its last;
            negative numbers if it goes on after all.
    """

    def __init__(
        self,
        waiting: Sequence[TrialMessage],
        sampler: TaskSampler,
        tasks: Sequence[str],
        numbers: Iterable[int],
        seeds: Mapping[str, int],
        final_status: FinalStatus,
        rows: Iterable[TrialResult],
        averages: SharedAverages,
        leaves_out: Callable[[Mapping[str, int]], None] = lambda trials: None,
    ) -> None:
        super().__init__(waiting, final_status, seeds)
        self._numbers = deque(numbers)
        self._sampler, self._tasks, self._leaves_out = sampler, tuple(tasks), leaves_out
        self._averages = averages
        self._params: dict[int, dict[str, Any]] = {}
        self._ready: deque[int] = deque()
        self._take_up([row for row in rows if row.searched])

    @property
    def exhausted(self) -> bool:
        return not (self.waiting or self._numbers or self._ready)

    def extend(self, numbers: Iterable[int]) -> None:
        """Lets the study ask for more configurations, by these numbers."""
        self._numbers.extend(numbers)

    def tell_end(self, message: TrialMessage, status: Status, result: Mapping[str, Any]) -> None:
        if status is Status.COMPLETED and result and isfinite(result["score"]):
            self._judge(message, result["score"])
        elif status is not Status.INTERRUPTED:
            self._close(message, status)

    def forget(self, message: TrialMessage) -> None:
        self._close(message, Status.STOPPED_BY_USER)

    def reopen(self, message: TrialMessage) -> None:
        number = message.number
        self._sampler.recall(shared_id(number), self._params[number], Status.INTERRUPTED, {})
        self._leaves_out(dict.fromkeys(self._not_reached(message), -1))

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
            self._leaves_out(dict.fromkeys(self._tasks, 1))
        return None

    def _config(self, number: int) -> TrialMessage:
        scored = self._averages.scored(number)
        task = next(task for task in self._tasks if task not in scored)
        return self.message_of(task, number, self._params[number], self._sampler.origin(shared_id(number)))

    def _judge(self, message: TrialMessage, score: float) -> None:
        """Reports the average after a task; then the configuration continues, is stopped or is done."""
        number = message.number
        average, status = self._averages.add(number, message.task, score)
        self._sampler.report(shared_id(number), len(self._averages.scored(number)), average)
        if status is Status.INTERRUPTED:
            self._ready.append(number)
        else:
            self._close(message, status, average if status is Status.COMPLETED else None)

    def _close(self, message: TrialMessage, status: Status, average: float | None = None) -> None:
        """Ends a configuration with its last trial; the tasks that it has not reached are left out."""
        self._sampler.tell(shared_id(message.number), status, average)
        self._leaves_out(dict.fromkeys(self._not_reached(message), 1))

    def _not_reached(self, message: TrialMessage) -> list[str]:
        """Returns the tasks that a configuration has not come to before this trial's."""
        reached = {message.task, *self._averages.scored(message.number)}
        return [task for task in self._tasks if task not in reached]

    def _take_up(self, rows: Sequence[TrialResult]) -> None:
        """Judges earlier trials again; configurations between two tasks will continue."""
        self._params |= {row.number: row.params for row in rows}
        waiting = {message.number for message in self.waiting if message.kind == TrialKind.SEARCH}
        for number, (status, averages) in self._averages.replay(rows).items():
            self._sampler.recall(shared_id(number), self._params[number], status, averages)
            if self._sampler.is_open(shared_id(number)) and number not in waiting:
                self._ready.append(number)
