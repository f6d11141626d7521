"""Configurations that all tasks share, by their average."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from krona_tune.study.result import TrialResult


@dataclass(frozen=True, kw_only=True)
class SharedConfiguration:
    """A configuration that was trained to the end on every task: its row on each of them.

    A task's head may differ in size, so `parameters` are those of the task with the most.
    """

    number: int
    rows: Mapping[str, TrialResult]

    @property
    def row(self) -> TrialResult:
        """That of the first task; its parameters are those of all."""
        return next(iter(self.rows.values()))

    @property
    def parameters(self) -> int:
        return max(row.trainable_parameters for row in self.rows.values())

    @property
    def average(self) -> float:
        """Equal scores give an equal mean, in whatever order they come."""
        return round(sum(row.score or 0.0 for row in self.rows.values()) / len(self.rows), 9)


def shared_ranking(rows: Iterable[TrialResult], tasks: Collection[str]) -> list[SharedConfiguration]:
    """The configurations that were trained to the end on every task, the highest average first, of equals the
    smallest."""
    found: dict[int, dict[str, TrialResult]] = defaultdict(dict)
    for row in rows:
        if row.kind == "search" and row.finished and row.task in tasks:
            found[row.number][row.task] = row
    whole = [
        SharedConfiguration(number=number, rows={task: by_task[task] for task in tasks})
        for number, by_task in found.items()
        if by_task.keys() >= set(tasks)
    ]
    return sorted(whole, key=lambda each: (-each.average, each.parameters, each.number))
