"""What an earlier study learned: points worth trying before Optuna is asked."""

from collections.abc import Iterator, Sequence

from krona_tune.search.planning.space import Params, Space
from krona_tune.study.result import TrialResult
from krona_tune.study.standings import rank

EARLIER = 3
"""How many of its own best points an earlier study hands to the same task."""


def earlier_points(rows: Sequence[TrialResult], tasks: Sequence[str]) -> dict[str, list[Params]]:
    """What an earlier study's trials tell each task: the best points on the same task, then the best on every other."""
    whole = rank(row for row in rows if row.kind == "search" and row.finished)
    of_task: dict[str, list[Params]] = {}
    for row in whole:
        of_task.setdefault(row.task, []).append(row.params)
    return {
        task: [*of_task.get(task, [])[:EARLIER], *(points[0] for other, points in of_task.items() if other != task)]
        for task in tasks
    }


def adopt_points(space: Space, points: Sequence[Params], number: int) -> Iterator[Params]:
    """Points to try as the trial of that number, the first acceptable one; none where it is Optuna's turn."""
    return (point for params in points[number:] if (point := space.adopted(params)) is not None)
