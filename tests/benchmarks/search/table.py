"""Compares the regrets of strategies: medians, quartiles, and how sure the difference from a reference is."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from tests.benchmarks.search.engine import Event

RESAMPLES = 2000


@dataclass(frozen=True, kw_only=True)
class Lost:
    """The regret of one run, a score, at one budget in full trainings. `rule`: how the winner was chosen."""

    strategy: str
    workers: int
    task: str
    seed: int
    budget: float
    rule: str
    regret: float


def last_score(event: Event) -> tuple[float, ...]:
    """Returns the last score, wherever the trial ended: its maximum is what `ResultGrid.get_best_result` gives."""
    return (event.seen.score,)


def completed_first(event: Event) -> tuple[float, ...]:
    """Returns the examples and the score, so that the trials at the highest rung come first."""
    return (event.seen.examples, event.seen.score)


LAST, FINISHED = "last score", "highest rung first"
RULES = {LAST: last_score, FINISHED: completed_first}
"""How a winner is named; krona_tune names that of a taught search by the second one."""


def winners(events: Iterable[Event], budget: float) -> dict[str, Event]:
    """Returns, by rule, the last report of the winner among the trials known when the budget was spent."""
    last = {e.trial.trial_id: e for e in events if e.cost <= budget and not e.seen.diverged}
    return {name: max(last.values(), key=rule) for name, rule in RULES.items()}


@dataclass(frozen=True, kw_only=True)
class Line:
    """The regrets of a strategy on one task at one budget; `interval` is that of the median difference (95 %)."""

    lower: float
    median: float
    upper: float
    better: int
    worse: int
    p: float
    interval: tuple[float, float]


def compare(regrets: Sequence[float], reference: Sequence[float]) -> Line:
    """Compares regrets, in the same order of seeds. `p` is the two-sided sign test's; negative differences are good."""
    lower, median, upper = np.quantile(regrets, (0.25, 0.5, 0.75))
    difference = np.array(regrets) - np.array(reference)
    better, worse = int(np.sum(difference < 0)), int(np.sum(difference > 0))
    return Line(
        lower=float(lower),
        median=float(median),
        upper=float(upper),
        better=better,
        worse=worse,
        p=float(binomtest(better, better + worse).pvalue) if better + worse else 1.0,
        interval=_interval(difference),
    )


def _interval(difference: NDArray[np.float64]) -> tuple[float, float]:
    """Returns a bootstrap interval of the median, resampling seeds."""
    rng = np.random.default_rng(0)
    drawn = rng.choice(difference, (RESAMPLES, len(difference)))
    low, high = np.quantile(np.median(drawn, axis=1), (0.025, 0.975))
    return float(low), float(high)
