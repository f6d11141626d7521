"""Makes a task from what a request says of it and from its training labels."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields, replace
from math import inf
from time import monotonic
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from krona_tune.child_process import CALL_SECONDS
from krona_tune.data.metrics import extracted_from, labels_to_try, measure, resampled_scores
from krona_tune.data.own_examples import inputs_of, sorted_labels
from krona_tune.data.tasks import PLACEHOLDER, Generation, Task
from krona_tune.data.user_code import LABELS_AS, check_function, file_of, refuse_odd_file, telling_messages
from krona_tune.refusal import Refusal, cut, refuse_unknown, shown, unknown
from krona_tune.study.randomness import RESAMPLES
from krona_tune.study.request.metric_table import METRICS, Answers, rows_of
from krona_tune.study.request.task_spec import TaskSpec
from krona_tune.study.result import NO_INTERVAL

GRID = 26
"""The most numbers among which a text-to-text model chooses the answer of a regression."""
TRIED_SECONDS = 3.0
"""How long a metric function is tried on draws of the examples."""
YAML_TRUTHS = {"true": ("yes", "on"), "false": ("no", "off")}
"""The words that YAML reads as true and false, unless they are in quotes."""
ALONE = re.compile(r"(?<![\w\\^{}])\{(\w+)\}(?!\})")
"""Finds a word in braces, unless they belong to what is around them, as in \\boxed{x}, x^{n} or {{x}}."""
Values = npt.NDArray[Any]


def answers_of(spec: TaskSpec, place: str) -> Answers:
    """Returns what the answers are. Raises a Refusal if a metric is unknown or does not fit them or the others."""
    named = [name for name in spec.metric if ":" not in name]
    known = [name for name, row in METRICS.items() if (row.judges is Answers.TEXTS) == bool(spec.target)]
    for name in named:
        if name in METRICS and name not in known:
            judges = "labels and numbers, not texts" if spec.target else "texts, not labels and numbers"
            raise Refusal(f"{place}.metric", f"{name} judges {judges}", f"write one of {', '.join(known)}")
        if name not in known:
            raise unknown(f"{place}.metric", "metric", name, [*known, "MODULE:FUNCTION"])
    for file in filter(None, map(file_of, spec.metric)):
        refuse_odd_file(f"{place}.metric", file)  # before the data are read
    if spec.target is None:
        return Answers.NUMBERS if _is_regression(spec, place, named) else Answers.LABELS
    if len(spec.metric) > 1 and (alone := [row.name for row in rows_of(named) if row.of_losses]):
        raise Refusal(f"{place}.metric", f"{alone[0]} has no mean with others", "write it alone, or leave it out")
    return Answers.TEXTS


def _is_regression(spec: TaskSpec, place: str, named: list[str]) -> bool:
    """Returns whether labels are numbers. Raises a Refusal if something asked does not fit that."""
    kinds = {name: METRICS[name].judges is Answers.NUMBERS for name in named}
    if len(set(kinds.values())) > 1 or (spec.regression and False in kinds.values()):
        of_labels = next(name for name, of_numbers in kinds.items() if not of_numbers)
        raise Refusal(f"{place}.metric", f"{of_labels} is of labels, not of numbers", "choose metrics of one kind")
    regression = spec.regression or True in kinds.values()
    for key in ("positive", "class_weights", "words"):
        if regression and getattr(spec, key) is not None:
            raise Refusal(f"{place}.{key}", "the labels are numbers, which have none", "leave it out")
    return regression


def make_task(name: str, spec: TaskSpec, place: str, labels: pa.ChunkedArray, answers: Answers) -> Task:
    """Makes a task of labels, numbers or texts from its request, and from the training labels what it can answer."""
    functions = _functions(spec, place)
    negated = [row.name for row in rows_of(spec.metric) if row.lower_is_better]
    task = Task(
        name=name,
        title=spec.title or name,
        inputs=inputs_of(spec),
        labels=(),
        metrics=tuple(dict.fromkeys(metric.rpartition(":")[2] for metric in spec.metric)),
        functions=tuple(functions.items()),
        lower_is_better=(*negated, *functions) if spec.direction == "lower" else tuple(negated),
    )
    match answers:
        case Answers.NUMBERS:
            return _of_numbers(task, labels)
        case Answers.LABELS:
            return _of_labels(task, spec, place, labels)
        case Answers.TEXTS:
            return _of_texts(task, spec, place)


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
    words = _grid(values)
    grid = tuple(map(float, words))
    return replace(task, grid=grid, words=words, centre=float(values.mean()), spread=float(values.std()) or 1.0)


def _of_labels(task: Task, spec: TaskSpec, place: str, labels: pa.ChunkedArray) -> Task:
    known = sorted_labels(labels.unique().to_pylist())
    if spec.positive is not None:
        alike = [label for label in known if label == spec.positive] or [
            label for label in known if label.lower() == spec.positive.lower()
        ]
        if len(alike) != 1:
            if bare := [label for label in known if label.lower() in YAML_TRUTHS.get(spec.positive, ())]:
                problem = f"unknown label {shown(spec.positive)}, as which YAML reads {bare[0]} without quotes"
                raise Refusal(f"{place}.positive", problem, f"write '{bare[0]}', in quotes")
            raise unknown(f"{place}.positive", "label", spec.positive, known)
        known = [*(label for label in known if label != alike[0]), alike[0]]
    if len(known) != 2 and (odd := [row.name for row in rows_of(task.metrics) if row.of_one_label]):
        problem = f"{odd[0]} is about one of two labels, there are {len(known)}"
        raise Refusal(f"{place}.metric", problem, "write macro_f1")
    words, weights = _words(spec, place, known), _weights(spec, place, known, labels)
    return replace(task, labels=tuple(known), words=words, class_weights=weights)


def _of_texts(task: Task, spec: TaskSpec, place: str) -> Task:
    prompt = spec.prompt if spec.prompt is not None else "\n".join(f"{{{name}}}" for name in task.inputs)
    names = dict(zip(spec.text, task.inputs, strict=True))
    if len(names) == 1:
        names |= {"text": task.inputs[0]}
    for word in ALONE.findall(prompt):
        if word.isidentifier():
            refuse_unknown(f"{place}.prompt", "placeholder", {*names, *task.inputs}, word)
    prompt = PLACEHOLDER.sub(lambda found: f"{{{names.get(found[1], found[1])}}}", prompt)
    for column, name in zip(spec.text, task.inputs, strict=True):
        if f"{{{name}}}" not in prompt:
            problem = f"it has no place for the text: {{{column}}} is not in {shown(prompt)}"
            raise Refusal(f"{place}.prompt", problem, f"write {{{column}}} where the text belongs")
    asked = {field.name: getattr(spec, field.name) for field in fields(Generation)}
    generation = Generation(**asked | {"prompt": prompt})
    return replace(task, generation=generation)


def compared_parts(task: Task) -> tuple[str, ...]:
    """Returns the parts whose targets are compared with generated answers."""
    if task.generation is None or task.has_perplexity:
        return ()
    return ("test",) if task.judged_by_loss else ("validation", "test")


def refuse_unmatched(task: Task, targets: pa.ChunkedArray, place: str, part: str) -> None:
    """Refuses targets in which `extract` finds nothing: no answer could equal them."""
    if task.generation is None or not task.generation.extract:
        return
    with telling_messages():
        found = extracted_from(task, targets.to_numpy())
    lacking = [row for row, text in enumerate(found) if not text.strip()]
    if lacking:
        problem = f"finds nothing in {len(lacking):,} of {len(targets):,} {part} targets, the first is"
        raise Refusal(f"{place}.extract", f"{problem} {shown(targets[lacking[0]].as_py())}", "change the expression")


def _grid(values: Values) -> tuple[str, ...]:
    """Returns the numbers that occur, or, if there are too many, as many evenly spaced ones over their range.

    They have six digits, or as many more as tell them apart.
    """
    distinct = np.unique(values)
    chosen = distinct if len(distinct) <= GRID else np.linspace(distinct[0], distinct[-1], GRID)
    words = {digits: {f"{value:.{digits}g}" for value in chosen} for digits in range(6, 18)}
    digits = next(digits for digits in words if len(words[digits]) == max(map(len, words.values())))
    return tuple(dict.fromkeys(f"{value:.{digits}g}" for value in chosen))


def _words(spec: TaskSpec, place: str, known: list[str]) -> tuple[str, ...]:
    """Returns the words that a text-to-text model answers with, if they are not the labels."""
    if spec.words is None:
        return ()
    refuse_unknown(f"{place}.words", "label", known, *spec.words)
    words = tuple(spec.words.get(label, label) for label in known)
    if len(set(words)) < len(words) or not all(word.strip() for word in words):
        problem = f"{', '.join(map(cut, words))} are not different words"
        raise Refusal(f"{place}.words", problem, "give each label its own")
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
            refuse_unknown(f"{place}.class_weights", "label", known, *given)
            return tuple(float(given.get(label, 1.0)) for label in known)


def try_functions(task: Task, labels: Values, place: str) -> list[str]:
    """Returns a warning if right answers score no better than the first label alone, on some training labels.

    Raises:
        Refusal: a metric function fails on either.
    """
    if not task.functions:
        return []
    labels = labels_to_try(task, labels)
    with telling_messages():
        for _, function in task.functions:
            check_function(f"{place}.metric", function)
        right, same = (measure(task, answers, labels)["score"] for answers in (labels, np.full(len(labels), labels[0])))
    if right > same:
        return []
    scores = f"right answers score {right:.4g}, the same answer always {same:.4g}"
    why = f"direction: lower, if less is better; {LABELS_AS}" if task.labels else "direction: lower, if less is better"
    return [f"{', '.join(name for name, _ in task.functions)} of {task.title}: {scores} ({why})"]


CLOCK = 1e-6
"""The least seconds that a call takes; a coarse clock may see none."""
CALLS = 3
"""How often a call is timed, at most, that seems somewhat too slow: a busy machine slows one."""


def _seconds_of_a_call(task: Task, labels: Values) -> float:
    """Returns the seconds of a call of a task's metric functions on labels answered rightly. Raises a Refusal if one
    fails."""
    least = inf
    for _ in range(CALLS):
        began = monotonic()
        measure(task, labels, labels)
        least = min(least, monotonic() - began)
        if not CALL_SECONDS < least * RESAMPLES < 10 * CALL_SECONDS:
            break
    return least


def try_draws(task: Task, labels: Values) -> Iterator[str]:
    """Yields a warning if a metric function gives finalists no interval: it is tried on draws of validation labels.

    A slow function is tried on fewer of them, and not at all if it can't be done with all in its time.
    """
    if not task.functions:
        return
    labels = labels_to_try(task, labels)
    try:
        seconds = _seconds_of_a_call(task, labels)
    except Refusal as refusal:
        yield f"the validation labels of {task.title}, answered rightly: {refusal}"
        return
    finalists = f"finalists of {task.title}, tried on its validation labels"
    if seconds * RESAMPLES > CALL_SECONDS:
        said = f"a call takes {seconds:.2g} s, {RESAMPLES} of them have {CALL_SECONDS:g} s"
        yield f"{finalists}: {NO_INTERVAL}{said}"
        return
    scores, note = resampled_scores(task, labels, labels, min(RESAMPLES, int(TRIED_SECONDS / max(seconds, CLOCK))))
    if not scores:
        yield f"{finalists}: {note}"
