"""Makes the searches that a replay compares, for all tasks of a study: one per task, or one model of them all."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain

import optuna
from optuna.samplers import GPSampler
from ray.tune.schedulers import TrialScheduler

from krona_tune.search.planning.space import Params
from krona_tune.search.searchers.history import History
from krona_tune.search.searchers.proposal import Origin, Proposal
from krona_tune.search.searchers.study_model import StudyModel
from krona_tune.search.searchers.task_sampler import distribution_of
from krona_tune.study.randomness import stream
from tests.benchmarks.search.curves import Seen
from tests.benchmarks.search.engine import Strategy, Trial, is_over
from tests.benchmarks.search.replay.recorded import rungs, space
from tests.benchmarks.search.strategies import ByChance, Make, Ours, RaysOwn, Setting, asha

Points = tuple[Params, ...]
STARTUP = 6
"""krona_tune's default number of even draws before TPE."""
MakeAll = Callable[[int, Mapping[str, float]], dict[str, Strategy]]
"""Makes a strategy per task, from the study's seed and the worst last score of each task, that of a constant answer."""


def by_task(make: Make) -> MakeAll:
    """Returns a maker of strategies that know nothing of one another."""
    return lambda seed, chances: {task: make(_setting(task, seed, chance)) for task, chance in chances.items()}


def by_one_model(first: Points = ()) -> MakeAll:
    """Returns a maker of krona_tune's search by one model of all tasks; every task tries the `first` points first."""

    def made(seed: int, chances: Mapping[str, float]) -> dict[str, Strategy]:
        model = StudyModel(space(), dict.fromkeys(chances, rungs().total_examples), seed)
        return {
            task: Modelled(_setting(task, seed, chance), task=task, startup=STARTUP, model=model, first=first)
            for task, chance in chances.items()
        }

    return made


def _setting(task: str, seed: int, chance: float) -> Setting:
    return Setting(space=space(), schedule=rungs(), seed=stream(seed, "search", task) % 2**31, chance=chance)


@dataclass
class Modelled(Ours):
    """krona_tune's sampler and scheduler for one task, where one model of all tasks proposes the points."""

    task: str = ""
    model: StudyModel | None = None
    first: Points = ()

    @property
    def _shared(self) -> History:
        assert self.model is not None
        return self.model.history

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

    def _suggested(self, number: int) -> Iterable[Proposal]:
        assert self.model is not None
        first = (Proposal(point, Origin()) for point in self.first[number : number + 1])
        return chain(first, self.model.suggest(self.task, number))

    def _name(self, trial: Trial) -> str:
        return f"{self.task}-{trial.number:03d}"


@dataclass
class GaussianProcess:
    """Optuna's GPSampler with ASHA; each trial is told as complete with its last score when it ends."""

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
            self._study.tell(asked, state=optuna.trial.TrialState.FAIL)

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


RIVALS: dict[str, MakeAll] = {
    "random + ASHA": by_task(partial(ByChance, early=True)),
    "Ray's OptunaSearch + ASHA": by_task(RaysOwn),
    "krona_tune, TPE": by_task(partial(Ours, startup=STARTUP)),
    "Optuna's GPSampler + ASHA": by_task(GaussianProcess),
    "krona_tune, one model": by_one_model(),
}
