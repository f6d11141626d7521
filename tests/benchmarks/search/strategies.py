"""Holds the existing ways to search: at random, with Ray's own parts, and krona_tune's."""

import logging
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import optuna
from optuna.storages import InMemoryStorage
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler
from ray.tune.search.optuna import OptunaSearch

from krona_tune.search.planning.space import Params, Space
from krona_tune.search.searchers.asha import AshaPerGroup
from krona_tune.search.searchers.proposal import Origin, Proposal, TriedPoint
from krona_tune.search.searchers.task_sampler import TaskSampler, distribution_of
from krona_tune.search.searchers.taught_points import TaughtPoints
from krona_tune.search.trial_message import TrialMessage
from krona_tune.study.proposer import Proposer
from krona_tune.study.request.schedule import Schedule
from krona_tune.study.result import Status
from tests.benchmarks.search.curves import Seen
from tests.benchmarks.search.engine import Strategy, Trial, is_over

optuna.logging.set_verbosity(optuna.logging.ERROR)
logging.getLogger("ray.tune").setLevel(logging.ERROR)
TASK = "stub"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Holds what a strategy is made for. `chance` is the score of a constant answer, `first` what to try first."""

    space: Space
    schedule: Schedule
    seed: int
    chance: float
    first: tuple[Params, ...] = ()


Make = Callable[[Setting], Strategy]


def asha(schedule: Schedule, time_attr: str) -> AsyncHyperBandScheduler:
    return AsyncHyperBandScheduler(
        time_attr=time_attr,
        metric="score",
        mode="max",
        grace_period=schedule.rungs[0],
        max_t=schedule.total_examples,
        reduction_factor=schedule.reduction,
    )


@dataclass
class ByChance:
    """Uniform random points; with `early`, stopped by Ray's ASHA, where a diverged trial counts with its last score."""

    setting: Setting
    early: bool = False

    def __post_init__(self) -> None:
        self.schedule = self.setting.schedule
        self._rng, self._begun = random.Random(self.setting.seed), 0
        self._asha = asha(self.schedule, "examples")

    def next(self) -> Trial:
        point = self.setting.space.draw_where(self.setting.space.feasible, self._rng)
        assert point is not None
        trial = Trial(number=self._begun, params=point)
        self._begun += 1
        self._asha.on_trial_add(None, trial)
        return trial

    def heard(self, trial: Trial, seen: Seen) -> bool:
        if is_over(trial, self.schedule):
            return False
        told = {"examples": seen.examples, "score": seen.score}
        return not self.early or self._asha.on_trial_result(None, trial, told) == TrialScheduler.CONTINUE


@dataclass
class RaysOwn:
    """`OptunaSearch` with `ASHAScheduler`, called in the order in which Tune's controller calls them.

    A training that diverges ends and reports the score of a constant answer, as an accuracy would be; with `nan` it
    reports NaN, as a loss would be. A point whose sizes do not fit reports the same at once, and costs nothing; beside
    the score it has the `largest` size.
    """

    setting: Setting
    nan: bool = False
    metrics: tuple[str, ...] = ("score",)
    modes: tuple[str, ...] = ("max",)
    largest: int = 0

    def __post_init__(self) -> None:
        self.schedule, space = self.setting.schedule, self.setting.space
        domains = {label: distribution_of(domain) for label, domain in space.searched().items()}
        several = len(self.metrics) > 1
        metric, mode = (list(self.metrics), list(self.modes)) if several else (self.metrics[0], self.modes[0])
        self._search = OptunaSearch(
            domains,
            metric=metric,
            mode=mode,
            seed=self.setting.seed,
            points_to_evaluate=[space.drawn(point) for point in self.setting.first] or None,
        )
        self._search._setup_study(mode)  # private: Ray Tune calls it, which does not run here
        self._asha, self._begun = asha(self.schedule, "examples"), 0

    def next(self) -> Trial:
        while True:
            number = self._begun
            drawn = self._search.suggest(f"stub-{number:04d}")
            self._begun += 1
            trial = Trial(number=number, params=self.setting.space.point(lambda label, _: drawn[label]))  # noqa: B023
            if self.setting.space.feasible(trial.params):
                self._asha.on_trial_add(None, trial)
                return trial
            told = {"score": self.setting.chance, "size": self.largest, "training_iteration": 1}
            self._search.on_trial_complete(trial.trial_id, result=told)

    def heard(self, trial: Trial, seen: Seen) -> bool:
        score = seen.score if not seen.diverged or self.nan else self.setting.chance
        told = {"examples": seen.examples, "score": score, "training_iteration": len(trial.seen)}
        if is_over(trial, self.schedule):
            self._asha.on_trial_complete(None, trial, told)
        elif self._asha.on_trial_result(None, trial, told) == TrialScheduler.CONTINUE:
            self._search.on_trial_result(trial.trial_id, told)
            return True
        self._search.on_trial_complete(trial.trial_id, result=told)
        return False


