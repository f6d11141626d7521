"""Holds what a model of the scores is told about the trials so far: the choices, and the history in Optuna's terms."""

from collections.abc import Container
from dataclasses import dataclass
from typing import Any, Literal, assert_never

import numpy as np
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from krona_tune.search.planning.space import Space
from krona_tune.search.searchers.task_sampler import distribution_of
from krona_tune.study.request.domain import Choice, Domain, Value
from krona_tune.study.request.schedule import Schedule
from tests.benchmarks.search.curves import Seen
from tests.benchmarks.search.engine import Trial, is_over

ENOUGH = 10
"""How many trials must have reached a rung before the model sees only that rung."""
TIE = 1e-6
"""The weight of the training loss relative to the score, to break ties."""
Fidelity = Literal["pruned", "last", "shifted", "one rung"]


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What the model is told, and when trials continue.

    `fidelity`: how a stopped trial is told: as `pruned`; as complete with its `last` score; as complete with its last
    score `shifted` by the median gain of trials that continued; or, with `one rung`, the model sees only scores of the
    highest rung that enough trials have reached. `ordered`: sizes are drawn as ordered numbers, not as names.
    `diverged`: the model is told of diverged trials, as the worst. `promote`: a trial waits at its rung and continues
    when it is among the best there, as in ASHA's paper; otherwise it is stopped, as by Ray.
    """

    fidelity: Fidelity = "pruned"
    ordered: bool = False
    diverged: bool = False
    promote: bool = False
    startup: int = 10


class History(InMemoryStorage):
    """A storage that returns given trials instead of its own."""

    def __init__(self, told: list[FrozenTrial]) -> None:
        super().__init__()
        self._told = told

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        return [trial for trial in self._told if states is None or trial.state in states]


class Memory:
    """The trials in Optuna's terms; a trial is built once for each state."""

    def __init__(self, space: Space, schedule: Schedule, choices: Choices) -> None:
        self._space, self._schedule, self._choices = space, schedule, choices
        self._sizes = {label: sizes for label, domain in space.searched().items() if (sizes := self._in_order(domain))}
        self._distributions = {label: self.distribution(label, domain) for label, domain in space.searched().items()}
        self._kept: dict[tuple[Any, ...], FrozenTrial] = {}

    def _in_order(self, domain: Domain) -> tuple[Value, ...]:
        """Returns the sizes that are drawn as numbers; none if names are drawn."""
        if not self._choices.ordered or not isinstance(domain, Choice):
            return ()
        return domain.values if all(isinstance(size, int) for size in domain.values) else ()

    def distribution(self, label: str, domain: Domain) -> BaseDistribution:
        sizes = self._sizes.get(label)
        return IntDistribution(0, len(sizes) - 1) if sizes else distribution_of(domain)

    def meant(self, label: str, drawn: Any) -> Value:
        """Returns the value of a knob for a drawn value."""
        value: Value = self._sizes[label][drawn] if label in self._sizes else drawn
        return value

    def told(self, trials: list[Trial], ended: set[str]) -> list[FrozenTrial]:
        """Returns all that the model is told now. `ended` also holds trials that wait at a rung."""
        shifts, fullest = self._shifts(trials), self._fullest(trials)

        def said(trial: Trial) -> FrozenTrial | None:
            scored = [seen for seen in trial.seen if not seen.diverged]
            if len(scored) < len(trial.seen):
                return self._frozen(trial, TrialState.PRUNED) if self._choices.diverged else None
            match self._choices.fidelity:
                case "pruned":
                    return self._as_pruned(trial, trial.trial_id in ended)
                case "last" if scored:
                    return self._frozen(trial, TrialState.COMPLETE, value_of(scored[-1]))
                case "shifted" if scored:
                    return self._frozen(trial, TrialState.COMPLETE, value_of(scored[-1]) + shifts[len(scored) - 1])
                case "one rung" if len(scored) > fullest:
                    return self._frozen(trial, TrialState.COMPLETE, value_of(scored[fullest]))
                case "last" | "shifted" | "one rung":
                    return None if trial.trial_id in ended else self._frozen(trial, TrialState.RUNNING)
                case _:
                    assert_never(self._choices.fidelity)

        return [frozen for trial in trials if (frozen := said(trial))]

    def _as_pruned(self, trial: Trial, has_ended: bool) -> FrozenTrial:
        if not has_ended:
            return self._frozen(trial, TrialState.RUNNING)
        if is_over(trial, self._schedule):
            return self._frozen(trial, TrialState.COMPLETE, value_of(trial.seen[-1]))
        return self._frozen(trial, TrialState.PRUNED)

    def _frozen(self, trial: Trial, state: TrialState, value: float | None = None) -> FrozenTrial:
        key = (trial.number, state, value, len(trial.seen))
        if key not in self._kept:
            drawn = self._space.drawn(trial.params)
            places = {label: sizes.index(drawn[label]) for label, sizes in self._sizes.items()}
            worst = any(seen.diverged for seen in trial.seen)  # a pruned trial without a report
            self._kept[key] = create_trial(
                state=state,
                value=value,
                params=drawn | places,
                distributions=self._distributions,
                intermediate_values=None if worst else {seen.examples: value_of(seen) for seen in trial.seen},
            )
            self._kept[key].number = trial.number
        return self._kept[key]

    def _shifts(self, trials: list[Trial]) -> list[float]:
        """Returns, for each rung, the sum of the median gains from rung to rung of trials that continued."""
        gains = []
        for rung in range(len(self._schedule.rungs) - 1):
            pairs = [(t.seen[rung], t.seen[rung + 1]) for t in trials if len(t.seen) > rung + 1]
            found = [later.score - earlier.score for earlier, later in pairs if not later.diverged]
            gains.append(float(np.median(found)) if found else 0.0)
        return [sum(gains[rung:]) for rung in range(len(gains) + 1)]

    def _fullest(self, trials: list[Trial]) -> int:
        """Returns the highest rung that enough trials have reached."""
        every = range(len(self._schedule.rungs))
        reached = [sum(len(t.seen) > rung and not t.seen[rung].diverged for t in trials) for rung in every]
        return max((rung for rung in every if reached[rung] >= ENOUGH), default=0)


def value_of(seen: Seen) -> float:
    """Returns the score; among equal scores, a lower training loss gives a higher value."""
    return seen.score - TIE * seen.train_loss
