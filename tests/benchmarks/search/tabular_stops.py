"""Holds the rules that stop trials of a tabular replay: none, Ray's ASHA, and a forecast that other tasks teach."""

from bisect import insort
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from math import sqrt

import numpy as np
from scipy.special import ndtr

from tests.benchmarks.search.replay.recorded import Array, Recorded
from tests.benchmarks.search.tabular_study import Continues, Setting, Trial

MakeStop = Callable[[Setting], Continues]


def never(trial: Trial, trials: Sequence[Trial]) -> bool:
    """Trains each trial in full."""
    return True


def in_full(setting: Setting) -> Continues:
    """Returns the rule that stops nothing."""
    return never


def asha(rungs: Collection[int], reduction: int = 3) -> MakeStop:
    """Returns ASHA's rule, the same as Ray's, with rungs after these epochs: a trial continues if its score is in the
    upper 1/reduction of those that reached the rung before."""
    share = 1 - 1 / reduction

    def make(setting: Setting) -> Continues:
        reached: dict[int, list[float]] = defaultdict(list)

        def continues(trial: Trial, trials: Sequence[Trial]) -> bool:
            epochs, score = len(trial.seen), trial.seen[-1]
            if epochs not in rungs:
                return True
            rivals = reached[epochs]
            survives = not rivals or score >= quantile(rivals, share)
            insort(rivals, score)
            return survives

        return continues

    return make


def quantile(ordered: Sequence[float], share: float) -> float:
    """Returns the quantile of ascending numbers, between its two neighbours."""
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


LEAST_ENDED = 2
"""How many trials must have been trained in full before a forecast stops one."""
LEAST_SPREAD = 1e-6


def forecast(rungs: Collection[int], chance: float, teachers_weigh: float) -> MakeStop:
    """Returns a rule that stops a trial if its chance to beat the best one trained in full is below `chance`.

    Last scores are a straight line of those at a rung, with normal deviations. The line is fitted to the trials trained
    in full, and to the tasks that teach, which weigh as much as `teachers_weigh` trials; a score counts by its distance
    from its rung's mean, in the rung's deviations.
    """

    def make(setting: Setting) -> Continues:
        taught = {rung: _pairs(setting.teachers, rung) for rung in rungs}

        def continues(trial: Trial, trials: Sequence[Trial]) -> bool:
            rung = len(trial.seen)
            ended = [other for other in trials if other.complete]
            if rung not in rungs or len(ended) < LEAST_ENDED:
                return True
            reached = np.array([other.seen[rung - 1] for other in trials if len(other.seen) >= rung])
            last = np.array([other.seen[-1] for other in ended])
            middle, spread = reached.mean(), reached.std() + LEAST_SPREAD
            at_rung = (np.array([other.seen[rung - 1] for other in ended]) - middle) / spread
            normal = (last - last.mean()) / (last.std() + LEAST_SPREAD)
            pairs = np.vstack([np.column_stack([at_rung, normal]), taught[rung]])
            weights = np.append(np.ones(len(ended)), np.full(len(taught[rung]), teachers_weigh / len(taught[rung])))
            expected, deviation = _on_line(pairs, weights, (trial.seen[-1] - middle) / spread)
            return bool(ndtr((expected - normal.max()) / deviation) >= chance)

        return continues

    return make


def _pairs(teachers: Sequence[Recorded], rung: int) -> Array:
    """Returns each recorded point's score at a rung and its last one (n, 2), in deviations from the task's mean."""
    found = [table.scores[:, [rung - 1, -1]] for table in teachers]
    return np.vstack([(pairs - pairs.mean(axis=0)) / pairs.std(axis=0) for pairs in found])


def _on_line(pairs: Array, weights: Array, at: float) -> tuple[float, float]:
    """Returns the value at a place on the line through weighted pairs (n, 2), and the deviation from the line."""
    centre = np.average(pairs, axis=0, weights=weights)
    x, y = (pairs - centre).T
    slope = float((weights * x * y).sum() / ((weights * x * x).sum() + LEAST_SPREAD))
    deviation = sqrt(float(np.average((y - slope * x) ** 2, weights=weights))) + LEAST_SPREAD
    return float(centre[1]) + slope * (at - float(centre[0])), deviation
