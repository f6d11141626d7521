"""Computes Pareto fronts of score against a cost: of one task, and of the average over tasks."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

Each = TypeVar("Each")
Point = tuple[float, float]
"""(cost, score). The cost is the number of trainable parameters, or another number that should be low."""
Front = Sequence[Point]
"""Points in which both the cost and the score rise."""


def front_of(everyone: Iterable[Each], point: Callable[[Each], Point]) -> list[Each]:
    """Returns those that no other beats at the same or a lower cost, from the cheapest to the most expensive.

    A cost of 0 means that the cost is not known yet; such a one is left out.
    """
    front: list[Each] = []
    for each in sorted(everyone, key=lambda each: (point(each)[0], -point(each)[1])):
        if point(each)[0] and (not front or point(each)[1] > point(front[-1])[1]):
            front.append(each)
    return front


def average_front(fronts: Sequence[Front]) -> Front:
    """Returns, by size, the mean over the tasks of the best score with at most that many parameters, where it rises. It
    begins at the first size at which every task has a trial; it is empty if a task has none."""
    if not fronts or not all(fronts):
        return ()
    begin = max(front[0][0] for front in fronts)
    sizes = sorted({size for front in fronts for size, _ in front if size >= begin})
    means = [(size, sum(_best_within(front, size) for front in fronts) / len(fronts)) for size in sizes]
    return tuple(front_of(means, lambda mean: mean))


def _best_within(front: Front, size: float) -> float:
    return max(score for least, score in front if least <= size)
