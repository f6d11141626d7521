"""Predicts the learning curve of any point from the recorded ones, by forests that no searcher uses as its model."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri
from scipy.stats import rankdata, spearmanr
from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor

from krona_tune.search.planning.space import Params
from krona_tune.study.randomness import stream
from krona_tune.study.request.schedule import Schedule
from tests.benchmarks.search.curves import Seen
from tests.benchmarks.search.replay.recorded import EPOCHS, Array, Recorded, common_numbers, features, knobs, space

TREES, LEAF = 60, 2
DRAWS = 3000
"""How many even draws are looked at to find the best point."""
NEAR = 8
"""Noise is that of one of so many repeats whose scores are nearest."""
FOLDS, SHUFFLES = 8, 3
Indices = npt.NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Says what a forest reads of a point, and whether one forest serves all tasks or each task has its own."""

    reads: Callable[[Params], Array]
    jointly: bool


JUDGES = {"effects": Judge(reads=features, jointly=True), "knobs": Judge(reads=knobs, jointly=False)}
"""The first reads what a point does beside its knobs, and splits where all tasks of a study differ the most; the second
is of the knobs alone and of one task alone, so that no searcher shares what it was told."""


@dataclass(eq=False)
class Landscape:
    """The scores of any point on some tasks, as one bootstrap of the recorded configurations shows them.

    Its forests, one per epoch, predict the normal quantile of a score among those of its epoch.

    Args:
        numbers: the configurations that may be drawn; those that a search tries first would have an advantage.
    """

    tasks: Mapping[str, Recorded]
    seed: int
    numbers: tuple[int, ...]
    judge: Judge = JUDGES["effects"]
    bootstrapped: bool = True

    @cached_property
    def chosen(self) -> tuple[int, ...]:
        """Returns the numbers of the configurations, some of them more than once."""
        if not self.bootstrapped:
            return self.numbers
        rng = np.random.default_rng(stream(self.seed, "bootstrap"))
        return tuple(self.numbers[index] for index in rng.integers(0, len(self.numbers), len(self.numbers)))

    @cached_property
    def read(self) -> Array:
        """Returns what is read of the chosen configurations (n, d)."""
        points = next(iter(self.tasks.values())).by_number()
        return np.array([self.judge.reads(points[number]) for number in self.chosen])

    def known(self, epoch: int) -> Array:
        """Returns the chosen configurations' scores after an epoch, counted from 0, (n, tasks); a diverged one counts
        as the lowest score."""
        found = []
        for task in self.tasks.values():
            own = task.scores[[task.numbers.index(number) for number in self.chosen], epoch]
            found.append(np.where(np.isnan(own), np.nanmin(task.scores[:, epoch]), own))
        return np.stack(found, axis=1)

    def predict(self, at: Array, epoch: int) -> Array:
        """Returns the expected scores (m, tasks) of points, as the judge reads them, (m, d)."""
        values = np.hstack([_mean_of_trees(forest, at) for forest in self._forests(epoch)])
        known = self.known(epoch)
        return np.stack([np.quantile(own, ndtr(value)) for own, value in zip(known.T, values.T, strict=True)], axis=1)

    @cached_property
    def _fitted(self) -> dict[int, list[ExtraTreesRegressor]]:
        return {}

    def _forests(self, epoch: int) -> list[ExtraTreesRegressor]:
        if epoch not in self._fitted:
            quantiles = ndtri((rankdata(self.known(epoch), axis=0) - 0.5) / len(self.chosen))
            parts = [quantiles] if self.judge.jointly else np.split(quantiles, len(self.tasks), axis=1)
            self._fitted[epoch] = [
                ExtraTreesRegressor(TREES, min_samples_leaf=LEAF, random_state=self.seed).fit(self.read, part.squeeze())
                for part in parts
            ]
        return self._fitted[epoch]


def _mean_of_trees(forest: ExtraTreesRegressor, at: Array) -> Array:
    """Returns what the forest predicts (m, outputs), without its checks of each call and tree, which cost ten times as
    much as the trees."""
    rows = at.astype(np.float32)
    found: Array = np.mean([tree.tree_.predict(rows).reshape(len(rows), -1) for tree in forest.estimators_], axis=0)
    return found


