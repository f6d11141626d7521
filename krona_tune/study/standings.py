"""Ranks a study's trials by one rule, which decides the best, the front, the finals and the winner."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from krona_tune.study.finals import Finals, rank_finals
from krona_tune.study.pareto import front_of
from krona_tune.study.result import TrialResult
from krona_tune.study.shared_configurations import SharedConfiguration, shared_ranking


def rank(rows: Iterable[TrialResult]) -> list[TrialResult]:
    """Returns the rows that have a score, the highest first; if equal, the one with fewer parameters, then the earlier.

    Whatever a trial's status, the score of the last rung that it reached counts.
    """
    scored = [row for row in rows if row.scored]
    return sorted(scored, key=lambda row: (-(row.score or 0.0), row.trainable_parameters, row.number))


@dataclass(frozen=True)
class Standings:
    """The present rankings of a study's rows. `shared_by` names the tasks that share their configurations, if any."""

    rows: Sequence[TrialResult]
    shared_by: tuple[str, ...] = ()

    def searched(self, task: str) -> list[TrialResult]:
        """Returns the task's searched trials that have a score, the best first."""
        return self._ranked(task, "search")

    def baseline(self, task: str) -> TrialResult | None:
        """Returns the best trial of the head alone."""
        return next(iter(self._ranked(task, "baseline")), None)

    def best(self, task: str) -> TrialResult | None:
        """Returns the searched trial with the highest validation score; if tasks share their configurations, the trial
        of the one with the highest average."""
        if self.shared:
            return self.shared[0].rows[task]
        return next(iter(self.searched(task)), None)

    def front(self, task: str) -> list[TrialResult]:
        """Returns the task's searched trials that none beats with the same or fewer parameters, from few to many."""
        return front_of(self.searched(task), lambda row: row.point)

    @cached_property
    def shared(self) -> list[SharedConfiguration]:
        """Returns the shared configurations that were trained on every task, the best average first; else nothing."""
        return shared_ranking(self.rows, self.shared_by) if self.shared_by else []

    def finals(self, task: str) -> Finals:
        """Returns the task's finals, from the finalists that have ended."""
        return rank_finals(row for row in self.rows if row.task == task)

    def winner(self, task: str) -> TrialResult | None:
        """Returns the trial to use: of the winning finalist the seed with the highest validation score; without
        finalists the best of the search."""
        final = self.finals(task).winner
        return final.best_row if final else self.best(task)

    def _ranked(self, task: str, kind: str) -> list[TrialResult]:
        return rank(row for row in self.rows if row.task == task and row.kind == kind)
