"""Foretells from the recorded curves which score a point reaches on another task, with a 90 % interval.

A score counts as its share of the way from the best constant answer to the best possible score, 1. What is foretold is
the mean share over the recorded tasks. How far tasks and points are apart makes the interval, of which the points give
most of the degrees of freedom: four tasks alone say little of a fifth. A training that has begun foretells its own end.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import sqrt

import numpy as np
import numpy.typing as npt

from krona_tune.record.recorded_curves import CONSTANT
from krona_tune.search.planning.earlier_study import EarlierStudy
from krona_tune.study.intervals import student_quantile

COVERAGE = 0.9
"""The share of new scores that an interval is to hold."""
BEST = 1.0
"""The best possible score of a recorded task, and of every task whose score can be foretold."""
LEAST = -0.1
"""The least share that an interval reaches down to: what learned nothing scores about as the constant answer."""
PROBED = 1 / 3
"""The share of a training's steps after which its score foretells its end."""
GAINED = (-0.06, 0.15, 0.67)
"""Which share of the way from that score to a perfect one the other steps close: the 5 %, 50 % and 95 % quantiles over
good points on four backbones, and over the points of three tasks that were hardly learned
(`tests.benchmarks.search.probed_trainings`)."""
Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ExpectedScore:
    """A score that is expected, and the ends of its 90 % interval."""

    low: float
    score: float
    high: float

    def on(self, constant: float) -> "ExpectedScore":
        """Returns a share as the score of a task whose best constant answer has the score `constant`."""
        low, score, high = (constant + share * (BEST - constant) for share in (self.low, self.score, self.high))
        return ExpectedScore(low=low, score=score, high=high)

    def reaching(self, reach: float, least: float) -> "ExpectedScore":
        """Returns the same with an interval that reaches so far to both sides at least, but not below `least`."""
        low, high = min(self.low, self.score - reach), max(self.high, self.score + reach)
        return ExpectedScore(low=max(low, least), score=self.score, high=min(high, BEST))


def score_at_the_end(score: float, constant: float) -> ExpectedScore:
    """Returns the score of a training that has `score` after PROBED of its steps; `constant` is that of the task's best
    constant answer."""
    share = max((score - constant) / (BEST - constant), LEAST)
    low, middle, high = (share + gained * (BEST - share) for gained in GAINED)
    return ExpectedScore(low=max(low, LEAST), score=middle, high=high).on(constant)


@dataclass(frozen=True, kw_only=True)
class RecordedShares:
    """The final shares (n, k) of the design's points, by their `numbers`, on k recorded tasks."""

    tasks: tuple[str, ...]
    numbers: tuple[int, ...]
    shares: Array

    @cached_property
    def means(self) -> Array:
        """Returns each point's mean share over the tasks (n,)."""
        mean: Array = self.shares.mean(axis=1)
        return mean

    @cached_property
    def reach(self) -> float:
        """Returns how far a 90 % interval reaches on both sides of a point's mean share."""
        return reach_of(self.shares - self.means[:, None])

    def expected(self, number: int) -> ExpectedScore:
        """Returns the share that a point of this number reaches on a task that is not recorded."""
        mean = float(self.means[self.numbers.index(number)])
        return ExpectedScore(low=max(mean - self.reach, LEAST), score=mean, high=min(mean + self.reach, BEST))


def reach_of(apart: Array) -> float:
    """Returns how far a 90 % interval of a new task's value reaches on both sides of what is foretold.

    Two parts make the variance: how far the tasks are apart on all points together, of which there are as many as
    tasks, and how far each point is from that. The degrees of freedom are Satterthwaite's.

    Args:
        apart: how far the values of n points on k known tasks are from what is foretold (n, k).
    """
    points, tasks = apart.shape
    of_tasks = float((apart.mean(axis=0) ** 2).sum() / (tasks - 1))
    of_points = float(((apart - apart.mean(axis=0)) ** 2).sum() / ((points - 1) * (tasks - 1)))
    both = of_tasks + of_points
    freedom = both**2 / (of_tasks**2 / (tasks - 1) + of_points**2 / ((points - 1) * (tasks - 1)))
    return student_quantile(freedom, (1 + COVERAGE) / 2) * sqrt(both * (1 + 1 / tasks))


def recorded_shares(curves: EarlierStudy, constants: Mapping[str, float] = CONSTANT) -> RecordedShares:
    """Returns the final shares of a design's points on the tasks that it was recorded on.

    A training without a score counts as the task's worst.

    Args:
        constants: the score of the best constant answer on each task.
    """
    tasks = tuple(sorted(curves.budgets))
    numbers = tuple(sorted({row.number for row in curves.rows}))
    return RecordedShares(
        tasks=tasks,
        numbers=numbers,
        shares=np.array([_shares(curves, task, numbers, constants[task]) for task in tasks]).T,
    )


def _shares(curves: EarlierStudy, task: str, numbers: Sequence[int], constant: float) -> list[float]:
    scores = {row.number: row.score for row in curves.rows if row.task == task}
    worst = min(score for score in scores.values() if score is not None)
    found = [worst if (score := scores[number]) is None else score for number in numbers]
    return [(score - constant) / (BEST - constant) for score in found]
