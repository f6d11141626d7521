"""Computes metrics by name, a task's score (their mean, not in percent), and the score of a constant answer."""

import hashlib
import math
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from krona_tune.data.tasks import Task
from krona_tune.data.user_code import (
    code_digest,
    extracted_texts,
    file_of,
    function_on_draws,
    function_value,
    withholding,
)
from krona_tune.refusal import Refusal
from krona_tune.study.randomness import RESAMPLES, drawn_rows
from krona_tune.study.request.metric_table import METRICS
from krona_tune.study.result import NO_INTERVAL

Values = npt.NDArray[Any]


def _correlation(statistic: Callable[[Values, Values], float], predictions: Values, labels: Values) -> float:
    """Returns a correlation, or 0.0 if there is none: a constant or non-finite side, or fewer than two rows."""
    if len(labels) < 2 or not (np.isfinite(predictions).all() and np.isfinite(labels).all()):
        return 0.0
    if (predictions == predictions[0]).all() or (labels == labels[0]).all():
        return 0.0
    with np.errstate(all="ignore"):
        value = float(statistic(predictions.astype(np.float64), labels.astype(np.float64)))
    return value if np.isfinite(value) else 0.0


def _confusion(predictions: Values, labels: Values) -> Values:
    """Returns how often each class is predicted (columns) where each is labelled (rows), of the classes there are."""
    classes, places = np.unique(np.concatenate([labels, predictions]), return_inverse=True)
    rows, columns = np.split(places.reshape(-1), 2)
    return np.bincount(rows * len(classes) + columns, minlength=len(classes) ** 2).reshape(len(classes), -1)


def matthews(predictions: Values, labels: Values) -> float:
    """Returns Matthews' correlation, -1 to 1, of any number of classes (Gorodkin 2004); 0.0 for a constant side."""
    counts = _confusion(predictions, labels).astype(np.float64)
    labelled, predicted, n = counts.sum(1), counts.sum(0), counts.sum()
    spread = (n**2 - labelled @ labelled) * (n**2 - predicted @ predicted)
    return float((counts.trace() * n - labelled @ predicted) / math.sqrt(spread)) if spread else 0.0


def accuracy(predictions: Values, labels: Values) -> float:
    """Returns the share of predictions that equal their label."""
    return float((predictions == labels).mean())


def f1(predictions: Values, labels: Values) -> float:
    """Returns the F1 of class 1, as GLUE defines it; 0.0 if nothing is predicted or labelled 1."""
    return _f1(predictions == 1, labels == 1)


def _f1(predicted: Values, labelled: Values) -> float:
    either = int(predicted.sum()) + int(labelled.sum())
    return 2 * int((predicted & labelled).sum()) / either if either else 0.0


def macro_f1(predictions: Values, labels: Values) -> float:
    """Returns the mean F1 of the classes that are predicted or labelled."""
    counts = _confusion(predictions, labels)
    return float((2 * counts.diagonal() / (counts.sum(0) + counts.sum(1))).mean())


def pearson(predictions: Values, labels: Values) -> float:
    """Returns Pearson's correlation; 0.0 for a constant or non-finite prediction."""
    return _correlation(_cosine, predictions, labels)


def spearman(predictions: Values, labels: Values) -> float:
    """Returns Spearman's rank correlation; 0.0 for a constant or non-finite prediction."""
    return _correlation(lambda p, y: _cosine(_ranks(p), _ranks(y)), predictions, labels)


def _cosine(some: Values, others: Values) -> float:
    """Returns the cosine between deviations from the mean, each scaled to a largest of 1 first, against overflow."""
    one, other = (each / np.abs(each).max() for each in (some - some.mean(), others - others.mean()))
    return float(np.clip(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)), -1, 1))


def _ranks(values: Values) -> Values:
    """Returns ranks from 1; equal values share the mean of theirs."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    means: Values = (np.cumsum(counts) - (counts - 1) / 2)[places.reshape(-1)]
    return means


LARGEST_LOSS = 100.0
"""A mean loss from which on perplexity no longer grows, so that it stays a number."""


def perplexity(losses: Values, tokens: Values) -> float:
    """Returns e to the mean loss of a token: `losses` (n,) are sums over each target's `tokens` (n,)."""
    return math.exp(min(losses.sum() / tokens.sum(), LARGEST_LOSS))


MOST_LEFT_OUT = 0.05
"""The largest share of draws of the examples without a score that leaves an interval."""


def functions_digest(task: Task) -> str:
    """Returns a hash of the files that hold the task's own metric functions; empty if it has no such file."""
    files = _files(task)
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest() if files else ""


def code_of_functions_digest(task: Task) -> str:
    """Returns a hash of those files and of what they import from their own folders; empty if it has no such file."""
    return code_digest(_files(task))


def _files(task: Task) -> list[Path]:
    return [file for _, place in task.functions if (file := file_of(place))]


def _named(task: Task, predictions: Values, labels: Values) -> tuple[Values, Values]:
    """Returns labels and answers as the task's own functions get them: in this order, classes by their names."""
    if not task.labels:
        return labels, predictions
    names = np.array(task.labels, dtype=object)
    return names[labels.astype(int)], names[predictions.astype(int)]


def _measured(task: Task, metric: str, predictions: Values, labels: Values) -> float:
    """Returns a metric by its name, or what the task's own function says of labels and answers."""
    place = dict(task.functions).get(metric)
    if place is not None:
        return function_value(f"tasks.{task.name}.metric", place, *_named(task, predictions, labels))
    with withholding(f"{metric} failed") if task.generation else nullcontext():
        return METRICS[metric].value(predictions, labels)


