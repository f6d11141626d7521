"""Makes the searches that a replay compares, for all tasks of a study: one per task, or one model of them all."""

import random
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain

import optuna
from optuna.samplers import GPSampler
from ray.tune.schedulers import TrialScheduler

from krona_tune.record.recorded_curves import LEARNED
from krona_tune.search.planning.earlier_study import EarlierStudy, shipped_curves
from krona_tune.search.planning.teaching import read_teaching
from krona_tune.search.searchers.history import History
from krona_tune.search.searchers.proposal import Proposal, TriedPoint
from krona_tune.search.searchers.surrogate import TransferSurrogate
from krona_tune.search.searchers.task_sampler import distribution_of
from krona_tune.search.searchers.taught_points import TaughtPoints
from krona_tune.study.randomness import stream
from krona_tune.study.request.search_spec import SearchSpec
from krona_tune.study.result import TrialResult
from tests.benchmarks.search.curves import Seen
from tests.benchmarks.search.engine import Strategy, Trial, is_over
from tests.benchmarks.search.replay.first_points import first_points
from tests.benchmarks.search.replay.recorded import Points, point_of, rungs, space
from tests.benchmarks.search.replay.syne_tune_search import by_syne_tune
from tests.benchmarks.search.strategies import ByChance, Make, Ours, RaysOwn, Setting, asha

TRIALS = 20
"""The trials that a task of the default search plans; with these and more, eight of them are taught."""
STARTUP = 6
"""krona_tune's default number of even draws before TPE."""
MakeAll = Callable[[int, Mapping[str, float]], dict[str, Strategy]]
"""Makes a strategy per task, from the study's seed and the worst last score of each task, that of a constant answer."""
First = Callable[[Collection[str]], Points]
"""Returns the points that each task of a study of these tasks tries first."""
Teacher = Callable[[Collection[str], int], EarlierStudy]
"""Returns the earlier study that a study of these tasks and this seed learns from."""
DEFAULT = point_of({
    "a_out": 32, "a_in": 12, "terms": 1, "scaling": "plain", "scale": 1.0, "roles": "query+value", "layers": "last 3",
    "layer_norms": False, "learning_rate": 3e-3, "batch_size": 32, "dropout": 0.1, "warmup": 0.06,
})  # fmt: skip
"""The configuration that a person takes without a search: krona_tune's defaults, with nearly square factors."""


def by_task(make: Make, first: First = lambda study: ()) -> MakeAll:
    """Returns a maker of strategies that know nothing of one another; each tries the study's `first` points first."""
    return lambda seed, chances: {
        task: make(setting_of(task, seed, chance, first(chances))) for task, chance in chances.items()
    }


def other_tasks(study: Collection[str], seed: int) -> EarlierStudy:
    """Returns the recorded curves of all tasks that are not in the study."""
    return shipped_curves(without=study)


def misleading_tasks(study: Collection[str], seed: int) -> EarlierStudy:
    """Returns the same curves at wrong points: the tasks agree with one another but say nothing of the study's."""
    return with_shuffled_points(other_tasks(study, seed), seed)


def with_shuffled_points(found: EarlierStudy, seed: int) -> EarlierStudy:
    """Returns the same curves, whose points have changed places by chance, in all tasks alike."""
    rows = list[TrialResult]()
    for own in rows_by_task(found):
        points = [row.params for row in own]
        random.Random(stream(seed, "misleading")).shuffle(points)
        rows += [replace(row, params=point) for row, point in zip(own, points, strict=True)]
    return replace(found, rows=tuple(rows))


def rows_by_task(found: EarlierStudy) -> list[list[TrialResult]]:
    """Returns the rows of each task of an earlier study."""
    return [[row for row in found.rows if row.task == task] for task in found.budgets]


def by_one_model(first: First = lambda study: (), *, teacher: Teacher | None = None) -> MakeAll:
    """Returns a maker of krona_tune's search by one model of all tasks.

    Args:
        first: returns the points that each task tries first.
        teacher: returns what the model has seen before.
    """

    def made(seed: int, chances: Mapping[str, float]) -> dict[str, Strategy]:
        earlier = [teacher(chances, seed)] if teacher else []
        surrogate = TransferSurrogate(space(), dict.fromkeys(chances, rungs().total_examples), seed, earlier)
        return {
            task: Modelled(
                setting_of(task, seed, chance, first(chances)), task=task, startup=STARTUP, surrogate=surrogate
            )
            for task, chance in chances.items()
        }

    return made


def by_taught_points(teacher: Teacher) -> MakeAll:
    """Returns a maker of krona_tune's default search of each task, taught by what the teacher returns."""

    def made(seed: int, chances: Mapping[str, float]) -> dict[str, Strategy]:
        taught = read_teaching(space(), without=LEARNED, contributed=[teacher(chances, seed)])
        asked = SearchSpec(trials=TRIALS, taught=True)
        return {
            task: Ours(
                setting_of(task, seed, chance),
                startup=STARTUP,
                taught=TaughtPoints(task, space(), taught.points, asked),
            )
            for task, chance in chances.items()
        }

    return made