@dataclass(frozen=True, eq=False)
class Surrogate:
    """A task of a landscape."""

    name: str
    landscape: Landscape

    @property
    def recorded(self) -> Recorded:
        return self.landscape.tasks[self.name]

    def expected(self, at: Array, epoch: int) -> Array:
        """Returns the expected scores (m,) after an epoch of points as the judge reads them (m, d)."""
        found: Array = self.landscape.predict(at, epoch)[:, list(self.landscape.tasks).index(self.name)]
        return found

    def final(self, params: Params) -> float:
        """Returns the expected score at the full budget."""
        return float(self.expected(self._read(params), EPOCHS - 1)[0])

    @cached_property
    def finals(self) -> Array:
        """Returns the expected scores at the full budget of even draws and of the recorded points that were seen."""
        return self.expected(np.vstack([drawn(self.landscape.judge.reads), self.landscape.read]), EPOCHS - 1)

    @property
    def best(self) -> float:
        return float(self.finals.max())

    @property
    def span(self) -> float:
        """Returns what a point in the middle loses against the best."""
        return self.best - float(np.median(self.finals[:DRAWS]))

    @cached_property
    def _risk(self) -> ExtraTreesClassifier | None:
        own = self.recorded
        diverged = np.isnan(own.scores[[own.numbers.index(number) for number in self.landscape.chosen], -1])
        if diverged.all() or not diverged.any():
            return None
        forest = ExtraTreesClassifier(TREES, min_samples_leaf=LEAF, random_state=self.landscape.seed)
        return forest.fit(self.landscape.read, diverged)

    @cached_property
    def _curves(self) -> dict[tuple[str, Schedule], tuple[Seen, ...]]:
        return {}

    def curve(self, params: Params, schedule: Schedule) -> tuple[Seen, ...]:
        """Returns the reports of one training, one per rung; the last one is NaN if it diverged."""
        key = (repr(sorted(params.items())), schedule)
        if key not in self._curves:
            self._curves[key] = self._trained(params, schedule)
        return self._curves[key]

    def _read(self, params: Params) -> Array:
        return self.landscape.judge.reads(params)[None]

    def _trained(self, params: Params, schedule: Schedule) -> tuple[Seen, ...]:
        rng = np.random.default_rng(stream(self.landscape.seed, "trial", self.name, repr(sorted(params.items()))))
        at = self._read(params)
        noise = self._noise(self.final(params), rng)
        risk = float(self._risk.predict_proba(at)[0, 1]) if self._risk else 0.0
        fate, when = rng.uniform(), rng.uniform()
        seen: list[Seen] = []
        for examples in schedule.rungs:
            epoch = round(examples / schedule.examples_per_epoch) - 1
            if fate < risk and when <= (epoch + 1) / EPOCHS:
                lasted = round(when * schedule.total_examples)
                return (*seen, Seen(examples=max(lasted, 1), score=np.nan, train_loss=np.nan))
            score = float(self.expected(at, epoch)[0] + noise[epoch])
            seen.append(Seen(examples=examples, score=score, train_loss=0.0))
        return tuple(seen)

    def _noise(self, score: float, rng: np.random.Generator) -> Array:
        if not len(self.recorded.around):
            return np.zeros(EPOCHS)
        nearest = np.argsort(np.abs(self.recorded.around - score), kind="stable")[:NEAR]
        found: Array = self.recorded.deviations[rng.choice(nearest)] * rng.choice([-1.0, 1.0])
        return found


def surrogates(
    tasks: Mapping[str, Recorded], seed: int, judge: Judge = JUDGES["effects"], without: tuple[int, ...] = ()
) -> dict[str, Surrogate]:
    """Returns a study's tasks, whose landscape never sees the points of the numbers in `without`."""
    numbers = tuple(number for number in common_numbers(tasks.values()) if number not in without)
    landscape = Landscape(tasks, seed, numbers, judge)
    return {name: Surrogate(name, landscape) for name in tasks}


@cache
def drawn(reads: Callable[[Params], Array]) -> Array:
    """Returns what is read of even, feasible draws (DRAWS, d)."""
    rng, of = random.Random(0), space()
    points = (of.draw_where(of.feasible, rng) for _ in range(DRAWS))
    return np.array([reads(point) for point in points if point is not None])


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """Says how well the forests predict configurations that they have not seen, at the last epoch: the rank
    correlation, and the residuals' deviation beside that of the repeated seeds."""

    rank_correlation: float
    residual: float
    seeds: float

    @property
    def accepted(self) -> bool:
        return self.rank_correlation >= 0.85 and self.residual <= 1.5 * self.seeds


def fidelity(tasks: Mapping[str, Recorded], judge: Judge = JUDGES["effects"]) -> dict[str, Fidelity]:
    """Returns each task's fidelity, by the mean prediction of several cross-validations over configurations."""
    numbers = np.array(common_numbers(tasks.values()))
    predicted = np.zeros((len(numbers), len(tasks)))
    whole = Landscape(tasks, 0, tuple(map(int, numbers)), judge, bootstrapped=False)
    for shuffle in range(SHUFFLES):
        fold = np.random.default_rng(shuffle).permutation(len(numbers)) % FOLDS
        for each in range(FOLDS):
            seen = Landscape(tasks, each, tuple(map(int, numbers[fold != each])), judge, bootstrapped=False)
            predicted[fold == each] += seen.predict(whole.read[fold == each], EPOCHS - 1) / SHUFFLES
    true = whole.known(EPOCHS - 1)
    return {
        name: Fidelity(
            rank_correlation=float(spearmanr(predicted[:, at], true[:, at]).statistic),
            residual=float(np.std(predicted[:, at] - true[:, at])),
            seeds=float(np.std(task.deviations[:, -1])) if len(task.deviations) else float("nan"),
        )
        for at, (name, task) in enumerate(tasks.items())
    }
