"""Holds the taught search of a tabular replay: first what is good elsewhere, unless the task shows otherwise."""

from collections.abc import Sequence

import numpy as np

from tests.benchmarks.search.tabular_proposals import mean_of_teachers
from tests.benchmarks.search.tabular_study import Continues, Propose, Setting, Trial

MOST = 8
"""The most points of a portfolio."""
LEAST_WON = 0.5
"""Below which share of comparisons won teaching is turned off."""


def portfolio_size(trials: int) -> int:
    """Returns how many of a task's trials come from other tasks: half of them, at most MOST, and if it can be not the
    last two."""
    return max(1, min(MOST, (trials + 1) // 2, trials - 2))


class Taught:
    """A search that trains a portfolio in full, the best by mean normal score on the tasks that teach, beside untaught
    trials, which a rule may stop.

    The portfolio has the even numbers until all of it is proposed, so that there is something to compare with. While
    its first point is trained, free workers get untaught trials. Teaching is turned off when the portfolio wins less
    than LEAST_WON of the comparisons with the other trials, of each pair at the last epoch that both have shown. Then
    the rest of the search is untaught, and the rule may stop what runs of the portfolio.

    Args:
        untaught: proposes the other trials.
        stop: judges all trials, those of the portfolio, too, so that their scores count.
        trials: how many trials the study plans.
        switch: whether teaching can be turned off.
    """

    def __init__(self, setting: Setting, *, untaught: Propose, stop: Continues, trials: int, switch: bool) -> None:
        self._order = np.argsort(-mean_of_teachers(setting.teachers), kind="stable").tolist()
        self._untaught, self._stop, self._trials, self._switch = untaught, stop, trials, switch
        self._size = portfolio_size(trials)
        self._portfolio: list[Trial] = []
        self.on = True

    def propose(self, trials: Sequence[Trial]) -> Trial | None:
        """Returns the next trial; None after as many as are planned or recorded."""
        if len(trials) >= self._trials:
            return None
        self._look(trials)
        if not self._is_turn(trials):
            return self._untaught(trials)
        taken = {trial.point for trial in trials}
        point = next((point for point in self._order if point not in taken), None)
        if point is None:
            return None
        chosen = Trial(point=point, kept=True)
        self._portfolio.append(chosen)
        return chosen

    def continues(self, trial: Trial, trials: Sequence[Trial]) -> bool:
        """Judges a trial by the rule, after a look at what the portfolio has won."""
        survives = self._stop(trial, trials)
        self._look(trials)
        if not self.on:
            trial.kept = False
        return survives

    def _is_turn(self, trials: Sequence[Trial]) -> bool:
        """Returns whether the next trial is of the portfolio: it takes turns, waits for the end of its first trial, and
        gets the rest when as many untaught ones as are planned have been proposed."""
        proposed = len(self._portfolio)
        if not self.on or proposed >= self._size:
            return False
        if len(trials) - proposed >= self._trials - self._size:
            return True
        waits = proposed > 0 and not any(trial.ended for trial in self._portfolio)
        return not waits and len(trials) % 2 == 0

    def _look(self, trials: Sequence[Trial]) -> None:
        if self._switch and self.on and misled(self._portfolio, trials):
            self.on = False


def misled(portfolio: Sequence[Trial], trials: Sequence[Trial]) -> bool:
    """Returns whether a portfolio, of which a trial has ended, does worse than the other trials, of which one has."""
    others = [trial for trial in trials if trial not in portfolio and trial.seen]
    shown = [trial for trial in portfolio if trial.seen]
    if not any(trial.ended for trial in shown) or not any(trial.ended for trial in others):
        return False
    won = [own.seen[at] > other.seen[at] for own in shown for other in others for at in [_common(own, other)]]
    return sum(won) < LEAST_WON * len(won)


def _common(one: Trial, other: Trial) -> int:
    return min(len(one.seen), len(other.seen)) - 1