def setting_of(task: str, seed: int, chance: float, first: Points = ()) -> Setting:
    """Returns what a strategy for a task of a study of this seed is made for."""
    drawn = stream(seed, "search", task) % 2**31
    return Setting(space=space(), schedule=rungs(), seed=drawn, chance=chance, first=first)


@dataclass
class Modelled(Ours):
    """krona_tune's sampler and scheduler for one task, where one model of all tasks proposes the points."""

    task: str = ""
    surrogate: TransferSurrogate | None = None

    @property
    def _shared(self) -> History:
        assert self.surrogate is not None
        return self.surrogate.history

    def next(self) -> Trial:
        trial = super().next()
        self._shared.begin(self._name(trial), self.task, trial.params)
        return trial

    def heard(self, trial: Trial, seen: Seen) -> bool:
        if not seen.diverged:
            self._shared.report(self._name(trial), seen.examples, seen.score, seen.train_loss)
        goes_on = super().heard(trial, seen)
        if not goes_on:
            self._shared.end(self._name(trial), diverged=seen.diverged)
        return goes_on

    def _suggested(self, number: int, tried: Callable[[], Sequence[TriedPoint]]) -> Iterable[Proposal]:
        assert self.surrogate is not None
        return chain(super()._suggested(number, tried), self.surrogate.suggest(self.task, number))

    def _name(self, trial: Trial) -> str:
        return f"{self.task}-{trial.number:03d}"


@dataclass
class OnlyDefault:
    """The default configuration, trained to its end again and again."""

    setting: Setting

    def __post_init__(self) -> None:
        self.schedule, self._begun = self.setting.schedule, 0

    def next(self) -> Trial:
        self._begun += 1
        return Trial(number=self._begun - 1, params=DEFAULT)

    def heard(self, trial: Trial, seen: Seen) -> bool:
        return not is_over(trial, self.schedule)


@dataclass
class GaussianProcess:
    """Optuna's GPSampler with ASHA; each trial is told as complete with its last score when it ends, and a point whose
    sizes don't fit with the score of a constant answer: the sampler ignores failed trials, and proposed it for ever."""

    setting: Setting

    def __post_init__(self) -> None:
        self.schedule, of = self.setting.schedule, self.setting.space
        self._domains = {label: distribution_of(domain) for label, domain in of.searched().items()}
        self._study = optuna.create_study(sampler=GPSampler(seed=self.setting.seed), direction="maximize")
        self._asha = asha(self.schedule, "examples")
        self._asked: dict[int, optuna.Trial] = {}

    def next(self) -> Trial:
        while True:
            asked = self._study.ask(self._domains)
            point = self.setting.space.point(lambda label, _: asked.params[label])  # noqa: B023
            if self.setting.space.feasible(point):
                trial = Trial(number=asked.number, params=point)
                self._asked[asked.number] = asked
                self._asha.on_trial_add(None, trial)
                return trial
            self._study.tell(asked, self.setting.chance)

    def heard(self, trial: Trial, seen: Seen) -> bool:
        told = {"examples": seen.examples, "score": seen.score}
        if (
            not is_over(trial, self.schedule)
            and self._asha.on_trial_result(None, trial, told) == TrialScheduler.CONTINUE
        ):
            return True
        score = self.setting.chance if seen.diverged else seen.score
        self._study.tell(self._asked.pop(trial.number), score)
        return False


REFERENCE = "Ray's OptunaSearch + ASHA"
FULL = "random, full budget"
TAUGHT = "krona_tune, the default"
RIVALS: dict[str, MakeAll] = {
    "the default": by_task(OnlyDefault),
    FULL: by_task(ByChance),
    "random + ASHA": by_task(partial(ByChance, early=True)),
    REFERENCE: by_task(RaysOwn),
    "Ray's, the best of other tasks first": by_task(RaysOwn, first_points),
    "krona_tune, TPE": by_task(partial(Ours, startup=STARTUP)),
    "Optuna's GPSampler + ASHA": by_task(GaussianProcess),
    "Syne Tune's ASHABORE": by_task(by_syne_tune("ASHABORE")),
    "Syne Tune's ASHACQR": by_task(by_syne_tune("ASHACQR")),
    TAUGHT: by_taught_points(other_tasks),
    "krona_tune, one model": by_one_model(),
    "krona_tune, one model, the best of other tasks first": by_one_model(first_points),
    "krona_tune, one model taught by other tasks": by_one_model(teacher=other_tasks),
    "krona_tune, one model taught by other tasks, their best first": by_one_model(first_points, teacher=other_tasks),
    "krona_tune, one model misled by other tasks": by_one_model(teacher=misleading_tasks),
}
BASELINES = (REFERENCE, FULL)
"""The rivals of every table."""


def with_baselines(names: Iterable[str], known: Iterable[str] = ()) -> list[str]:
    """Returns the baselines whose results are not known, and the other names, each once."""
    missing = [name for name in BASELINES if name not in set(known)]
    return list(dict.fromkeys([*missing, *names]))