@dataclass
class Ours:
    """krona_tune's sampler and scheduler, with the calls that `search.searchers.task_searcher` makes.

    With `every_size`, they look for the best score at every size; with `tries_largest`, so that the largest is tried.
    """

    setting: Setting
    startup: int = 10
    taught: TaughtPoints | None = None
    every_size: bool = False
    tries_largest: bool = False

    def __post_init__(self) -> None:
        self.schedule, self._begun = self.setting.schedule, 0
        self.sampler = TaskSampler(
            self.setting.space,
            InMemoryStorage(),
            TASK,
            seed=self.setting.seed,
            startup_trials=self.startup,
            suggest=self.taught.before(self._suggested) if self.taught else self._suggested,
            every_size=self.every_size,
            tries_largest=self.tries_largest,
        )
        self._judge = AshaPerGroup(
            {TASK: self.schedule},
            per_method=False,
            size_of=self.setting.space.parameters if self.every_size else None,
            spared=self._spared,
        )

    def next(self) -> Trial:
        number = self._begun
        params = self.sampler.ask(f"stub-{number:04d}", number)
        assert params is not None
        self._begun += 1
        trial = Trial(number=number, params=params)
        self._judge.on_trial_add(None, _tunes(trial))
        return trial

    def heard(self, trial: Trial, seen: Seen) -> bool:
        if seen.diverged:
            last = trial.seen[-2].score if len(trial.seen) > 1 else None
            return self._ended(trial, Status.DIVERGED, last)
        self.sampler.report(trial.trial_id, seen.examples, seen.score)
        if is_over(trial, self.schedule):
            return self._ended(trial, Status.COMPLETED, seen.score)
        told = {"examples": seen.examples, "score": seen.score, "train_loss": seen.train_loss}
        if self._judge.on_trial_result(None, _tunes(trial), told) == TrialScheduler.CONTINUE:
            return True
        return self._ended(trial, Status.STOPPED_EARLY, seen.score)

    def _spared(self, message: TrialMessage) -> bool:
        """Returns whether a trial has a taught point that is believed to be good."""
        recorded = self.sampler.origin(message.trial_id).proposed_by == Proposer.RECORDED_CURVES
        return self.taught is not None and recorded and not self.taught.misled(self.sampler.tried())

    def _suggested(self, number: int, tried: Callable[[], Sequence[TriedPoint]]) -> Iterable[Proposal]:
        """Returns points that are tried before Optuna's proposals."""
        return (Proposal(point, Origin()) for point in self.setting.first[number : number + 1])

    def _ended(self, trial: Trial, status: Status, score: float | None) -> bool:
        self.sampler.tell(trial.trial_id, status, score)
        return False


def _tunes(trial: Trial) -> Any:
    """Returns a trial as Tune hands it to a scheduler."""
    message = TrialMessage(trial.trial_id, TASK, 0, "search", 0, dict(trial.params))
    return SimpleNamespace(trial_id=trial.trial_id, config=message.to_dict())
