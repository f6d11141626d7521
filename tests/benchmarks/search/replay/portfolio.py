"""Chooses few recorded points that are good on many tasks together, to be tried first on another task."""

from collections.abc import Iterable
from functools import cache

import numpy as np

from tests.benchmarks.search.replay.recorded import Array, Points, Recorded, recorded_tasks

SIZE = 4


@cache
def held_out(task: str) -> Points:
    """Returns the portfolio of all recorded tasks but this one, so that it knows nothing of it."""
    return portfolio(each for name, each in recorded_tasks().items() if name != task)


def portfolio(tasks: Iterable[Recorded], size: int = SIZE) -> Points:
    """Returns the points that, taken one after the other, lower the mean regret over the tasks the most.

    A task's regret is that of the best point chosen so far, as a share of what the middle point loses against the best.
    """
    given = list(tasks)
    regrets = np.stack([regret(each) for each in given])
    chosen: list[int] = []
    best = np.full(len(given), np.inf)
    for _ in range(min(size, regrets.shape[1])):
        then = np.minimum(best[:, None], regrets)
        means = then.mean(axis=0)
        means[chosen] = np.inf
        chosen.append(int(means.argmin()))
        best = then[:, chosen[-1]]
    return tuple(given[0].points[index] for index in chosen)


def regret(task: Recorded) -> Array:
    """Returns each point's regret (n,); a diverged point loses as much as the worst one."""
    last = task.scores[:, -1]
    last = np.where(np.isnan(last), np.nanmin(last), last)
    found: Array = (last.max() - last) / (last.max() - np.median(last))
    return found
