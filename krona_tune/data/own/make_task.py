"""Makes a task from what a request says of it and from its training labels."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from krona_tune.data.metrics import CORRELATIONS, METRICS, measure
from krona_tune.data.own.examples import inputs_of, sorted_labels
from krona_tune.data.tasks import Task
from krona_tune.refusal import Refusal, refusing, unknown
from krona_tune.study.spec.task_spec import TaskSpec

GRID = 26
"""The most numbers among which a text-to-text model chooses the answer of a regression."""
Values = npt.NDArray[Any]


def is_regression(spec: TaskSpec, place: str) -> bool:
    """Returns whether labels are numbers. Raises a Refusal if a metric is unknown or does not fit the others."""
    kinds = {name: name in CORRELATIONS for name in spec.metric if ":" not in name}
    for name in kinds:
        if name not in METRICS:
            raise unknown(f"{place}.metric", "metric", name, [*METRICS, "MODULE:FUNCTION"])
    if len(set(kinds.values())) > 1 or (spec.regression and False in kinds.values()):
        of_labels = next(name for name, of_numbers in kinds.items() if not of_numbers)
        raise Refusal(f"{place}.metric", f"{of_labels} is of labels, not of numbers", "choose metrics of one kind")
    regression = spec.regression or True in kinds.values()
    for key in ("positive", "class_weights", "words"):
        if regression and getattr(spec, key) is not None:
            raise Refusal(f"{place}.{key}", "the labels are numbers, which have none", "leave it out")
    return regression


def make_task(name: str, spec: TaskSpec, place: str, labels: pa.ChunkedArray, *, regression: bool) -> Task:
    """Returns the task that the training labels make."""
    functions = _functions(spec, place)
    task = Task(
        name=name,
        title=spec.title or name,
        inputs=inputs_of(spec),
        labels=(),
        metrics=tuple(dict.fromkeys(metric.rpartition(":")[2] for metric in spec.metric)),
        functions=tuple(functions.items()),
        lower_is_better=tuple(functions) if spec.direction == "lower" else (),
    )
    return _of_numbers(task, labels) if regression else _of_labels(task, spec, place, labels)


def _functions(spec: TaskSpec, place: str) -> dict[str, str]:
    """Returns the functions among a task's metrics by their names."""
    written = [metric for metric in spec.metric if ":" in metric]
    found = {metric.rpartition(":")[2]: metric for metric in written}
    for metric in written:
        name = metric.rpartition(":")[2]
        if name in {*METRICS, "score"} or found[name] != metric:
            raise Refusal(f"{place}.metric", f"the name of {metric} is taken by another metric", "rename the function")
    if spec.direction == "lower" and len(found) != 1:
        problem = f"lower is about one MODULE:FUNCTION, {', '.join(spec.metric)} has {len(found)}"
        raise Refusal(f"{place}.direction", problem, "leave it out, or write one function")
    return found


def _of_numbers(task: Task, labels: pa.ChunkedArray) -> Task:
    values = labels.to_numpy()
    grid = _grid(values)
    words = tuple(f"{value:g}" for value in grid)
    return replace(task, grid=grid, words=words, centre=float(values.mean()), spread=float(values.std()) or 1.0)


def _of_labels(task: Task, spec: TaskSpec, place: str, labels: pa.ChunkedArray) -> Task:
    known = sorted_labels(labels.unique().to_pylist())
    if spec.positive is not None:
        alike = [label for label in known if label == spec.positive] or [
            label for label in known if label.lower() == spec.positive.lower()
        ]
        if len(alike) != 1:
            raise unknown(f"{place}.positive", "label", spec.positive, known)
        known = [*(label for label in known if label != alike[0]), alike[0]]
    if "f1" in task.metrics and len(known) != 2:
        raise Refusal(f"{place}.metric", f"f1 is about one of two labels, there are {len(known)}", "write macro_f1")
    words, weights = _words(spec, place, known), _weights(spec, place, known, labels)
    return replace(task, labels=tuple(known), words=words, class_weights=weights)


def _grid(values: Values) -> tuple[float, ...]:
    """Returns the numbers that occur, or, if there are too many, as many evenly spaced ones over their range."""
    distinct = np.unique(values)
    chosen = distinct if len(distinct) <= GRID else np.linspace(distinct[0], distinct[-1], GRID)
    return tuple(dict.fromkeys(float(f"{value:g}") for value in chosen))


def _words(spec: TaskSpec, place: str, known: list[str]) -> tuple[str, ...]:
    """Returns the words that a text-to-text model answers with, if they are not the labels."""
    if spec.words is None:
        return ()
    _refuse_unknown(spec.words, f"{place}.words", known)
    words = tuple(spec.words.get(label, label) for label in known)
    if len(set(words)) < len(words) or not all(word.strip() for word in words):
        raise Refusal(f"{place}.words", f"{', '.join(words)} are not different words", "give each label its own")
    return words


def _weights(spec: TaskSpec, place: str, known: list[str], labels: pa.ChunkedArray) -> tuple[float, ...]:
    """Returns the weight of each label: as given, else 1; "balanced" ones are n / (labels · n of this label)."""
    match spec.class_weights:
        case None:
            return ()
        case "balanced":
            counts = Counter(labels.to_pylist())
            return tuple(len(labels) / (len(known) * counts[label]) for label in known)
        case given:
            _refuse_unknown(given, f"{place}.class_weights", known)
            return tuple(float(given.get(label, 1.0)) for label in known)


def _refuse_unknown(given: Mapping[str, object], place: str, known: list[str]) -> None:
    for label in given:
        if label not in known:
            raise unknown(place, "label", label, known)


def try_functions(task: Task, labels: Values, place: str) -> None:
    """Refuses a metric function that fails on training labels answered rightly, or by the first of them."""
    for answers in (labels, np.full(len(labels), labels[0])) if task.functions else ():
        where = ", ".join(function for _, function in task.functions)
        with refusing(
            f"{place}.metric", f"{where} failed when it was tried", "it takes labels and answers, and returns a number"
        ):
            measure(task, answers, labels)
