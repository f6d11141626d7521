"""Our domains in Optuna's words: one Optuna study a task that is asked for points and told what became of them."""

import logging
import random
import warnings
from collections.abc import Callable, Iterable, Mapping
from math import exp, log
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, TPESampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from krona_tune.search.planning.space import Params, Space
from krona_tune.study.randomness import stream
from krona_tune.study.result import Status
from krona_tune.study.spec.domain import Choice, Divisors, Domain, Fixed, Range

logger = logging.getLogger(__name__)

ATTEMPTS = 20
"""How many of Optuna's own proposals may be refused before an acceptable point is drawn evenly."""
STATES = {
    Status.COMPLETED: TrialState.COMPLETE,
    Status.STOPPED_EARLY: TrialState.PRUNED,
    Status.DIVERGED: TrialState.FAIL,
    Status.OUT_OF_MEMORY: TrialState.FAIL,
    Status.FAILED: TrialState.FAIL,
}
"""What Optuna is told. An interrupted trial is told nothing: it goes on when the study does."""
TRIAL_ID, LOST = "trial_id", "lost"
"""What Optuna keeps beside a point: the trial that tries it, or that the driver went away before one could."""
Suggest = Callable[[int], Iterable[Params]]
"""Points from elsewhere that are worth trying as the trial of a number; none to leave it to Optuna."""


