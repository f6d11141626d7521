"""Finds points of earlier studies that are worth trying before Optuna's proposals."""

from collections.abc import Iterable, Sequence

from krona_tune.search.planning.space import Params, Space
from krona_tune.search.searchers.proposal import EARLIER, Origin, Proposal
from krona_tune.study.result import TrialResult
from krona_tune.study.standings import rank

BEST = 3
"""How many of a task's best points in an earlier study the same task tries."""


def earlier_points(rows: Sequence[TrialResult], tasks: Sequence[str]) -> dict[str, list[Params]]:
    """Returns each task's points from an earlier study: the best on the same task, then the best on every other."""
    of_task = points_by_task(rows)
    return {
        task: [*of_task.get(task, [])[:BEST], *(points[0] for other, points in of_task.items() if other != task)]
        for task in tasks
    }


def points_by_task(rows: Iterable[TrialResult]) -> dict[str, list[Params]]:
    """Returns each task's points whose search trials ran to their end, the best first."""
    found: dict[str, list[Params]] = {}
    for row in rank(row for row in rows if row.kind == "search" and row.finished):
        found.setdefault(row.task, []).append(row.params)
    return found


def adopt_points(space: Space, points: Iterable[Params]) -> list[Proposal]:
    """Returns those of the points that the space has, each once."""
    adopted = {space.meaning(point): point for params in points if (point := space.adopted(params)) is not None}
    return [Proposal(point, Origin(proposed_by=EARLIER)) for point in adopted.values()]
