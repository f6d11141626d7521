"""Finds the recorded points that are the best on other tasks, to be tried first."""

from collections.abc import Iterable
from functools import cache

from krona_tune.search.planning.earlier_study import shipped_curves
from krona_tune.search.searchers.proposal import adopt_points, earlier_points
from tests.benchmarks.search.replay.recorded import Points, recorded_tasks, space


def first_points(study: Iterable[str]) -> Points:
    """Returns the points that a study of these tasks tries first: the best of each other recorded task."""
    return _best_beside(frozenset(study))


@cache
def _best_beside(study: frozenset[str]) -> Points:
    anyone = "a task that was not recorded"
    best = earlier_points(shipped_curves(without=study).rows, [anyone])[anyone]
    return tuple(each.point for each in adopt_points(space(), best))


def first_numbers(study: Iterable[str]) -> tuple[int, ...]:
    """Returns the numbers of these points."""
    first, recorded = first_points(study), next(iter(recorded_tasks().values()))
    return tuple(number for number, point in recorded.by_number().items() if point in first)
