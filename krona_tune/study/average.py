"""Configurations that all tasks share, by their average."""

from collections import defaultdict
from collections.abc import Collection, Iterable
from math import isfinite

from krona_tune.study.result import Status, TrialResult


def best_shared(rows: Iterable[TrialResult], tasks: Collection[str]) -> list[int]:
    """The numbers of the configurations that were trained to the end on every task, the highest average first."""
    scores: dict[int, dict[str, float]] = defaultdict(dict)
    sizes: dict[int, int] = {}
    for row in rows:
        if row.kind == "search" and row.status is Status.COMPLETED and row.score is not None and isfinite(row.score):
            scores[row.number][row.task] = row.score
            sizes[row.number] = max(row.trainable_parameters, sizes.get(row.number, 0))
    whole = [number for number, by_task in scores.items() if by_task.keys() >= set(tasks)]
    return sorted(whole, key=lambda number: (-round(sum(scores[number].values()), 9), sizes[number], number))