def _measured_on_draws(task: Task, metric: str, predictions: Values, labels: Values, draws: int) -> Values:
    """Returns a metric on each of the task's draws of the examples; NaN where the task's own function has no value."""
    place = dict(task.functions).get(metric)
    if place is not None:
        key, named = f"tasks.{task.name}.metric", _named(task, predictions, labels)
        return function_on_draws(key, place, *named, task.name, draws)
    drawn = drawn_rows(task.name, len(labels), draws)
    return np.array([_measured(task, metric, predictions[rows], labels[rows]) for rows in drawn])


def extracted_from(task: Task, texts: Values) -> Values:
    """Returns what counts of each text; nothing of one in which nothing was found."""
    if task.generation is None or not task.generation.extract or task.has_perplexity:
        return texts
    found = extracted_texts(f"tasks.{task.name}.extract", task.generation.extract, texts.tolist())
    return np.array(found, dtype=object)


def _score(task: Task, values: dict[str, Any]) -> Any:
    """Returns the mean of a task's metrics, numbers or arrays; one of which lower is better counts negated."""
    signed = [-value if name in task.lower_is_better else value for name, value in values.items()]
    return sum(signed) / len(signed)


def measure(task: Task, predictions: Values, labels: Values) -> dict[str, float]:
    """Returns each of the task's metrics, and "score", their mean; one of which lower is better counts negated.

    `predictions` (n,) and `labels` (n,): class indices, numbers for a regression, or texts; for perplexity the summed
    loss of each target and its number of tokens. Raises ValueError if they are empty or differ in shape, and a Refusal
    if the task's own function or expression fails.
    """
    if predictions.shape != labels.shape or predictions.ndim != 1 or not len(labels):
        raise ValueError(f"{task.name}: predictions {predictions.shape} and labels {labels.shape} must be (n,), n > 0")
    pair = [extracted_from(task, texts) for texts in (predictions, labels)]
    values = {name: _measured(task, name, *pair) for name in task.metrics}
    return {**values, "score": _score(task, values)}


def resampled_scores(
    task: Task, predictions: Values, labels: Values, draws: int = RESAMPLES
) -> tuple[tuple[float, ...], str]:
    """Returns the task's score on each draw of the examples, and in words for how many it has none.

    Such a draw has NaN, because the task's own function raises an error or returns no number there. If there are more
    than 5 % of them, or the function is too slow or ends its process, there are no scores, and the words say why.
    """
    try:
        answers, targets = (extracted_from(task, texts) for texts in (predictions, labels))
        values = {name: _measured_on_draws(task, name, answers, targets, draws) for name in task.metrics}
    except Refusal as refusal:
        return (), f"{NO_INTERVAL}{refusal}"
    scores: Values = _score(task, values)
    lacking = int(np.isnan(scores).sum())
    note = f"tasks.{task.name}.metric: no value for {lacking} of {len(scores)} draws of the examples" * (lacking > 0)
    if lacking > MOST_LEFT_OUT * len(scores):
        return (), NO_INTERVAL + note
    return tuple(scores.tolist()), note


def resampled_losses(task: Task, losses: Values, tokens: Values) -> tuple[float, ...]:
    """Returns the score of `measure_losses` on each draw of the examples: `losses` (n,) of each target's `tokens`."""
    drawn = drawn_rows(task.name, len(losses))
    return tuple(measure_losses(task, losses[rows], tokens[rows])["score"] for rows in drawn)


MOST_ANSWERS = 20
"""The most labels that are compared as constant answers."""
MOST_TRIED = 2_000
"""The most examples on which a metric function is tried: with all of a large part a good one takes too long."""


def labels_to_try(task: Task, labels: Values) -> Values:
    """Returns the labels that a metric function is tried on: at most `MOST_TRIED`, evenly spaced, and the first of each
    class."""
    if len(labels) <= MOST_TRIED:
        return labels
    rows = np.linspace(0, len(labels) - 1, MOST_TRIED).astype(int)
    if task.labels:
        rows = np.union1d(rows, np.unique(labels, return_index=True)[1])
    tried: Values = labels[rows]
    return tried


def constant_baseline(task: Task, train_labels: Values, labels: Values) -> float:
    """Returns the score on `labels` (n,) of the best constant answer for `train_labels` (m,): a label, or their mean.

    For accuracy that is the majority class; if F1 counts and the classes are balanced, it is the positive one. Of many
    labels the most frequent are compared, by the task's own function on some of the examples. Of texts it is the most
    frequent target.
    """
    if task.generation:
        found = [text for text in extracted_from(task, train_labels) if text.strip()] or [""]
        most_frequent, _ = Counter(found).most_common(1)[0]
        plain = replace(task, generation=replace(task.generation, extract=""))
        return measure(plain, np.full(len(labels), most_frequent, object), extracted_from(task, labels))["score"]

    def score(answer: float, on: Values) -> float:
        return measure(task, np.full(len(on), answer), on)["score"]

    if task.is_regression:
        return score(train_labels.mean(), labels)
    counts, tried = Counter(train_labels.tolist()), train_labels
    answers = sorted(counts)
    if len(answers) > MOST_ANSWERS:
        answers = [answer for answer, _ in counts.most_common(MOST_ANSWERS)]
        tried = labels_to_try(task, train_labels) if task.functions else train_labels
    return score(max(answers, key=lambda answer: score(answer, tried)), labels)


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
