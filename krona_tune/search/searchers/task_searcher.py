"""Chooses the next trial: interrupted ones first, then the baselines, then Optuna's proposals, task by task."""

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from krona_tune.search.searchers.gated_searcher import GatedSearcher
from krona_tune.search.searchers.open_samplers import MethodsInTurn
from krona_tune.search.searchers.task_sampler import TaskSampler
from krona_tune.search.trial_message import TrialMessage
from krona_tune.study.kinds import TrialKind
from krona_tune.study.result import Status

if TYPE_CHECKING:
    from krona_tune.search.searchers.study_model import StudyModel

logger = logging.getLogger(__name__)
Verdict = Callable[[str, dict[str, Any] | None, bool], Status]


class StudySearcher(GatedSearcher):
    """A searcher that gives Tune one trial after the other, the tasks in turn, and reports each result to Optuna.

    Args:
        waiting: trials to run before the samplers are asked for any.
        samplers: one per task.
        remaining: the numbers of the trials that each task may still ask for.
        seeds: the seed that all trials of a task share.
        verdict: returns a trial's status from Tune's id, its last result and whether it raised an error.
        model: proposes through the samplers, so it gets every searched trial too.
    """

    def __init__(
        self,
        waiting: Sequence[TrialMessage],
        samplers: Mapping[str, TaskSampler | MethodsInTurn],
        remaining: dict[str, list[int]],
        verdict: Verdict,
        seeds: dict[str, int],
        model: "StudyModel | None" = None,
    ) -> None:
        super().__init__(waiting)
        self._samplers, self._verdict, self._seeds = samplers, verdict, seeds
        self._turns = deque((task, deque(numbers)) for task, numbers in remaining.items() if numbers)
        self._history = model.history if model else None

    def extend(self, remaining: Mapping[str, Sequence[int]]) -> None:
        """Lets tasks ask for more trials, by these numbers."""
        left = dict(self._turns)
        for task, numbers in remaining.items():
            left.setdefault(task, deque()).extend(numbers)
        self._turns = deque((task, numbers) for task, numbers in left.items() if numbers)

    @property
    def exhausted(self) -> bool:
        return not self._waiting and not self._turns

    def teach(self, message: TrialMessage) -> None:
        """Shows the point of a trial that nobody proposed to the task's sampler; its space must hold the point."""
        self._samplers[message.task].recall(message.trial_id, message.params, Status.INTERRUPTED, {})
        if self._history:
            self._history.begin(message.trial_id, message.task, message.params)

    def forget(self, message: TrialMessage) -> None:
        self._samplers[message.task].tell(message.trial_id, Status.STOPPED_BY_USER, None)
        if self._history:
            self._history.end(message.trial_id, diverged=False)

    def propose(self) -> TrialMessage | None:
        """Returns the next proposal; None if every task has had its trials or has no point left to try."""
        while self._turns:
            task, numbers = self._turns.popleft()
            number = numbers.popleft()
            if numbers:
                self._turns.append((task, numbers))
            trial_id = TrialKind.SEARCH.facts.trial_id.format(task=task, number=number)
            params = self._samplers[task].ask(trial_id, number)
            if params is not None:
                if self._history:
                    self._history.begin(trial_id, task, params)
                origin = self._samplers[task].origin(trial_id)
                seed = self._seeds[task]
                return TrialMessage(trial_id, task, number, TrialKind.SEARCH, seed, params, **origin.plain())
            logger.info("%s is left out: every point that its space holds was tried before", trial_id)
        return None

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Reports a score to Optuna. `result` is flattened: keys of a nested report become `report/…`."""
        config = self._asked[trial_id]
        if config.kind == TrialKind.SEARCH and "score" in result:
            self._report(config, result)

    def _report(self, config: TrialMessage, result: dict[str, Any]) -> None:
        self._samplers[config.task].report(config.trial_id, result["examples"], result["score"])
        if self._history:
            self._history.report(config.trial_id, result["examples"], result["score"], result["train_loss"])

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        config = self._asked.pop(trial_id, None)
        if config is None or config.kind != TrialKind.SEARCH:
            return
        if result and "score" in result:  # Tune passes a trial's last result only to this method
            self._report(config, result)
        score, status = result.get("score") if result else None, self._verdict(trial_id, result, error)
        self._samplers[config.task].tell(config.trial_id, status, score)
        if self._history and status is not Status.INTERRUPTED:
            self._history.end(config.trial_id, diverged=status is Status.DIVERGED)
