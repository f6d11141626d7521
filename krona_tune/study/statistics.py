"""Computes from few repeated measurements their spread, an interval, and whether two of them differ."""

from collections.abc import Mapping, Sequence
from math import sqrt
from statistics import fmean, stdev

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

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


def told_apart(first: Mapping[int, float], second: Mapping[int, float]) -> bool | None:
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
    n = len(differences)
    return abs(fmean(differences)) > float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * spread / sqrt(n)
