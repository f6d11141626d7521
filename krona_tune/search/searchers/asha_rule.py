"""Holds ASHA's rule, Ray's but for the rounding, and judges by it the averages of configurations that tasks share."""

from collections import defaultdict
from collections.abc import Iterable
from math import isfinite
from statistics import fmean

import numpy as np

from krona_tune.study.result import Status, TrialResult


class Rungs:
    """The scores, sizes and losses of competing trials at each rung.

    Args:
        reduction: η: the upper 1/η of those that reached a rung continue.
        exact: whether a cutoff that falls on a score is that score; false: it may be rounded up from there, as Ray's.
    """

    def __init__(self, reduction: int, *, exact: bool = True) -> None:
        self._reduction, self._exact = reduction, exact
        self._seen: dict[int, list[tuple[float, int, float]]] = defaultdict(list)

    def survives(self, rung: int, score: float, size: int = 0, loss: float = 0.0) -> bool:
        """Adds a score to a rung and returns whether its trial continues from there.

        It continues if its score is in the upper 1/η of the earlier scores there with no more parameters, or if there
        are none. So later trials are judged by earlier ones, and a trial that no smaller one beats continues. Where the
        score is the one that divides them, the losses do, the lower ones being better. A score or loss that is not
        finite is not added, and its trial does not continue.
        """
        if not (isfinite(score) and isfinite(loss)):
            return False
        rivals = sorted((each[0], -each[2]) for each in self._seen[rung] if each[1] <= size)
        self._seen[rung].append((score, size, loss))
        if not rivals:
            return True
        scores, by_loss = zip(*rivals, strict=True)
        place = self._place(len(rivals) - 1)
        low = int(place)
        cutoff = float(np.quantile(scores[low : low + 2], place - low))
        if score != cutoff:
            return score > cutoff
        return bool(-loss >= np.interp(place, range(len(rivals)), by_loss))

    def _place(self, last: int) -> float:
        """Returns where the cutoff is among ascending scores, of which the best has this place."""
        if self._exact:
            return last * (self._reduction - 1) / self._reduction
        return 100 * (1 - 1 / self._reduction) / 100 * last


def judged_after(tasks: int, reduction: int) -> list[int]:
    """Returns after how many tasks a configuration that `tasks` share is judged: 1, η, η² …, never after the last."""
    return [reduction**power for power in range(tasks) if reduction**power < tasks]


class SharedAverages:
    """The averages of configurations that are trained task by task, and which of these go on.

    After as many tasks as `judged_after` returns, a configuration continues if its average is in the upper 1/η of those
    that got as far.

    Args:
        tasks: the number of tasks.
        reduction, exact: as `Rungs` takes them.
    """

    def __init__(self, tasks: int, reduction: int, *, exact: bool = True) -> None:
        self._tasks, self._rungs = tasks, Rungs(reduction, exact=exact)
        self._judged_after = judged_after(tasks, reduction)
        self._scores: dict[int, dict[str, float]] = defaultdict(dict)

    def scored(self, number: int) -> frozenset[str]:
        """Returns the tasks on which a configuration has a score."""
        return frozenset(self._scores[number])

    def add(self, number: int, task: str, score: float) -> tuple[float, Status]:
        """Returns a configuration's average with one more task and its status: INTERRUPTED if it continues."""
        scores = self._scores[number]
        scores[task] = score
        average, done = fmean(scores.values()), len(scores)
        if done == self._tasks:
            return average, Status.COMPLETED
        goes = done not in self._judged_after or self._rungs.survives(done, average)
        return average, Status.INTERRUPTED if goes else Status.STOPPED_EARLY

    def replay(self, rows: Iterable[TrialResult]) -> dict[int, tuple[Status, dict[int, float]]]:
        """Judges earlier searched trials again in the order of their ends.

        Returns by its number each configuration's status, INTERRUPTED if it continues, and its averages by the number
        of tasks done.
        """
        found: dict[int, tuple[Status, dict[int, float]]] = {}
        for row in sorted(rows, key=lambda row: row.ended_at or 0.0):
            status, averages = found.get(row.number, (Status.INTERRUPTED, {}))
            if row.finished and row.score is not None:
                average, status = self.add(row.number, row.task, row.score)
                averages[len(averages) + 1] = average
            elif row.ended:
                status = row.status
            found[row.number] = (status, averages)
        return found