class TaskSampler:
    """Proposes points of a space for one task. Every draw's randomness is a stream of (seed, task, number).

    Args:
        startup_trials: how many points are drawn evenly before Optuna models the scores.
        suggest: points from elsewhere that are tried first; those that are not acceptable here are passed over.
        every_size: each trial has a parameter limit of its own, so that small adapters are searched as eagerly as
            large ones.
    """

    def __init__(
        self,
        space: Space,
        storage: BaseStorage,
        name: str,
        *,
        seed: int,
        startup_trials: int,
        suggest: Suggest = lambda number: (),
        every_size: bool = False,
    ) -> None:
        self._space, self._seed, self._startup, self._suggest = space, seed, startup_trials, suggest
        self._address = name.partition("/")[2]  # randomness follows what is searched for, not what the study is called
        self._study = optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            self._study.set_metric_names(["score"])
        self._give_up_what_was_lost()
        mine = [trial for trial in self._study.get_trials(deepcopy=False) if TRIAL_ID in trial.user_attrs]
        self._numbers = {t.user_attrs[TRIAL_ID]: t.number for t in mine}
        self._open = {t.user_attrs[TRIAL_ID]: t.number for t in mine if t.state is TrialState.RUNNING}
        self._tried = {space.meaning(self._point_of(trial)) for trial in mine}
        self._exhausted = False
        self._sizes = self._smallest_and_largest() if every_size else None

    def ask(self, trial_id: str, number: int) -> dict[str, Any] | None:
        """A feasible point that was not tried before: each knob that its method reads, by name.

        Points beyond the parameter limit and points tried before are told to Optuna as failed and never leave this
        method. A trial that was asked for before gets the same point again.
        None: there is no point left.
        """
        if trial_id in self._numbers:
            return self.point(trial_id)
        if self._exhausted:
            return None
        limit = self._limit(number)

        def acceptable(params: Params) -> bool:
            return self._space.feasible(params, limit) and self._space.meaning(params) not in self._tried

        suggested = next(filter(acceptable, self._suggest(number)), None)
        for attempt in range(ATTEMPTS + 1):
            asked = sum(LOST not in drawn.user_attrs for drawn in self._study.get_trials(deepcopy=False))
            if attempt == ATTEMPTS:
                rng = random.Random(stream(self._seed, "even draw", self._address, asked))
                suggested = self._space.draw_where(acceptable, rng)
                if suggested is None:
                    self._exhausted = limit is None
                    return None
            if suggested and not self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
                self._study.enqueue_trial(self._space.drawn(suggested))
            suggested = None
            self._study.sampler = self._sampler(asked)
            trial = self._study.ask()
            params = self._space.point(lambda label, domain: trial._suggest(label, distribution_of(domain)))  # noqa: B023
            if acceptable(params):
                return self._begun(trial, trial_id, params)
            self._study.tell(trial, state=TrialState.FAIL)
        raise AssertionError("an acceptable point is enqueued in the end")

    def point(self, trial_id: str) -> dict[str, Any] | None:
        """The point of a trial that was asked for before; None of another one."""
        number = self._numbers.get(trial_id)
        return None if number is None else self._point_of(self._study.get_trials(deepcopy=False)[number])

    def recall(self, trial_id: str, params: Params, status: Status, scores: Mapping[int, float]) -> None:
        """What the records say of an earlier trial, in case Optuna's journal lost it or was not told of its end.

        Of a trial whose end Optuna knows, nothing is changed.

        Args:
            scores: by step, in their order, as `report` takes them; the last one is the trial's.
        """
        last = list(scores.values())[-1] if scores else None
        if trial_id in self._open:
            for step, score in scores.items():
                self.report(trial_id, step, score)
            self.tell(trial_id, status, last)
        elif trial_id not in self._numbers:
            self._add(trial_id, params, STATES.get(status, TrialState.RUNNING), scores, last)

    def _add(
        self, trial_id: str, params: Params, state: TrialState, scores: Mapping[int, float], last: float | None
    ) -> None:
        """A trial as Optuna would have it, had it been told of it."""
        drawn, distributions = self._space.drawn(params), {}

        def value(label: str, domain: Domain) -> Any:
            distributions[label] = distribution_of(domain)
            return drawn[label]

        self._space.point(value)
        try:
            trial = create_trial(
                state=state,
                params=drawn,
                distributions=distributions,
                user_attrs={TRIAL_ID: trial_id},
                intermediate_values=dict(scores),
                value=last if state in {TrialState.COMPLETE, TrialState.PRUNED} else None,
            )
        except ValueError as error:
            logger.warning("Optuna can't be told of %s again: %s", trial_id, error)
            return
        self._study.add_trial(trial)
        added = self._study.get_trials(deepcopy=False)[-1]
        self._numbers[trial_id] = added.number
        self._tried.add(self._space.meaning(self._point_of(added)))
        if state is TrialState.RUNNING:
            self._open[trial_id] = added.number

    def _give_up_what_was_lost(self) -> None:
        """A point that was drawn for a driver that went away at that moment was never tried: it is drawn again."""
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if TRIAL_ID not in trial.user_attrs:
                optuna.Trial(self._study, trial._trial_id).set_user_attr(LOST, True)
                self._study.tell(trial.number, state=TrialState.FAIL)

    def _begun(self, trial: optuna.Trial, trial_id: str, params: dict[str, Any]) -> dict[str, Any]:
        trial.set_user_attr(TRIAL_ID, trial_id)
        self._numbers[trial_id] = self._open[trial_id] = trial.number
        self._tried.add(self._space.meaning(params))
        return params

    def _point_of(self, trial: FrozenTrial) -> dict[str, Any]:
        """The point that an earlier trial drew."""
        return self._space.point(lambda label, domain: trial.params[label])

    def _limit(self, number: int) -> int | None:
        """The parameter limit of one trial, drawn log-uniformly between the smallest and the largest adapter."""
        if self._sizes is None:
            return None
        low, high = map(log, self._sizes)
        rng = random.Random(stream(self._seed, "limit", self._address, number))
        return round(exp(rng.uniform(low, high)))

    def _smallest_and_largest(self) -> tuple[int, int]:
        rng = random.Random(stream(self._seed, "sizes", self._address))
        points = filter(self._space.feasible, (self._space.draw(rng) for _ in range(500)))
        sizes = [self._space.parameters(point) for point in points]
        return min(sizes), max(sizes)

    def is_open(self, trial_id: str) -> bool:
        """Whether a trial was asked for and has not ended."""
        return trial_id in self._open

    def report(self, trial_id: str, step: int, score: float) -> None:
        """A score at a rung; the step is what the rungs are counted in, such as examples."""
        if trial_id in self._open:
            trial = optuna.trial.Trial(
                self._study, self._study.get_trials(deepcopy=False)[self._open[trial_id]]._trial_id
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # a rung that is reported again after a resume
                trial.report(score, step)

    def tell(self, trial_id: str, status: Status, score: float | None) -> None:
        """What became of a trial; of one that is not open nothing is told."""
        if status not in STATES or trial_id not in self._open:
            return
        number = self._open.pop(trial_id)
        values = score if status is Status.COMPLETED else None
        self._study.tell(number, values, state=STATES[status])

    def _sampler(self, number: int) -> BaseSampler:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return TPESampler(
                n_startup_trials=self._startup,
                constant_liar=True,
                seed=stream(self._seed, "sampler", self._address, number) % 2**32,
                group=True,  # a method's knobs are modelled together, whatever other methods read
            )


def distribution_of(domain: Domain) -> BaseDistribution:
    """The Optuna distribution that draws from a domain.

    Raises:
        AssertionError: the domain draws nothing (fixed), or is not resolved (divisors).
    """
    match domain:
        case Choice(values):
            return CategoricalDistribution(values)
        case Range(low, high, log=is_log, step=step):
            if domain.whole and (step is None or isinstance(step, int)):
                return IntDistribution(int(low), int(high), log=is_log, step=int(step or 1))
            return FloatDistribution(low, high, log=is_log, step=step)
        case Fixed() | Divisors():
            raise AssertionError(f"{domain} is not sampled")
