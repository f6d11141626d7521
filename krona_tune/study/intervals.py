"""Estimates a mean over seeds and test examples: its interval, and the difference between two that can be told."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import exp, log, sqrt

import numpy as np
import numpy.typing as npt

from krona_tune.study.request.metric_table import of_a_share

CONFIDENCE = 0.95
POWER = 0.8
"""The share of cases in which a difference of the size that is called detectable is seen."""
SAME = 1e-9
"""The largest deviation of scores that differ by nothing but rounding."""
BEND = 1.5
"""The exponent of the seeds' share of the variance in `quantile`, chosen by `python -m tests.benchmarks.intervals`."""
MANY = 100
"""The degrees of freedom from which on Student's t is as good as normal."""
CHOSEN_EXPONENT = 1 / 3
"""How far a winner that was chosen on validation is from one that was chosen on test, in `comparisons_of`."""
Scored = tuple[float, Sequence[float]]
"""One seed's score, and its scores on draws of the examples (none if they are not known)."""
Bounds = tuple[float, float] | None
"""A metric's least and greatest value; None if it may have any."""
Table = npt.NDArray[np.float64]


def comparisons_of(finalists: int) -> float:
    """Returns how many comparisons with the winner count as one, so that one false alarm among all of them is rare.

    For k finalists that is (k-1)·(k/2)^CHOSEN_EXPONENT, between k-1, right for a winner that is named beforehand, and
    k(k-1)/2, right for the best on test: validation has other examples, but the same trained models.
    """
    return max(1.0, (finalists - 1) * float((finalists / 2) ** CHOSEN_EXPONENT))


ALL_EQUAL = "all scores are equal"
"""Says why an estimate has no interval whose scores do not differ, by seeds or by draws of the examples."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over seeds and test examples, with the two parts of its variance.

    `of_seeds` is s²/n of the scores, 0.0 for one seed; `of_examples` is the part that all seeds share because they have
    the same examples, 0.0 if no draws of the examples are known. `examples` is 0 if their number is not known. `seeds`
    is one more than the degrees of freedom of `of_seeds`, which are no whole number for seeds of two studies.
    """

    mean: float
    seeds: float
    examples: int
    of_seeds: float
    of_examples: float
    drawn: bool

    @property
    def deviation(self) -> float:
        """Returns the standard deviation of the mean."""
        return sqrt(self.of_seeds + self.of_examples)

    @property
    def lacks(self) -> str:
        """Returns why nothing can be said of how much the mean varies; empty if something can."""
        if not self.drawn and self.seeds < 2:
            return "one seed, and no draws of the test examples"
        if self.drawn and self.examples == 1:
            return "one test example"
        return ALL_EQUAL if self.deviation <= SAME else ""

    @property
    def whole(self) -> bool:
        """Returns whether both kinds of chance are known."""
        return self.drawn and self.seeds > 1

    @property
    def covers(self) -> str:
        """Returns the kinds of chance that its interval covers."""
        if self.whole:
            return "seeds and test examples"
        return "test examples only" if self.drawn else "seeds only"

    def quantile(self, share: float) -> float:
        """Returns the factor of `deviation` below which a share of such means lies.

        It is Student's t with n-1 degrees of freedom where only seeds vary, and that of the examples where only they
        do; between them it follows the seeds' share of the variance, to the power BEND. Satterthwaite's degrees of
        freedom are too many where seeds vary most, because few seeds often look alike by chance.
        """
        return self._between(student_quantile(self.examples - 1, share), student_quantile(self.seeds - 1, share))

    def _between(self, of_examples: float, of_seeds: float) -> float:
        """Returns the value between what holds where only examples vary and where only seeds do."""
        weight = (self.of_seeds / (self.of_seeds + self.of_examples)) ** BEND if self.of_seeds else 0.0
        return of_examples + (of_seeds - of_examples) * weight

    def detectable(self, comparisons: float = 1.0) -> float:
        """Returns which true mean would be found to differ from 0 in POWER of all cases."""
        share = 1 - (1 - CONFIDENCE) / 2 / comparisons
        return self._between(_noncentral(self.examples - 1, share), _noncentral(self.seeds - 1, share)) * self.deviation

    def margin(self, comparisons: float = 1.0) -> float:
        """Returns the half width of the 95 % interval of one of `comparisons` (Bonferroni)."""
        return self.quantile(1 - (1 - CONFIDENCE) / 2 / comparisons) * self.deviation

    def interval(self, bounds: Bounds = None) -> tuple[float, float] | None:
        """Returns the 95 % interval of the mean; None if it `lacks` what that needs.

        With the metric's least and greatest value as `bounds`, it is computed of logit((x - low) / (high - low)), and
        stays between them; for a correlation that is Fisher's z.
        """
        if self.lacks:
            return None
        low, high = bounds or (0.0, 0.0)
        share = (self.mean - low) / (high - low) if high > low else 0.0
        if not 0 < share < 1:
            return self.mean - self.margin(), self.mean + self.margin()
        centre, reach = log(share / (1 - share)), self.margin() / (high - low) / (share * (1 - share))
        return low + (high - low) * _logistic(centre - reach), low + (high - low) * _logistic(centre + reach)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The first of two configurations less the second, over the seeds that both have and the same draws of examples.

    `estimate` is None if they share no seed; `comparisons` are those that it is one of. `why_none` says why they are
    not compared, if that is another reason than the seeds that they share. `bounds` are the metric's least and greatest
    value, None if it may have any. `partly`: one of the two has seeds that the other lacks; their means then
    differ by another number.
    """

    estimate: Estimate | None
    comparisons: float = 1.0
    partly: bool = False
    why_none: str = ""
    bounds: Bounds = None

    @property
    def lacks(self) -> str:
        """Returns why nothing can be said of it; empty if something can."""
        if self.why_none:
            return self.why_none
        if self.estimate is None or self.estimate.seeds < 2:
            return "they share fewer than two seeds that learned"
        return self.estimate.lacks

    @property
    def apart(self) -> bool | None:
        """Returns whether it is more than chance between seeds and examples gives; None if that can't be decided.

        Equal differences are no proof: a few that are alike by chance don't say how much others would vary.
        """
        if self.why_none or self.estimate is None or self.estimate.seeds < 2:
            return None
        if self.estimate.lacks:
            return False if self.estimate.deviation <= SAME else None
        return abs(self.estimate.mean) > self.estimate.margin(self.comparisons)

    @property
    def interval(self) -> tuple[float, float] | None:
        """Returns its 95 % interval as one of the comparisons: without 0 if it is `apart`; None if it `lacks` one."""
        if self.estimate is None or self.lacks:
            return None
        margin = self.estimate.margin(self.comparisons)
        return self.estimate.mean - margin, self.estimate.mean + margin

    @property
    def detectable(self) -> float | None:
        """Returns the true difference that would be seen in POWER of all cases; None if that is not known."""
        if self.estimate is None or self.lacks:
            return None
        return self.estimate.detectable(self.comparisons)

    @property
    def blind(self) -> bool:
        """Returns whether even the largest difference that the metric allows would be seen less often than that."""
        return self.detectable is not None and self.bounds is not None and self.detectable > np.ptp(self.bounds)


def _logistic(x: float) -> float:
    return 1 / (1 + exp(-x)) if x > -500 else 0.0


@lru_cache(maxsize=256)
def student_quantile(freedom: float, share: float) -> float:
    """Returns a quantile of Student's t, or of the normal distribution if the degrees of freedom are not known."""
    from scipy.special import ndtri, stdtrit  # most that import this module compare no finalists

    return float(stdtrit(freedom, share) if freedom > 0 else ndtri(share))


