"""What other tasks and earlier studies learned: points worth trying before Optuna is asked."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from krona_tune.search.space import Params, Space
from krona_tune.study.result import TrialResult

TURN = 3
"""Every so many-th trial of a task tries what is best on another task."""
EARLIER = 3
"""How many of its own best points an earlier study hands to the same task."""


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """Suggestions for each task.

    Args:
        space: what the suggestions are brought into.
        tasks: in the order in which others are asked for their best.
        best: the best trial of a task so far; None turns the exchange between tasks off.
        earlier: each task's points from earlier studies, the first trials of the task.
    """

    space: Space
    tasks: Sequence[str]
    best: Callable[[str], TrialResult | None] | None = None
    earlier: Mapping[str, Sequence[Params]] = field(default_factory=dict)

    def suggestions(self, task: str, number: int) -> Iterator[Params]:
        """Points to try as the trial of that number, the first acceptable one; none where it is Optuna's turn."""
        handed = self.earlier.get(task, ())
        if number < len(handed):
            yield from self._adopted(handed[number:])
        elif self.best is not None and task in self.tasks and number % TURN == TURN - 1:
            place = self.tasks.index(task)
            others = [self.best(other) for other in (*self.tasks[place + 1 :], *self.tasks[:place])]
            yield from self._adopted([row.params for row in others if row is not None])

    def _adopted(self, points: Sequence[Params]) -> Iterator[Params]:
        return (point for params in points if (point := self.space.adopted(params)) is not None)


def earlier_points(rows: Sequence[TrialResult], tasks: Sequence[str]) -> dict[str, list[Params]]:
    """What an earlier study's trials tell each task: the best points on the same task, then the best on every other."""
    whole = [row for row in rows if row.kind == "search" and row.finished]
    whole.sort(key=lambda row: -(row.score or 0.0))
    of_task: dict[str, list[Params]] = {}
    for row in whole:
        of_task.setdefault(row.task, []).append(row.params)
    return {
        task: [*of_task.get(task, [])[:EARLIER], *(points[0] for other, points in of_task.items() if other != task)]
        for task in tasks
    }
