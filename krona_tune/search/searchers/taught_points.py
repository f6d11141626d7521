"""Proposes points of the recorded curves among a task's first trials, until its scores show that they mislead."""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from krona_tune.search.planning.space import Params, Space
from krona_tune.search.searchers.proposal import Origin, Proposal, Suggest, TriedPoint
from krona_tune.study.proposer import Proposer
from krona_tune.study.request.search_spec import SearchSpec

logger = logging.getLogger(__name__)
LEAST_WINS = 0.5
"""The least share of comparisons with untaught points that the taught ones win, while they are believed."""


MISLED = "misled"
"""The fact that is noted when taught points are given up."""


class Notes(Protocol):
    """Keeps facts about a task for those that go on with it."""

    def note(self, fact: str) -> None: ...

    def has_noted(self, fact: str) -> bool: ...


class TaughtPoints:
    """The taught points of one task, each to be trained to its end; every other trial is left to others meanwhile.

    Until the first of them has ended no second one begins while trials are left for others: curves which mislead cost
    little. Once they are seen to mislead, all further trials are left to others, also after a resume.

    Args:
        points: points of the space, the most promising first.
        search: says how many trials there are and how many of them are taught, and whether every size counts: then a
            larger trial wins no comparison with a smaller one.
    """

    def __init__(self, task: str, space: Space, points: Sequence[Params], search: SearchSpec) -> None:
        self._task, self._size_of = task, space.parameters if search.pareto else None
        self._taught = {
            space.meaning(point): Proposal(dict(point), Origin(proposed_by=Proposer.RECORDED_CURVES))
            for point in points
        }
        self._meaning, self._most = space.meaning, search.taught_trials
        self._left_to_others = search.trials - self._most
        self._misled = self._all_tried = False
        self._notes: Notes | None = None

    def keep_in(self, notes: Notes) -> None:
        """Notes from now on where the points were given up, and knows what was noted before."""
        self._notes, self._misled = notes, notes.has_noted(MISLED)

    def before(self, later: Suggest) -> Suggest:
        """Returns what proposes the taught points, and for all other trials what `later` proposes."""

        def suggest(number: int, tried: Callable[[], Sequence[TriedPoint]]) -> Iterable[Proposal]:
            points = () if self._misled or self._all_tried else self.points(number, tried())
            return points or later(number, tried)

        return suggest

    def points(self, number: int, tried: Sequence[TriedPoint]) -> Sequence[Proposal]:
        """Returns the points for the trial of a number, the most promising first; none to leave it to others."""
        taught, others = self._apart(tried)
        self._all_tried = len(taught) >= self._most
        if self._all_tried or self._lose(taught, others):
            return ()
        waits = bool(taught) and not any(each.ended for each in taught)
        if (number % 2 or waits) and len(others) < self._left_to_others:
            return ()
        return tuple(self._taught.values())

    def misled(self, tried: Sequence[TriedPoint]) -> bool:
        """Returns whether taught points were seen to be no better than others, now or before.

        It takes a taught and an untaught trial that have ended. Then each two of them that both have reported are
        compared at the last step that both have reached, and the taught ones must have the higher score in half of the
        comparisons; equal scores, as of points that learned nothing, count one half. A trial that diverged or ran out
        of memory loses against each other one that has reported.
        """
        return self._misled or self._lose(*self._apart(tried))

    def _apart(self, tried: Sequence[TriedPoint]) -> tuple[list[TriedPoint], list[TriedPoint]]:
        """Returns the taught points and the others; a clone, which may be one of a taught point, is neither."""
        both: tuple[list[TriedPoint], list[TriedPoint]] = ([], [])
        for each in (each for each in tried if not each.ordered):
            both[self._meaning(each.point) not in self._taught].append(each)
        return both

    def _lose(self, taught: Sequence[TriedPoint], others: Sequence[TriedPoint]) -> bool:
        """Compares both, unless the taught points have lost before; returns whether they have."""
        if not self._misled and all(any(each.ended for each in trials) for trials in (taught, others)):
            pairs = [pair for first in taught for second in others if (pair := self._compared(first, second))]
            wins, ties = sum(one > other for one, other in pairs), sum(one == other for one, other in pairs)
            self._misled = bool(pairs) and wins + ties / 2 < LEAST_WINS * len(pairs)
            if self._misled:
                if self._notes:
                    self._notes.note(MISLED)
                said = (
                    "the recorded curves mislead on %s, so no more of their points are tried: "
                    "%d of %d comparisons won and %d equal"
                )
                logger.info(said, self._task, wins, len(pairs), ties)
        return self._misled

    def _compared(self, one: TriedPoint, other: TriedPoint) -> tuple[float, float] | None:
        """Returns what each of two trials counts against the other; None if there is nothing to compare."""
        if one.worst != other.worst:
            reported = other.scores if one.worst else one.scores
            return (-one.worst, -other.worst) if reported else None
        step = max(one.scores.keys() & other.scores.keys(), default=None)
        if step is None:
            return None
        scores = one.scores[step], other.scores[step]
        if self._size_of:
            sizes = self._size_of(one.point), self._size_of(other.point)
            larger_wins = (scores[0] - scores[1]) * (sizes[0] - sizes[1]) > 0
            return (0.0, 0.0) if larger_wins else scores
        return scores