@lru_cache(maxsize=256)
def _noncentral(freedom: float, share: float) -> float:
    """Returns which mean, in measured deviations of it, exceeds Student's quantile in POWER of all cases.

    It is the noncentrality of t, times what the median of a deviation that was measured with few degrees of freedom is
    too small by.
    """
    from scipy.special import gammaincinv, nctdtrinc

    if not 0 < freedom < MANY:
        return student_quantile(0, share) + student_quantile(0, POWER)
    too_small = sqrt(2 * float(gammaincinv(freedom / 2, 0.5)) / freedom)
    return float(nctdtrinc(freedom, 1 - POWER, student_quantile(freedom, share))) / too_small


def estimate(scores: Sequence[float], resampled: Sequence[Sequence[float]] = (), examples: int = 0) -> Estimate:
    """Returns what n seeds say of their mean.

    Args:
        scores: (n,), one per seed, n > 0.
        resampled: (n, m), each seed's scores on m draws of the examples; draw j has the same examples for all seeds.
            A draw on which a seed has no score, NaN, is left out for all.
        examples: how many test examples there are; 0 if that is not known.

    The variance of the mean is s²/n + c. Scores of different seeds vary together only because they have the same
    examples, so c is the mean covariance of two seeds' draws; what of the examples' chance differs between seeds is in
    s² already.
    """
    n, table = len(scores), _whole_draws(resampled)
    drawn = table.shape[1] > 1
    values = np.asarray(scores, dtype=np.float64)
    spread = float(values.var(ddof=1)) if n > 1 else 0.0
    return Estimate(
        mean=float(values.mean()),
        seeds=n,
        examples=examples,
        of_seeds=spread / n if spread > SAME**2 else 0.0,
        of_examples=_shared(table) * (examples / (examples - 1) if examples > 1 else 1.0) if drawn else 0.0,
        drawn=drawn,
    )


