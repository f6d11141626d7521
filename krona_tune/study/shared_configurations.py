"""Ranks by their average score the configurations that all tasks share."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from krona_tune.study.result import TrialResult


@dataclass(frozen=True, kw_only=True)
class SharedConfiguration:
    """A configuration that was trained to the end on every task, with its row on each of them.

    Tasks may have heads of different sizes, so `parameters` is the largest of their numbers.
    """

    number: int
    rows: Mapping[str, TrialResult]

    @property
    def row(self) -> TrialResult:
        """Returns the row of the first task; all rows have the same `params`."""
        return next(iter(self.rows.values()))

    @property
    def parameters(self) -> int:
        return max(row.trainable_parameters for row in self.rows.values())

    @property
    def average(self) -> float:
        """Returns the mean score, rounded so that it does not depend on the order of the scores."""
        return round(sum(row.score or 0.0 for row in self.rows.values()) / len(self.rows), 9)


def shared_ranking(rows: Iterable[TrialResult], tasks: Collection[str]) -> list[SharedConfiguration]:
    """Returns the configurations that were trained to the end on every task, the highest average first, and among equal
    ones the smallest first."""
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
