"""Our domains in Optuna's words: one Optuna study a task that is asked for points and told what became of them."""

import random
import warnings
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, TPESampler
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from krona_tune.search.space import Space
from krona_tune.study.domain import Choice, Divisors, Domain, Fixed, Range
from krona_tune.study.randomness import stream
from krona_tune.study.result import Status

ATTEMPTS = 20
"""How many of Optuna's own proposals may lie beyond the parameter limit before a feasible point is drawn evenly."""
STATES = {
    Status.COMPLETED: TrialState.COMPLETE,
    Status.STOPPED_EARLY: TrialState.PRUNED,
    Status.DIVERGED: TrialState.FAIL,
    Status.OUT_OF_MEMORY: TrialState.FAIL,
    Status.FAILED: TrialState.FAIL,
}
"""What Optuna is told. An interrupted trial is told nothing: it goes on when the study does."""


class TaskSampler:
    """Proposes points of a space for one task. Every draw's randomness is a stream of (seed, task, number)."""

    def __init__(self, space: Space, storage: BaseStorage, name: str, *, seed: int, startup_trials: int) -> None:
        self._space, self._seed, self._startup = space, seed, startup_trials
        self._study = optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)
        self._open = {
            trial.user_attrs["trial_id"]: trial.number
            for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
            if "trial_id" in trial.user_attrs
        }

    def ask(self, trial_id: str) -> dict[str, Any]:
        """A feasible point: each knob that its method reads, by name.

        Points beyond the parameter limit are told to Optuna as failed and never leave this method.
        A trial that was asked for before and has not ended gets the same point again.
        """
        if trial_id in self._open:
            drawn = self._study.get_trials(deepcopy=False)[self._open[trial_id]].params
            return self._point(lambda name, _: drawn[name])
        for attempt in count():
            number = len(self._study.get_trials(deepcopy=False))
            if attempt == ATTEMPTS:
                self._study.enqueue_trial(self._drawn_evenly(number))
            self._study.sampler = self._sampler(number)
            trial = self._study.ask()
            params = self._point(trial._suggest)
            if self._space.feasible(params):
                trial.set_user_attr("trial_id", trial_id)
                self._open[trial_id] = trial.number
                return params
            self._study.tell(trial, state=TrialState.FAIL)
        raise AssertionError("a feasible point is enqueued in the end")

    def _drawn_evenly(self, number: int) -> dict[str, Any]:
        """What a feasible point searches, drawn without Optuna."""
        rng = random.Random(stream(self._seed, "even draw", self._study.study_name, number))
        params = self._space.draw_feasible(rng)
        return {name: value for name, value in params.items() if not isinstance(self._space.domains[name], Fixed)}

    def report(self, trial_id: str, examples: int, score: float) -> None:
        """A score at a rung; `examples` is the step."""
        if trial_id in self._open:
            trial = optuna.trial.Trial(self._study, self._study.trials[self._open[trial_id]]._trial_id)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # a rung that is reported again after a resume
                trial.report(score, examples)

    def tell(self, trial_id: str, status: Status, score: float | None) -> None:
        """What became of a trial; of one that is not open nothing is told."""
        if status not in STATES or trial_id not in self._open:
            return
        number = self._open.pop(trial_id)
        values = score if status is Status.COMPLETED else None
        self._study.tell(number, values, state=STATES[status])

    def _point(self, draw: Callable[[str, BaseDistribution], Any]) -> dict[str, Any]:
        """Each knob that the drawn method reads: its fixed value, or what `draw` gives."""

        def value(name: str) -> Any:
            domain = self._space.domains[name]
            return domain.value if isinstance(domain, Fixed) else draw(name, distribution_of(domain))

        method = str(value("method"))
        return {name: method if name == "method" else value(name) for name in self._space.reads(method)}

    def _sampler(self, number: int) -> BaseSampler:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return TPESampler(
                n_startup_trials=self._startup,
                constant_liar=True,
                seed=stream(self._seed, "sampler", self._study.study_name, number) % 2**32,
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


def open_samplers(
    tasks: tuple[str, ...], space: Space, journal: Path, *, study: str, seed: int, startup_trials: int
) -> dict[str, TaskSampler]:
    """One sampler a task, all in one journal file that optuna-dashboard opens."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = JournalStorage(JournalFileBackend(str(journal)))
    make: Callable[[str], TaskSampler] = lambda task: TaskSampler(  # noqa: E731
        space, storage, f"{study}/{task}", seed=seed, startup_trials=startup_trials
    )
    return {task: make(task) for task in tasks}
