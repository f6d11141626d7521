"""Computes GLUE's metrics by name, a task's score (their mean, not in percent), and the score of a constant answer."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from krona_tune.data.tasks import Task

Values = npt.NDArray[Any]
Metric = Callable[[Values, Values], float]


def _correlation(statistic: Callable[..., Any], predictions: Values, labels: Values) -> float:
    """Returns a correlation, or 0.0 if there is none: a constant or non-finite side, or fewer than two rows."""
    if len(labels) < 2 or not (np.isfinite(predictions).all() and np.isfinite(labels).all()):
        return 0.0
    if (predictions == predictions[0]).all() or (labels == labels[0]).all():
        return 0.0
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        value = float(statistic(predictions.astype(np.float64), labels.astype(np.float64)))
    return value if np.isfinite(value) else 0.0


def matthews(predictions: Values, labels: Values) -> float:
    """Returns Matthews' correlation, -1 to 1; 0.0 for a constant prediction."""
    return _correlation(lambda p, y: matthews_corrcoef(y, p), predictions, labels)


def accuracy(predictions: Values, labels: Values) -> float:
    """Returns the share of predictions that equal their label."""
    return float(accuracy_score(labels, predictions))


def f1(predictions: Values, labels: Values) -> float:
    """Returns the F1 of class 1, as GLUE defines it; 0.0 if nothing is predicted or labelled 1."""
    return float(f1_score(labels == 1, predictions == 1, zero_division=0.0))


def pearson(predictions: Values, labels: Values) -> float:
    """Returns Pearson's correlation; 0.0 for a constant or non-finite prediction."""
    return _correlation(lambda p, y: pearsonr(p, y).statistic, predictions, labels)


def spearman(predictions: Values, labels: Values) -> float:
    """Returns Spearman's rank correlation; 0.0 for a constant or non-finite prediction."""
    return _correlation(lambda p, y: spearmanr(p, y).statistic, predictions, labels)


METRICS: dict[str, Metric] = {
    "matthews": matthews,
    "accuracy": accuracy,
    "f1": f1,
    "pearson": pearson,
    "spearman": spearman,
}


def measure(task: Task, predictions: Values, labels: Values) -> dict[str, float]:
    """Returns each of the task's metrics, and "score", their mean; higher is better.

    `predictions` (n,) and `labels` (n,): class indices, or numbers for a regression. Raises ValueError if they are
    empty or differ in shape.
    """
    if predictions.shape != labels.shape or predictions.ndim != 1 or not len(labels):
        raise ValueError(f"{task.name}: predictions {predictions.shape} and labels {labels.shape} must be (n,), n > 0")
    values = {name: METRICS[name](predictions, labels) for name in task.metrics}
    return {**values, "score": sum(values.values()) / len(values)}


def constant_baseline(task: Task, train_labels: Values, labels: Values) -> float:
    """Returns the score on `labels` (n,) of the best constant answer for `train_labels` (m,): a label, or their mean.

    For accuracy that is the majority class; if F1 counts and the classes are balanced, it is the positive one.
    """
    answers = [train_labels.mean()] if task.is_regression else sorted(set(train_labels.tolist()))

    def score(answer: float, on: Values) -> float:
        return measure(task, np.full(len(on), answer), on)["score"]

    return score(max(answers, key=lambda answer: score(answer, train_labels)), labels)