def difference(
    first: Mapping[int, Scored],
    second: Mapping[int, Scored],
    examples: int = 0,
    comparisons: float = 1.0,
    bounds: Bounds = None,
) -> Difference:
    """Returns the difference of two configurations' scores by seed, paired over seeds and draws of the examples.

    Args:
        first: by seed, its score and its scores on draws; draw j has the same examples for both.
        second: the same of the other one; seeds that only one of them has are left out.
        examples: how many test examples there are; 0 if that is not known.
        comparisons: how many comparisons this one counts as one of.
        bounds: the metric's least and greatest value.
    """
    pairs = [(first[seed], second[seed]) for seed in sorted(first.keys() & second.keys())]
    if not pairs:
        return Difference(estimate=None, comparisons=comparisons, bounds=bounds)
    scores = [one - other for (one, _), (other, _) in pairs]
    whole = all(len(one) == len(other) for (_, one), (_, other) in pairs)
    draws = [np.subtract(one, other).tolist() for (_, one), (_, other) in pairs] if whole else []
    partly = first.keys() != second.keys()
    found = _with_unseen(estimate(scores, draws, examples), (each for pair in pairs for each in pair), bounds)
    return Difference(estimate=found, comparisons=comparisons, partly=partly, bounds=bounds)


def _with_unseen(found: Estimate, scored: Iterable[Scored], bounds: Bounds) -> Estimate:
    """Returns the estimate of a difference with the chance between examples that no draw of them shows.

    Where all are answered rightly by one configuration, and none by the other, every draw has the same scores. By
    Laplace's rule each of the two still has the error of a share whose next example is another.
    """
    same = bounds and found.examples > 1 and all(np.ptp(draws) <= SAME for _, draws in scored if len(draws))
    if not (same and bounds and found.drawn and abs(found.mean) > SAME):
        return found
    one = (bounds[1] - bounds[0]) * of_a_share(1.0, found.examples)
    return replace(found, of_examples=found.of_examples + 2 * one**2)


def unpaired_difference(
    first: Sequence[Scored],
    second: Sequence[Scored],
    examples: tuple[int, int] = (0, 0),
    comparisons: float = 1.0,
    bounds: Bounds = None,
    *,
    same_examples: bool,
) -> Difference:
    """Returns the difference of two configurations that were trained with other seeds.

    Args:
        first: each seed's score and its scores on draws, one seed at least.
        second: the same of the other one.
        examples: how many test examples each of them has; 0 if that is not known.
        comparisons: how many comparisons this one counts as one of.
        bounds: the metric's least and greatest value.
        same_examples: draw j has the same examples for both, and what they share is no part of the variance.

    The seeds' parts of the variance add up, with Welch's degrees of freedom (Biometrika 34, 1947).
    """
    sides = [(list(zip(*each, strict=True)), of) for each, of in zip((first, second), examples, strict=True)]
    one, other = (estimate(scores, draws, of) for (scores, draws), of in sides)
    if min(len(first), len(second)) < 2:
        return Difference(estimate=None, comparisons=comparisons, why_none="one of them has a single seed")
    drawn = one.drawn and other.drawn
    shared = _covariance(first, second) if drawn and same_examples else 0.0
    whole = Estimate(
        mean=one.mean - other.mean,
        seeds=1 + _welch(one, other),
        examples=min(examples),
        of_seeds=one.of_seeds + other.of_seeds,
        of_examples=max(0.0, one.of_examples + other.of_examples - 2 * shared) if drawn else 0.0,
        drawn=drawn,
    )
    found = _with_unseen(whole, (*first, *second), bounds)
    return Difference(estimate=found, comparisons=comparisons, bounds=bounds)


def _covariance(first: Sequence[Scored], second: Sequence[Scored]) -> float:
    """Returns the mean covariance of the draws of one's seeds and the other's; 0.0 if the draws differ in number."""
    table = _whole_draws([draws for _, draws in (*first, *second)])
    if table.shape[1] < 2:
        return 0.0
    return float(np.cov(table[: len(first)].mean(axis=0), table[len(first) :].mean(axis=0))[0, 1])


def _welch(one: Estimate, other: Estimate) -> float:
    """Returns the degrees of freedom of the sum of two variances over seeds."""
    parts = [(each.of_seeds, each.seeds - 1) for each in (one, other)]
    below = sum(part**2 / freedom for part, freedom in parts)
    return sum(part for part, _ in parts) ** 2 / below if below else sum(freedom for _, freedom in parts)


def _whole_draws(resampled: Sequence[Sequence[float]]) -> Table:
    """Returns the draws on which all seeds have a score, (n, draws); none if the seeds differ in their draws."""
    if len(set(map(len, resampled))) != 1:
        return np.empty((0, 0))
    table = np.asarray(resampled, dtype=np.float64)
    return table[:, np.isfinite(table).all(axis=0)]


def _shared(table: Table) -> float:
    """Returns the mean covariance of two seeds' draws (n, m), not below 0; of one seed, their variance."""
    n = len(table)
    covariance = np.atleast_2d(np.cov(table))
    if n == 1:
        return float(covariance[0, 0])
    return max(0.0, float(covariance.sum() - covariance.trace()) / (n * (n - 1)))
