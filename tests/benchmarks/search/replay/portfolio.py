"""Chooses few recorded points that are good on many tasks together, to be tried first on other tasks."""

from collections.abc import Iterable
from functools import cache

import numpy as np

from tests.benchmarks.search.replay.recorded import Array, Points, Recorded, common_numbers, recorded_tasks

SIZE = 4
Numbers = tuple[int, ...]


def first_points(study: Iterable[str]) -> Points:
    """Returns the points that a study of these tasks tries first: the portfolio of all other recorded tasks."""
    by_number = {number: point for each in recorded_tasks().values() for number, point in each.by_number().items()}
    return tuple(by_number[number] for number in first_numbers(frozenset(study)))


@cache
def first_numbers(study: frozenset[str]) -> Numbers:
    """Returns the numbers of the points that a study of these tasks tries first."""
    others = [each for name, each in recorded_tasks().items() if name not in study]
    return portfolio(others) if others else ()


def portfolio(tasks: Iterable[Recorded], size: int = SIZE) -> Numbers:
    """Returns the numbers of the points that, taken one after the other, lower the mean regret over the tasks the most.

    A task's regret is that of the best point chosen so far, as a share of what the middle point loses against the best.
    Only points that all the tasks have are taken.
    """
    given = list(tasks)
    common = common_numbers(given)
    regrets = np.stack([regret(each)[[each.numbers.index(number) for number in common]] for each in given])
    chosen: list[int] = []
    best = np.full(len(given), np.inf)
    for _ in range(min(size, len(common))):
        then = np.minimum(best[:, None], regrets)
        means = then.mean(axis=0)
        means[chosen] = np.inf
        chosen.append(int(means.argmin()))
        best = then[:, chosen[-1]]
    return tuple(common[index] for index in chosen)


def regret(task: Recorded) -> Array:
    """Returns each point's regret (n,); a diverged point loses as much as the worst one."""
    last = task.scores[:, -1]
    last = np.where(np.isnan(last), np.nanmin(last), last)
    found: Array = (last.max() - last) / (last.max() - np.median(last))
    return found
