"""Computes metrics by name, a task's score (their mean, not in percent), and the score of a constant answer."""

import hashlib
import math
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from krona_tune.data.tasks import PERPLEXITY, Task
from krona_tune.data.text_metrics import TEXT_METRICS, extracted
from krona_tune.refusal import Refusal, refusing

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


def macro_f1(predictions: Values, labels: Values) -> float:
    """Returns the mean F1 of the classes that are predicted or labelled."""
    return float(f1_score(labels, predictions, average="macro", zero_division=0.0))


def pearson(predictions: Values, labels: Values) -> float:
    """Returns Pearson's correlation; 0.0 for a constant or non-finite prediction."""
    return _correlation(lambda p, y: pearsonr(p, y).statistic, predictions, labels)


def spearman(predictions: Values, labels: Values) -> float:
    """Returns Spearman's rank correlation; 0.0 for a constant or non-finite prediction."""
    return _correlation(lambda p, y: spearmanr(p, y).statistic, predictions, labels)


LARGEST_LOSS = 100.0
"""A mean loss from which on perplexity no longer grows, so that it stays a number."""


def perplexity(losses: Values, tokens: Values) -> float:
    """Returns e to the mean loss of a token: `losses` (n,) are sums over each target's `tokens` (n,)."""
    return math.exp(min(losses.sum() / tokens.sum(), LARGEST_LOSS))


CORRELATIONS = ("pearson", "spearman")
"""The metrics of numbers; the others are of labels."""
METRICS: dict[str, Metric] = {
    "matthews": matthews,
    "accuracy": accuracy,
    "f1": f1,
    "macro_f1": macro_f1,
    "pearson": pearson,
    "spearman": spearman,
}
"""The metrics of labels and numbers."""
OF_TEXTS: dict[str, Callable[[Any, Any], float]] = {**TEXT_METRICS, PERPLEXITY: perplexity}


@lru_cache(maxsize=16)
def metric_function(place: str) -> Callable[[Values, Values], Any]:
    """Returns the function at MODULE:FUNCTION, or PATH.py:FUNCTION. Raises a Refusal if there is none."""
    module, _, name = place.rpartition(":")
    with refusing(place, "can't be imported", "write MODULE:FUNCTION, or FILE.py:FUNCTION beside the YAML file"):
        if module.endswith(".py"):
            spec = spec_from_file_location(f"krona_tune_metric_{Path(module).stem}", module)
            assert spec is not None
            assert spec.loader is not None
            loaded = sys.modules[spec.name] = module_from_spec(spec)
            sys.path.insert(0, str(Path(module).parent))  # it may import files beside it
            try:
                spec.loader.exec_module(loaded)
            finally:
                sys.path.remove(str(Path(module).parent))
        else:
            loaded = import_module(module)
    function = getattr(loaded, name, None)
    if not callable(function):
        raise Refusal(place, f"{module} has no function {name!r}")
    return cast(Callable[[Values, Values], Any], function)


def functions_digest(task: Task) -> str:
    """Returns a hash of the files that hold the task's own metric functions; empty if it has no such file."""
    files = [place.rpartition(":")[0] for _, place in task.functions if place.rpartition(":")[0].endswith(".py")]
    return hashlib.sha256(b"".join(Path(file).read_bytes() for file in files)).hexdigest() if files else ""


def _measured(task: Task, metric: str, predictions: Values, labels: Values) -> float:
    """Returns a metric by its name, or what the task's own function says of labels and answers, in this order."""
    place = dict(task.functions).get(metric)
    if task.generation and metric != PERPLEXITY:
        predictions, labels = (_extracted(task, texts) for texts in (predictions, labels))
    if place is None:
        return float((METRICS | OF_TEXTS)[metric](predictions, labels))
    names = np.array(task.labels, dtype=object)
    named = (labels, predictions)
    value = float(metric_function(place)(*((names[each.astype(int)] for each in named) if task.labels else named)))
    if not np.isfinite(value):
        raise ValueError(f"{place} returned {value}")
    return value


def _extracted(task: Task, texts: Values) -> Values:
    """Returns what counts of each text; nothing of one in which nothing was found."""
    assert task.generation
    return np.array([extracted(text, task.generation.extract) or "" for text in texts], dtype=object)


def measure(task: Task, predictions: Values, labels: Values) -> dict[str, float]:
    """Returns each of the task's metrics, and "score", their mean; one of which lower is better counts negated.

    `predictions` (n,) and `labels` (n,): class indices, numbers for a regression, or texts; for perplexity the summed
    loss of each target and its number of tokens. Raises ValueError if they are empty or differ in shape.
    """
    if predictions.shape != labels.shape or predictions.ndim != 1 or not len(labels):
        raise ValueError(f"{task.name}: predictions {predictions.shape} and labels {labels.shape} must be (n,), n > 0")
    values = {name: _measured(task, name, predictions, labels) for name in task.metrics}
    signed = [-value if name in task.lower_is_better else value for name, value in values.items()]
    return {**values, "score": sum(signed) / len(signed)}


def constant_baseline(task: Task, train_labels: Values, labels: Values) -> float:
    """Returns the score on `labels` (n,) of the best constant answer for `train_labels` (m,): a label, or their mean.

    For accuracy that is the majority class; if F1 counts and the classes are balanced, it is the positive one. Of texts
    it is the most frequent target.
    """
    if task.generation:
        found = [text for text in _extracted(task, train_labels) if text.strip()] or [""]
        most_frequent, _ = Counter(found).most_common(1)[0]
        plain = replace(task, generation=replace(task.generation, extract=""))
        return measure(plain, np.full(len(labels), most_frequent, object), _extracted(task, labels))["score"]
    answers = [train_labels.mean()] if task.is_regression else sorted(set(train_labels.tolist()))

    def score(answer: float, on: Values) -> float:
        return measure(task, np.full(len(on), answer), on)["score"]

    return score(max(answers, key=lambda answer: score(answer, train_labels)), labels)


def measure_losses(task: Task, losses: Values, tokens: Values) -> dict[str, float]:
    """Returns what compares trials by the likelihood of their targets: perplexity if it is the metric, else the mean
    loss of a token in nats; and "score", which is higher for a better one.

    `losses` (n,) are sums over each target's `tokens` (n,).
    """
    if task.has_perplexity:
        return measure(task, losses, tokens)
    loss = float(losses.sum() / tokens.sum())
    return {"loss": loss, "score": -loss}


def token_baseline(task: Task, train: list[list[int]], targets: list[list[int]]) -> float:
    """Returns the score on targets of a constant answer: each token is as likely as among all training targets.

    One is added to each token's count, and to that of tokens that training does not have.
    """
    counts = Counter(token for target in train for token in target)
    total = counts.total() + len(counts) + 1
    losses = np.array([sum(math.log(total / (counts[token] + 1)) for token in target) for target in targets])
    return measure_losses(task, losses, np.array(list(map(len, targets))))["score"]
