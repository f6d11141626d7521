"""ASHA where a small adapter is never stopped because larger ones score more."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

from ray.tune.schedulers import TrialScheduler

from krona_tune.search.cutoff import goes_on
from krona_tune.search.space import Params
from krona_tune.study.schedule import Schedule

CONTINUE, STOP = str(TrialScheduler.CONTINUE), str(TrialScheduler.STOP)


class AshaAmongSmaller:
    """At each rung a trial goes on if its score is in the upper 1/η of the trials there that have no more parameters.

    What no smaller trial beats always goes on, so the whole front of score against parameters is trained to its end.
    """

    def __init__(self, schedule: Schedule, size_of: Callable[[Params], int]) -> None:
        self._schedule, self._size_of = schedule, size_of
        self._seen: dict[int, list[tuple[int, float]]] = defaultdict(list)

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Nothing: a trial counts when it reports."""

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """Nothing: its reports stay at their rungs."""

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Whether the trial goes on from the rung that its `examples` are; as Ray's ASHA, later ones are judged by
        the earlier ones."""
        examples, score = result["examples"], result["score"]
        if examples >= self._schedule.total_examples:
            return STOP
        size = self._size_of(trial.config["params"])
        rivals = [other for other_size, other in self._seen[examples] if other_size <= size]
        self._seen[examples].append((size, score))
        return CONTINUE if goes_on(score, rivals, self._schedule.reduction) else STOP
