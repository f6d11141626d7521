"""Finds points of earlier studies that are worth trying before Optuna's proposals."""

from collections.abc import Iterator, Sequence

from krona_tune.search.planning.space import Params, Space
from krona_tune.search.searchers.proposal import EARLIER, Origin, Proposal
from krona_tune.study.result import TrialResult
from krona_tune.study.standings import rank

BEST = 3
"""How many of a task's best points in an earlier study the same task tries."""


def earlier_points(rows: Sequence[TrialResult], tasks: Sequence[str]) -> dict[str, list[Params]]:
    """Returns each task's points from an earlier study: the best on the same task, then the best on every other."""
    whole = rank(row for row in rows if row.kind == "search" and row.finished)
    of_task: dict[str, list[Params]] = {}
    for row in whole:
        of_task.setdefault(row.task, []).append(row.params)
    return {
        task: [*of_task.get(task, [])[:BEST], *(points[0] for other, points in of_task.items() if other != task)]
        for task in tasks
    }


def adopt_points(space: Space, points: Sequence[Params], number: int) -> Iterator[Proposal]:
    """Yields points to try as the trial of that number, the best first; none if Optuna should propose it."""
    adopted = (point for params in points[number:] if (point := space.adopted(params)) is not None)
    return (Proposal(point, Origin(proposed_by=EARLIER)) for point in adopted)
