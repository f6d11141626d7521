"""Ranks a study's trials by one rule: of a task, of all tasks that share configurations, and on a front of size."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import TypeVar

from krona_tune.study.chosen_finalist import choose
from krona_tune.study.finals import DEFAULT, Finals, rank_finals
from krona_tune.study.kinds import TrialKind, searched_number
from krona_tune.study.manifest import TaskFacts
from krona_tune.study.proposer import Proposer
from krona_tune.study.result import TrialResult, is_score

BEST_OF_ALL = "highest validation score of the study's trials; the test half was not looked at"
BEST_OF_FINISHED = (
    "highest validation score of the trials that were trained to their end; the test half was not looked at"
)
BEST_ON_AVERAGE = "highest average validation score over the tasks; the test half was not looked at"
"""Rules by which the best trial of a search is selected."""
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
        if row.searched and row.finished and row.task in tasks:
            found[row.number][row.task] = row
    whole = [
        SharedConfiguration(number=number, rows={task: by_task[task] for task in tasks})
        for number, by_task in found.items()
        if by_task.keys() >= set(tasks)
    ]
    return sorted(whole, key=lambda each: (-each.average, each.parameters, each.number))


def are_taught(rows: Iterable[TrialResult]) -> bool:
    """Returns whether the recorded curves proposed some of these trials."""
    return any(row.proposed_by == Proposer.RECORDED_CURVES for row in rows)


def rank_trials(
    rows: Iterable[TrialResult], competes: Callable[[TrialResult], bool] = lambda row: row.finished
) -> list[TrialResult]:
    """Returns the rows that have a score, the highest first; if equal, the one with fewer parameters, then the earlier.

    Whatever a trial's status, the score of the last rung that it reached counts. But among trials some of which the
    recorded curves proposed, those come first that `competes` says, as a rule those that were trained to their end:
    there are always some, and on recorded tasks this names a winner that loses half as much.
    """
    scored = [row for row in rows if row.scored]
    taught = are_taught(scored)

    def place(row: TrialResult) -> tuple[bool, float, int, int]:
        return taught and not competes(row), -(row.score or 0.0), row.trainable_parameters, row.number

    return sorted(scored, key=place)


@dataclass(frozen=True)
class Standings:
    """The present rankings of a study's rows. `shared_by` names the tasks that share their configurations, if any."""

    rows: Sequence[TrialResult]
    shared_by: tuple[str, ...] = ()

    def searched(self, task: str) -> list[TrialResult]:
        """Returns the task's searched trials that have a score, the best first."""
        return self._ranked(task, TrialKind.SEARCH)

    def baseline(self, task: str) -> TrialResult | None:
        """Returns the best trial of the head alone."""
        return next(iter(self._ranked(task, TrialKind.BASELINE)), None)

    def best(self, task: str) -> TrialResult | None:
        """Returns the searched trial with the highest validation score; if tasks share their configurations, the trial
        of the one with the highest average."""
        if self.shared and task in self.shared_by:
            return self.shared[0].rows[task]
        return next(iter(self.searched(task)), None)

    def rule(self, task: str) -> str:
        """Returns in words how `best` is selected."""
        if self.shared:
            return BEST_ON_AVERAGE
        best = self.best(task)
        finished = best is None or best.finished
        return BEST_OF_FINISHED if finished and are_taught(self.searched(task)) else BEST_OF_ALL

    def front(self, task: str) -> list[TrialResult]:
        """Returns the task's searched trials that none beats with the same or fewer parameters, from few to many."""
        return front_of(self.searched(task), lambda row: row.point)

    @cached_property
    def shared(self) -> list[SharedConfiguration]:
        """Returns the shared configurations that were trained on every task, the best average first; else nothing."""
        return shared_ranking(self.rows, self.shared_by) if self.shared_by else []

    @cached_property
    def _shared_finalist(self) -> int | None:
        """Returns the shared configuration whose finals have finished with the most seeds on every task; of several the
        one with the highest average validation score."""
        if not self.shared_by:
            return None
        scores: dict[int, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for row in self.rows:
            number = searched_number(row.of, row.task) if row.kind == TrialKind.FINALIST else None
            if number is not None and row.finished and row.score is not None and is_score(row.test_score):
                scores[number][row.task].append(row.score)
        whole = {
            number: (min(map(len, by_task.values())), fmean(map(fmean, by_task.values())), -number)
            for number, by_task in scores.items()
            if by_task.keys() >= set(self.shared_by)
        }
        return max(whole, key=lambda number: whole[number], default=None)

    def finals(self, task: str, facts: TaskFacts | None = None) -> Finals:
        """Returns the task's finals, from the finalists that have ended; if tasks share their configurations, those of
        the one that is best on average, of the default one, and of the head.

        Args:
            facts: tell which seeds did not learn, and how many each was to get.
        """
        kept = self._shared_finalist

        def takes_part(row: TrialResult) -> bool:
            if kept is None or row.kind != TrialKind.FINALIST or row.number == DEFAULT:
                return True
            return searched_number(row.of, task) in {None, kept}

        return rank_finals((row for row in self.rows if row.task == task and takes_part(row)), facts)

    def winner(self, task: str, facts: TaskFacts | None = None) -> TrialResult | None:
        """Returns the trial that won: of the winning finalist the seed with the highest validation score; without
        finalists the best of the search."""
        final = self.finals(task, facts).winner
        return final.best_row if final else self.best(task)

    def chosen(self, task: str, facts: TaskFacts | None = None) -> TrialResult | None:
        """Returns the trial to use: of what the finals choose the seed with the highest validation score; without
        finalists the best of the search."""
        choice = choose(self.finals(task, facts))
        return choice.finalist.best_row if choice else self.best(task)

    def _ranked(self, task: str, kind: str) -> list[TrialResult]:
        return rank_trials(row for row in self.rows if row.task == task and row.kind == kind)
