"""Ranks a task's finalists on validation, with the statistics of few seeds: spread, interval, and what differs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from statistics import fmean, stdev
from typing import Any

import numpy as np
import numpy.typing as npt

from krona_tune.study.kinds import TrialKind
from krona_tune.study.request.trial import BASELINE
from krona_tune.study.result import TrialResult, grouped, is_score

CONFIDENCE = 0.95
SAME = 1e-9
"""The largest deviation of scores that differ by nothing but rounding."""
DRAWS = 4_000
"""The number of the bootstrap's draws."""


def deviation(values: Sequence[float]) -> float | None:
    """Returns the sample standard deviation, Σ(x−x̄)² over n−1; None for a single value."""
    return stdev(values) if len(values) > 1 else None


def bootstrap_interval(
    scores: Sequence[float], resampled: Sequence[Sequence[float]] = ()
) -> tuple[float, float] | None:
    """Returns the percentile bootstrap's 95 % interval of the mean over seeds.

    Args:
        scores: (n,), one per seed.
        resampled: (n, m), each seed's scores on m draws of the examples; draw j has the same examples for all seeds.
            A draw on which a seed has no score, NaN, is left out for all.

    With `resampled` each draw takes n seeds and the examples with replacement, so the interval covers both kinds of
    chance; without it, only the seeds. With few seeds, their part of it is too narrow by up to √((n−1)/n). None if
    nothing varies by chance: one seed and no resampled examples.
    """
    table = _whole_draws(resampled)
    known = table.size > 0
    if not known and len(scores) < 2:
        return None
    rng = np.random.default_rng(0)
    seeds = rng.integers(0, len(scores), (DRAWS, len(scores)))
    if known:
        drawn = table[seeds, (np.arange(DRAWS) % table.shape[1])[:, None]]
    else:
        drawn = np.asarray(scores, dtype=np.float64)[seeds]
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(drawn.mean(axis=1), [tail, 100 - tail])
    return float(low), float(high)


def _whole_draws(resampled: Sequence[Sequence[float]]) -> npt.NDArray[np.float64]:
    """Returns the draws on which all seeds have a score, (n, draws); none if the seeds differ in their draws."""
    if len(set(map(len, resampled))) != 1:
        return np.empty((0, 0))
    table = np.asarray(resampled, dtype=np.float64)
    return table[:, ~np.isnan(table).any(axis=0)]


def differ_significantly(first: Mapping[int, float], second: Mapping[int, float]) -> bool | None:
    """Returns whether two scores by seed differ by more than chance between seeds gives.

    The differences at the seeds that both have are compared with Student's t: the scores differ if |d̄| is more than
    t(0.975, n−1)·s/√n. Equal differences are no proof: a few that are alike by chance don't say how much others would
    vary. None if fewer than two seeds are shared.
    """
    differences = [first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())]
    spread = deviation(differences)
    if spread is None:
        return None
    if spread <= SAME:
        return False
    from scipy.special import stdtrit  # most that import this module compare no finalists

    n = len(differences)
    return abs(fmean(differences)) > float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * spread / sqrt(n)


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Scores over seeds: their mean, its 95 % interval, and their sample standard deviation (None for one seed)."""

    mean: float
    deviation: float | None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Finalist:
    """One configuration with its completed rows, one per seed. `tied`: not distinguishable from the winner on test.

    `test` is a mean over the same seeds as `validation`, on the test half; its interval covers seeds and examples.
    """

    of: str
    rows: tuple[TrialResult, ...]
    validation: Spread
    test: Spread
    tied: bool = False

    @property
    def params(self) -> Mapping[str, Any]:
        return self.rows[0].params

    @property
    def method(self) -> str:
        return str(self.params["method"])

    @property
    def seeds(self) -> int:
        return len(self.rows)

    @property
    def best_row(self) -> TrialResult:
        """Returns the row of the seed with the highest validation score."""
        return max(self.rows, key=lambda row: row.score or 0.0)

    @property
    def note(self) -> str:
        """Returns why it has no interval, or for how many draws of the examples a seed has no score; empty if neither
        is so."""
        return next((row.test_note for row in self.rows if row.test_note), "")

    def test_by_seed(self) -> dict[int, float]:
        return {row.seed: row.test_score for row in self.rows if row.test_score is not None}


@dataclass(frozen=True, kw_only=True)
class Finals:
    """A task's finalists, the highest validation mean first, and the head alone with the same seeds.

    Finalists with fewer completed seeds come later, because means over different numbers of seeds are not compared.
    """

    finalists: tuple[Finalist, ...] = ()
    head_only: Finalist | None = None

    @property
    def winner(self) -> Finalist | None:
        """Returns the finalist that was selected on validation; the test half is not used."""
        return self.finalists[0] if self.finalists else None

    @property
    def gain_over_head(self) -> float | None:
        """Returns the winner's test mean minus that of the head alone."""
        if self.winner is None or self.head_only is None:
            return None
        return self.winner.test.mean - self.head_only.test.mean

    @property
    def beats_head(self) -> bool | None:
        """Returns whether that gain is more than chance between seeds gives; None if that can't be decided."""
        if self.winner is None or self.head_only is None:
            return None
        apart = differ_significantly(self.winner.test_by_seed(), self.head_only.test_by_seed())
        return None if apart is None else apart and (self.gain_over_head or 0.0) > 0


def rank_finals(rows: Iterable[TrialResult]) -> Finals:
    """Returns the finals of one task's rows; only completed finalists with a score on the test half count.

    A finalist is tied with the winner if `differ_significantly` finds no difference between their test scores by seed.
    """
    tested = (r for r in rows if r.kind == TrialKind.FINALIST and r.finished and is_score(r.test_score))
    everyone = [_finalist(of, repeats) for of, repeats in grouped(tested, lambda row: row.of).items()]
    ranked = sorted((each for each in everyone if each.method != BASELINE), key=_order)
    winner = ranked[0] if ranked else None
    return Finals(
        finalists=tuple(replace(each, tied=winner is not None and _tied(winner, each)) for each in ranked),
        head_only=min((each for each in everyone if each.method == BASELINE), key=_order, default=None),
    )


def _finalist(of: str, repeats: list[TrialResult]) -> Finalist:
    rows = sorted(repeats, key=lambda row: (row.started_at, row.trial_id))
    validation = [row.score for row in rows if row.score is not None]
    test = [row.test_score for row in rows if row.test_score is not None]
    lacking = any(row.test_note and not row.test_resampled for row in rows)  # one over seeds alone would be too narrow
    interval = None if lacking else bootstrap_interval(test, [row.test_resampled for row in rows])
    return Finalist(
        of=of,
        rows=tuple(rows),
        validation=Spread(mean=fmean(validation), deviation=deviation(validation)),
        test=Spread(mean=fmean(test), deviation=deviation(test), interval=interval),
    )


def _order(each: Finalist) -> tuple[int, float, int, str]:
    return -each.seeds, -each.validation.mean, each.rows[0].trainable_parameters, each.of


def _tied(winner: Finalist, other: Finalist) -> bool:
    return other is winner or not differ_significantly(winner.test_by_seed(), other.test_by_seed())
