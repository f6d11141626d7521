"""Holds the metrics, a row each: what it judges, its bounds and rough error, and who computes it. No NumPy.

Functions are named as "module:name", and loaded when they are wanted.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from math import isfinite, sqrt
from pkgutil import resolve_name
from typing import Any


class Answers(Enum):
    """Names the kinds of answers that a task can have."""

    LABELS = auto()
    NUMBERS = auto()
    TEXTS = auto()


def of_a_share(value: float, examples: int) -> float:
    """Returns the binomial √(p(1−p)/n), which the error of a mean of values between 0 and 1 never exceeds.

    One success and one failure more are counted for p (Laplace's rule): a perfect score on a few examples has an error.
    """
    share = (min(max(value, 0.0), 1.0) * examples + 1) / (examples + 2)
    return sqrt(share * (1 - share) / examples)


def of_a_correlation(value: float, examples: int) -> float:
    """Returns (1−r²)/√(n−3), Fisher's value for Pearson's r under normality (Metron 1, 1921).

    Two examples more that show nothing are counted for r, as in `of_a_share`: a perfect score on a few has an error.
    """
    shown = min(abs(value), 1.0) * examples / (examples + 2)
    return (1 - shown * shown) / sqrt(max(examples - 3, 1))


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric that a task can name.

    Attributes:
        function: computes it from answers (n,) and labels or targets (n,); its name is the metric's.
        judges: the answers that it is about.
        bounds: its least and its greatest value; None if it has not both.
        error: returns its rough standard error from its value and the number of examples; None if none is known.
        of_one_label: it is about one of two labels.
        of_losses: it is computed from each target's loss and number of tokens, not from what is generated, so it has no
            mean with others.
        lower_is_better: whether it counts negated in a score.
    """

    function: str
    judges: Answers
    bounds: tuple[float, float] | None = (0.0, 1.0)
    error: Callable[[float, int], float] | None = of_a_share
    of_one_label: bool = False
    of_losses: bool = False
    lower_is_better: bool = False

    @property
    def name(self) -> str:
        return self.function.rpartition(":")[2]

    def value(self, answers: Any, labels: Any) -> float:
        """Computes it from answers (n,) and labels or targets (n,); `of_losses`, from losses and numbers of tokens."""
        return float(resolve_name(self.function)(answers, labels))


def _share(function: str, judges: Answers, *, of_one_label: bool = False) -> Metric:
    return Metric(function=function, judges=judges, of_one_label=of_one_label)


def _correlation(function: str, judges: Answers) -> Metric:
    return Metric(function=function, judges=judges, bounds=(-1.0, 1.0), error=of_a_correlation)


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        _share("krona_tune.data.metrics:accuracy", Answers.LABELS),
        _share("krona_tune.data.metrics:f1", Answers.LABELS, of_one_label=True),
        _share("krona_tune.data.metrics:macro_f1", Answers.LABELS),
        _correlation("krona_tune.data.metrics:matthews", Answers.LABELS),
        _correlation("krona_tune.data.metrics:pearson", Answers.NUMBERS),
        _correlation("krona_tune.data.metrics:spearman", Answers.NUMBERS),
        _share("krona_tune.data.text_metrics:exact_match", Answers.TEXTS),
        _share("krona_tune.data.text_metrics:same_number", Answers.TEXTS),
        _share("krona_tune.data.text_metrics:token_f1", Answers.TEXTS),
        _share("krona_tune.data.text_metrics:rouge_l", Answers.TEXTS),
        Metric(
            function="krona_tune.data.metrics:perplexity",
            judges=Answers.TEXTS,
            bounds=None,
            error=None,
            of_losses=True,
            lower_is_better=True,
        ),
    )
}
"""Every metric by its name; one of a user's own, MODULE:FUNCTION, is in no table."""
USUAL = {Answers.LABELS: "accuracy", Answers.NUMBERS: "pearson", Answers.TEXTS: "exact_match"}
"""The metric of a task that names none."""


def rows_of(metrics: Iterable[str]) -> list[Metric]:
    """Returns the rows of those of these metrics that are in the table."""
    named = list(metrics)
    return [metric for metric in METRICS.values() if metric.name in named]


def bounds_of(metrics: Iterable[str]) -> tuple[float, float] | None:
    """Returns the bounds of the mean of these metrics; None if one of them is not known, or there are none."""
    rows = [METRICS.get(name) for name in metrics]
    pairs = [row.bounds for row in rows if row and row.bounds]
    if not pairs or len(pairs) < len(rows):
        return None
    return sum(low for low, _ in pairs) / len(pairs), sum(high for _, high in pairs) / len(pairs)


def standard_error(metrics: Mapping[str, float], examples: int) -> float | None:
    """Returns a rough standard error of a score, the mean of its metrics, from the number of validation examples.

    Metrics of one model vary together, so their errors are averaged, not divided by √count. It does not include the
    spread between seeds. None if a metric is unknown or not finite, or there are no examples.
    """
    errors = [row.error for row in map(METRICS.get, metrics) if row and row.error]
    if not metrics or examples < 1 or len(errors) < len(metrics) or not all(map(isfinite, metrics.values())):
        return None
    return sum(error(value, examples) for error, value in zip(errors, metrics.values(), strict=True)) / len(metrics)
