"""Says what has learned more than a constant answer or the head alone: which seeds of a configuration, and what won."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from math import hypot, isfinite, sqrt
from statistics import fmean

import numpy as np
import numpy.typing as npt

from krona_tune.study.intervals import CONFIDENCE, SAME, Estimate, estimate, student_quantile
from krona_tune.study.manifest import TaskFacts
from krona_tune.study.request.metric_table import bounds_of, standard_error
from krona_tune.study.result import TrialResult, is_score

STANDARD_ERRORS = 2.0
"""Scores on validation count as different if they differ by more than this many standard errors."""
SHOWN = 0.0005
"""The smallest gain that three decimals show. Of a metric without bounds any gain counts: its unit may be small."""


def validation_error(row: TrialResult, facts: TaskFacts) -> float | None:
    """Returns a standard error of a row's validation score: from its draws of the examples, else a rough one.

    Draws that are all equal say nothing of other examples if all of these are answered rightly; a seed that gives one
    answer to all has such draws, too, and gives it to others. Earlier versions kept draws of the test examples only.
    None if neither is known, as of one's own metric in a search.
    """
    own = _deviation(row.validation_resampled)
    if own or (own is not None and (row.score is None or row.score <= facts.constant_score)):
        return own
    drawn = None if row.validation_resampled or facts.compared_by_loss else _deviation(row.test_resampled)
    if drawn and row.test_examples and facts.validation_examples:
        return drawn * sqrt(row.test_examples / facts.validation_examples)
    rough = standard_error(row.metrics, facts.validation_examples)
    return own if rough is None else rough


def _deviation(draws: Sequence[float]) -> float | None:
    """Returns the standard deviation of the draws that have a score, 0.0 if all are equal; None of fewer than two."""
    found = _finite(draws)
    if len(found) < 2:
        return None
    deviation = float(found.std(ddof=1))
    return deviation if deviation > SAME else 0.0


def _finite(scores: Sequence[float]) -> npt.NDArray[np.float64]:
    drawn = np.asarray(scores, dtype=np.float64)
    return drawn[np.isfinite(drawn)]


def unlearned(rows: Sequence[TrialResult], facts: TaskFacts) -> tuple[TrialResult, ...]:
    """Returns the seeds of one configuration that did not learn.

    Such a seed's validation interval reaches down to the constant answer's score, while that of another seed lies above
    both. If no seed lies above, none is named: then the configuration did not learn. None is where an error is not
    known: any difference would count.
    """
    errors = [validation_error(row, facts) for row in rows]
    if not isfinite(facts.constant_score) or None in errors:
        return ()
    reach = [STANDARD_ERRORS * error for error in errors if error is not None]
    scores = [row.score or 0.0 for row in rows]
    above = [score - own for score, own in zip(scores, reach, strict=True) if score - own > facts.constant_score]
    return tuple(
        row
        for row, score, own in zip(rows, scores, reach, strict=True)
        if score - own <= facts.constant_score and above and score + own < max(above)
    )


@dataclass(frozen=True, kw_only=True)
class FailureRate:
    """A count of a configuration's seeds, and of those that did not learn."""

    failed: int
    seeds: int

    @property
    def interval(self) -> tuple[float, float]:
        """Returns the exact 95 % interval of the rate, 0 to 1 (Clopper and Pearson, Biometrika 26, 1934)."""
        from scipy.special import betaincinv

        tail, learned = (1 - CONFIDENCE) / 2, self.seeds - self.failed
        low = float(betaincinv(self.failed, learned + 1, tail)) if self.failed else 0.0
        high = float(betaincinv(self.failed + 1, learned, 1 - tail)) if learned else 1.0
        return low, high


class Learned(StrEnum):
    """An answer whether the winner of a task is above the constant answer."""

    YES = "yes"
    UNSHOWN = "not shown"
    NOTHING = "nothing"


def quantile_of_best(trials: int) -> float:
    """Returns by how many standard errors chance lifts the best of so many trials, or less, above a value that none of
    them is truly above, in all but (1 - CONFIDENCE) / 2 of all cases (Bonferroni)."""
    return student_quantile(0, 1 - (1 - CONFIDENCE) / 2 / max(1, trials))


def learned_more(rows: Sequence[TrialResult], facts: TaskFacts | None, best_of: int = 1) -> Learned | None:
    """Returns whether a configuration's mean validation score is above the constant answer; None if that is not known.

    Args:
        rows: its seeds, each with a score; one for what won a search.
        facts: its task's, with the constant answer's score.
        best_of: how many trials it is the best of on the same examples; 1 if these seeds had no part in finding it.
    """
    if not rows or facts is None or not isfinite(facts.constant_score):
        return None
    gain = fmean(row.score or 0.0 for row in rows) - facts.constant_score
    if gain <= (SHOWN if bounds_of(rows[0].metrics) else SAME):
        return Learned.NOTHING
    found = _estimated(rows, facts)
    return Learned.YES if found and gain > found.margin(max(1, best_of)) else Learned.UNSHOWN


def beats_baseline(
    best: TrialResult | None, baseline: TrialResult | None, facts: TaskFacts | None, trials: int
) -> bool | None:
    """Returns whether the best of so many trials gains more over the head alone than chance may give it; None if that
    can't be decided."""
    rows = [row for row in (best, baseline) if row and is_score(row.score)]
    found = [standard_error(row.metrics, facts.validation_examples) for row in rows] if facts else []
    errors = [error for error in found if error is not None]
    if len(errors) < 2:
        return None
    return (rows[0].score or 0.0) - (rows[1].score or 0.0) > quantile_of_best(trials) * hypot(*errors)


def _estimated(rows: Sequence[TrialResult], facts: TaskFacts) -> Estimate | None:
    """Returns what seeds say of their mean validation score; None if it is not known how much that varies with the
    examples."""
    draws = [row.validation_resampled for row in rows]
    found = estimate([row.score or 0.0 for row in rows], draws, facts.validation_examples)
    errors = [error for row in rows if (error := validation_error(row, facts)) is not None]
    if (found.drawn and found.of_examples > SAME**2) or len(errors) < len(rows):
        return found if found.drawn else None
    return replace(found, examples=0, of_examples=fmean(errors) ** 2, drawn=True)
