"""Chooses the next trial: interrupted ones first, then the baselines, then the proposals, as many as may run now."""

import logging
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ray.tune.search import Searcher

from krona_tune.search.planning.space import Params
from krona_tune.search.searchers.history import History
from krona_tune.search.searchers.open_samplers import MethodsInTurn
from krona_tune.search.searchers.proposal import Origin
from krona_tune.search.searchers.task_sampler import TaskSampler
from krona_tune.search.trial_message import TrialMessage
from krona_tune.study.kinds import TrialKind
from krona_tune.study.result import Status

logger = logging.getLogger(__name__)
FinalStatus = Callable[[str, dict[str, Any] | None, bool], Status]
OPEN = 1_000_000
"""A number of trials that no machine runs at once."""
AHEAD = 4
"""How many more points may wait for a worker than there are workers: a point is proposed before any of those that wait
has a score, but on a cluster that grows it is trials that wait which bring new nodes."""


class Gate:
    """Says what a running study lets its searcher and its scheduler do.

    `slots` returns how many trials may run now, 0 while the study is paused; `over` whether nothing new may begin;
    `release` ends idle workers; `look` reads new orders; `stopped` returns whether somebody ordered to stop a trial,
    given by Tune's id. `room` is how many trials had room when the study began, `running` how many run.
    """

    def __init__(self, most: int = OPEN, room: int = OPEN) -> None:
        self._most, self.room, self.running = most, room, 0
        self.release: Callable[[], None] = lambda: None

    def slots(self) -> int:
        return self._most

    def reach(self) -> int:
        """Returns how many trials may run or wait for a worker."""
        return min(self.slots(), self.running + max(self.running, self.room) + AHEAD)

    def over(self) -> bool:
        return False

    def look(self) -> None:
        """Does nothing: nobody orders anything."""

    def stopped(self, tune_id: str) -> bool:
        return False

    def judge(self, tune_id: str) -> None:
        """Is told that the scheduler ends a trial because of its scores."""


class GatedSearcher(Searcher):  # type: ignore[misc]
    """A searcher whose trials pass a gate. `closed`: it has said that it gives no others.

    Args:
        waiting: trials to run before any is proposed.
        final_status: returns a trial's status from Tune's id, its last result and whether it raised an error.
        seeds: the seed that all trials of a task share.
    """

    def __init__(self, waiting: Iterable[TrialMessage], final_status: FinalStatus, seeds: Mapping[str, int]) -> None:
        super().__init__(metric="score", mode="max")
        self.gate, self.closed = Gate(), False
        self.waiting, self._final_status, self._seeds = deque(waiting), final_status, seeds
        self._asked: dict[str, TrialMessage] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Returns nothing: Tune pickles its driver's objects, but a resumed study is rebuilt from its records."""
        return {}

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """Returns the next trial; None if it must wait, or Searcher.FINISHED if none will come."""
        finished: dict[str, Any] = Searcher.FINISHED  # a string, returned instead of a trial
        if self.gate.over():
            self.closed = True
            return finished
        self.gate.look()
        ends = self.exhausted and not self._asked  # that takes no slot
        if len(self._asked) >= self.gate.reach() and not ends:
            if not self.gate.slots():
                self.gate.release()
            return None
        message = self.waiting.popleft() if self.waiting else self.propose()
        if message is None:
            self.closed = not self._asked
            return finished if self.closed else None
        self._asked[trial_id] = message
        return message.to_dict()

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tells the sampler how a searched trial ended; `result` is the last one, flattened: `report/…`."""
        message = self._asked.pop(trial_id, None)
        if message and message.kind == TrialKind.SEARCH:
            self.tell_end(message, self._final_status(trial_id, result, error), result or {})

    @abstractmethod
    def tell_end(self, message: TrialMessage, status: Status, result: Mapping[str, Any]) -> None:
        """Tells the sampler how a searched trial ended, and its last result, which may be empty."""

    def message_of(self, task: str, number: int, params: Params, origin: Origin) -> TrialMessage:
        """Makes a search trial of a proposed point: with its id, its seed and who proposed it."""
        trial_id = TrialKind.SEARCH.facts.id_of(task=task, number=number)
        seed = self._seeds[task]
        return TrialMessage(trial_id, task, number, TrialKind.SEARCH, seed, dict(params), **origin.plain())

    @abstractmethod
    def propose(self) -> TrialMessage | None:
        """Returns a new trial; None if there is none now."""

    @property
    @abstractmethod
    def exhausted(self) -> bool:
        """Returns whether no trial waits and none would be proposed."""

    def add(self, message: TrialMessage) -> None:
        """Runs one more trial, before any is proposed."""
        self.waiting.append(message)

    def retry(self, message: TrialMessage) -> None:
        """Lets a trial go on that has ended without its last score."""
        if message.kind == TrialKind.SEARCH:
            self.reopen(message)
        self.add(message)

    @abstractmethod
    def reopen(self, message: TrialMessage) -> None:
        """Tells the sampler that a searched trial which has ended goes on."""

    def withdraw(self, trial_id: str) -> bool:
        """Takes back a trial that waits; returns whether it did."""
        message = next((each for each in self.waiting if each.trial_id == trial_id), None)
        if message is None:
            return False
        self.waiting.remove(message)
        self.forget(message)
        return True

    @abstractmethod
    def forget(self, message: TrialMessage) -> None:
        """Tells the sampler that somebody stopped a searched trial before it ran on."""

    def tune_id(self, trial_id: str) -> str | None:
        """Returns Tune's id of a trial that runs or is paused; None for any other."""
        return next((tune for tune, message in self._asked.items() if message.trial_id == trial_id), None)

    def knows(self, trial_id: str) -> bool:
        """Returns whether a trial waits or runs."""
        return any(message.trial_id == trial_id for message in (*self.waiting, *self._asked.values()))

    def save(self, checkpoint_path: str) -> None:
        """Does nothing: a resumed study is rebuilt from its records."""

    def restore(self, checkpoint_path: str) -> None:
        """Does nothing: a resumed study is rebuilt from its records."""


