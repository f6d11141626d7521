"""Predicts the learning curve of any point from the recorded ones, by a forest that no searcher uses as its model."""

import random
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr
from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor

from krona_tune.search.planning.space import Params
from krona_tune.study.randomness import stream
from krona_tune.study.spec.schedule import Schedule
from tests.benchmarks.search.curves import Seen
from tests.benchmarks.search.replay.recorded import EPOCHS, Array, Recorded, features, space

TREES, LEAF = 60, 2
DRAWS = 3000
"""How many even draws are looked at to find the best point."""
NEAR = 8
"""Noise is that of one of so many repeats whose scores are nearest."""
FOLDS = 5
Indices = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Surrogate:
    """One instance of a task: the forest is fitted to a bootstrap of the configurations, which the seed draws.

    It never sees the points of the numbers in `without`: those that a search tries first would have an advantage.
    """

    recorded: Recorded
    seed: int
    without: tuple[int, ...] = ()

    @cached_property
    def _chosen(self) -> Indices:
        rng = np.random.default_rng(stream(self.seed, "bootstrap", self.recorded.task))
        seen = np.flatnonzero([number not in self.without for number in self.recorded.numbers])
        return np.asarray(seen[rng.integers(0, len(seen), len(seen))])

    @cached_property
    def _forest(self) -> ExtraTreesRegressor:
        return fit(self.recorded, self._chosen, self.seed)

    @cached_property
    def _risk(self) -> ExtraTreesClassifier | None:
        diverged = np.isnan(self.recorded.scores[:, -1])[self._chosen]
        if diverged.all() or not diverged.any():
            return None
        forest = ExtraTreesClassifier(TREES, min_samples_leaf=LEAF, random_state=self.seed)
        return forest.fit(self.recorded.features[self._chosen], diverged)

    def expected(self, params: Params) -> tuple[Array, Array]:
        """Returns the expected scores and training losses (EPOCHS,)."""
        predicted = self._forest.predict(rows(features(params)[None]))
        return predicted[:, 0], predicted[:, 1]

    def final(self, params: Params) -> float:
        """Returns the expected score at the full budget."""
        return float(self.expected(params)[0][-1])

    @cached_property
    def finals(self) -> Array:
        """Returns the expected scores at the full budget of even draws and of the recorded points that were seen."""
        at = np.vstack([drawn(), self.recorded.features[np.unique(self._chosen)]])
        return np.asarray(self._forest.predict(np.hstack([at, np.ones((len(at), 1))]))[:, 0])

    @property
    def best(self) -> float:
        return float(self.finals.max())

    @property
    def span(self) -> float:
        """Returns what a point in the middle loses against the best."""
        return self.best - float(np.median(self.finals[:DRAWS]))

    @cached_property
    def _curves(self) -> dict[tuple[str, Schedule], tuple[Seen, ...]]:
        return {}

    def curve(self, params: Params, at: Schedule) -> tuple[Seen, ...]:
        """Returns the reports of one training, one per rung; the last one is NaN if it diverged."""
        key = (repr(sorted(params.items())), at)
        if key not in self._curves:
            self._curves[key] = self._trained(params, at)
        return self._curves[key]

    def _trained(self, params: Params, at: Schedule) -> tuple[Seen, ...]:
        rng = np.random.default_rng(stream(self.seed, "trial", self.recorded.task, repr(sorted(params.items()))))
        scores, losses = self.expected(params)
        noise = self._noise(scores[-1], rng)
        risk = float(self._risk.predict_proba(features(params)[None])[0, 1]) if self._risk else 0.0
        fate, when = rng.uniform(), rng.uniform()
        seen: list[Seen] = []
        for examples in at.rungs:
            epoch = round(examples / at.examples_per_epoch) - 1
            if fate < risk and when <= (epoch + 1) / EPOCHS:
                lasted = round(when * at.total_examples)
                return (*seen, Seen(examples=max(lasted, 1), score=np.nan, train_loss=np.nan))
            score = float(scores[epoch] + noise[epoch])
            seen.append(Seen(examples=examples, score=score, train_loss=float(losses[epoch])))
        return tuple(seen)

    def _noise(self, score: float, rng: np.random.Generator) -> Array:
        if not len(self.recorded.around):
            return np.zeros(EPOCHS)
        nearest = np.argsort(np.abs(self.recorded.around - score), kind="stable")[:NEAR]
        found: Array = self.recorded.deviations[rng.choice(nearest)] * rng.choice([-1.0, 1.0])
        return found


_DRAWN: list[Array] = []


def drawn() -> Array:
    """Returns the features (DRAWS, d) of even, feasible draws."""
    if not _DRAWN:
        rng, of = random.Random(0), space()
        points = (of.draw_where(of.feasible, rng) for _ in range(DRAWS))
        _DRAWN.append(np.array([features(point) for point in points if point is not None]))
    return _DRAWN[0]


def rows(at: Array) -> Array:
    """Returns a row per point and epoch: the features (n, d) and the share of the full budget."""
    shares = np.tile(np.arange(1, EPOCHS + 1) / EPOCHS, len(at))[:, None]
    return np.hstack([np.repeat(at, EPOCHS, axis=0), shares])


def fit(recorded: Recorded, chosen: Indices, seed: int) -> ExtraTreesRegressor:
    """Returns a forest for (score, training loss), fitted jointly over the epochs of the chosen configurations."""
    x = rows(recorded.features[chosen])
    y = np.stack([recorded.scores[chosen].ravel(), recorded.losses[chosen].ravel()], axis=1)
    there = ~np.isnan(y).any(axis=1)
    return ExtraTreesRegressor(TREES, min_samples_leaf=LEAF, random_state=seed).fit(x[there], y[there])


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """How well the forest predicts configurations that it has not seen, at the last epoch: the rank correlation, and
    the residuals' deviation beside that of the repeated seeds."""

    rank_correlation: float
    residual: float
    seeds: float

    @property
    def accepted(self) -> bool:
        return self.rank_correlation >= 0.85 and self.residual <= 1.5 * self.seeds


def fidelity(recorded: Recorded) -> Fidelity:
    """Returns the forest's fidelity by cross-validation over configurations."""
    count = len(recorded.points)
    fold = np.random.default_rng(0).permutation(count) % FOLDS
    predicted = np.full(count, np.nan)
    for each in range(FOLDS):
        forest = fit(recorded, np.flatnonzero(fold != each), each)
        at = recorded.features[fold == each]
        predicted[fold == each] = forest.predict(np.hstack([at, np.ones((len(at), 1))]))[:, 0]
    true = recorded.scores[:, -1]
    there = ~np.isnan(true)
    return Fidelity(
        rank_correlation=float(spearmanr(predicted[there], true[there]).statistic),
        residual=float(np.std(predicted[there] - true[there])),
        seeds=float(np.std(recorded.deviations[:, -1])) if len(recorded.deviations) else float("nan"),
    )