class ChosenSearcher(GatedSearcher):
    """A searcher that gives Tune the trials which a study's rows choose, those too that they choose meanwhile.

    Args:
        waiting, final_status: as GatedSearcher takes them.
        following: returns the trials that the rows choose now.
    """

    def __init__(
        self,
        waiting: Iterable[TrialMessage],
        final_status: FinalStatus,
        following: Callable[[], Iterable[TrialMessage]] = lambda: (),
    ) -> None:
        super().__init__(waiting, final_status, {})
        self._following = following

    @property
    def exhausted(self) -> bool:
        return not self.waiting

    def propose(self) -> TrialMessage | None:
        """Returns the first trial that the rows choose by now; None if they choose none, or none may run."""
        if self.gate.slots():
            self.waiting.extend(trial for trial in self._following() if not self.knows(trial.trial_id))
        return self.waiting.popleft() if self.waiting else None

    def forget(self, message: TrialMessage) -> None:
        """Does nothing: no sampler knows of the trial."""

    def reopen(self, message: TrialMessage) -> None:
        """Does nothing: no sampler knows of the trial."""

    def tell_end(self, message: TrialMessage, status: Status, result: Mapping[str, Any]) -> None:
        """Does nothing: no sampler waits for a score."""


class StudySearcher(GatedSearcher):
    """A searcher that gives Tune one trial after the other, the tasks in turn, and reports each result to Optuna.

    Args:
        waiting, final_status, seeds: as GatedSearcher takes them.
        samplers: one per task.
        remaining: the numbers of the trials that each task may still ask for.
        history: of the surrogate that proposes through the samplers, so it gets every searched trial too.
        ends: returns whether a task's search ends by itself.
        leaves_out: is told how many trials of a task will not come: those that are left when its search ends by itself,
            and each that finds no point to try.
    """

    def __init__(
        self,
        waiting: Sequence[TrialMessage],
        samplers: Mapping[str, TaskSampler | MethodsInTurn],
        remaining: dict[str, list[int]],
        final_status: FinalStatus,
        seeds: dict[str, int],
        history: History | None = None,
        ends: Callable[[str], bool] = lambda task: False,
        leaves_out: Callable[[Mapping[str, int]], None] = lambda trials: None,
    ) -> None:
        super().__init__(waiting, final_status, seeds)
        self._samplers, self._ends, self._leaves_out = samplers, ends, leaves_out
        self._turns = deque((task, deque(numbers)) for task, numbers in remaining.items() if numbers)
        self._history = history

    def extend(self, remaining: Mapping[str, Sequence[int]]) -> dict[str, int]:
        """Lets tasks ask for more trials, by these numbers; returns how many each could not ask for before."""
        left, new = dict(self._turns), dict[str, int]()
        for task, numbers in remaining.items():
            known = left.setdefault(task, deque())
            added = [number for number in numbers if number not in known]
            known.extend(added)
            new[task] = len(added)
        self._turns = deque((task, numbers) for task, numbers in left.items() if numbers)
        return new

    @property
    def exhausted(self) -> bool:
        return not self.waiting and not self._turns

    def teach(self, message: TrialMessage) -> None:
        """Shows the point of a trial that nobody proposed to the task's sampler; its space must hold the point."""
        self.reopen(message)
        if self._history:
            self._history.begin(message.trial_id, message.task, message.params)

    def reopen(self, message: TrialMessage) -> None:
        self._samplers[message.task].recall(message.trial_id, message.params, Status.INTERRUPTED, {})
        if self._history:
            self._history.reopen(message.trial_id)

    def forget(self, message: TrialMessage) -> None:
        self._samplers[message.task].tell(message.trial_id, Status.STOPPED_BY_USER, None)
        if self._history:
            self._history.end(message.trial_id, diverged=False)

    def propose(self) -> TrialMessage | None:
        """Returns the next proposal; None if every task has had its trials or has no point left to try."""
        while self._turns:
            task, numbers = self._turns.popleft()
            if self._ends(task):
                self._leaves_out({task: len(numbers)})
                continue
            number = numbers.popleft()
            if numbers:
                self._turns.append((task, numbers))
            trial_id = TrialKind.SEARCH.facts.id_of(task=task, number=number)
            params = self._samplers[task].ask(trial_id, number)
            if params is not None:
                if self._history:
                    self._history.begin(trial_id, task, params)
                return self.message_of(task, number, params, self._samplers[task].origin(trial_id))
            logger.info("%s is left out: every point that its space holds was tried before", trial_id)
            self._leaves_out({task: 1})
        return None

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Reports a score to Optuna. `result` is flattened: keys of a nested report become `report/…`."""
        message = self._asked[trial_id]
        if message.kind == TrialKind.SEARCH and "score" in result:
            self._report(message, result)

    def _report(self, message: TrialMessage, result: Mapping[str, Any]) -> None:
        self._samplers[message.task].report(message.trial_id, result["examples"], result["score"])
        if self._history:
            self._history.report(message.trial_id, result["examples"], result["score"], result["train_loss"])

    def tell_end(self, message: TrialMessage, status: Status, result: Mapping[str, Any]) -> None:
        if "score" in result:  # Tune passes a trial's last result only to `on_trial_complete`
            self._report(message, result)
        self._samplers[message.task].tell(message.trial_id, status, result.get("score"))
        if self._history and status is not Status.INTERRUPTED:
            self._history.end(message.trial_id, diverged=status.worst)
