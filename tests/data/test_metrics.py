"""Tests that the metrics agree with hand counts, and give 0.0 without a warning if a correlation has no value."""

import math
import warnings

import numpy as np
import pytest

from krona_tune.data.metrics import METRICS, constant_baseline, measure
from krona_tune.data.tasks import TASKS

LABELS = np.array([1, 1, 1, 0, 0, 1])
PREDICTIONS = np.array([1, 0, 1, 0, 1, 1])  # 3 true and 1 false positives, 1 true and 1 false negatives


@pytest.fixture(autouse=True)
def _warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_every_tasks_metrics_are_in_the_table():
    assert {name for task in TASKS.values() for name in task.metrics} == set(METRICS) - {"macro_f1"}


@pytest.mark.parametrize(
    ("name", "value"), [("accuracy", 4 / 6), ("f1", 6 / 8), ("matthews", (3 * 1 - 1 * 1) / math.sqrt(4 * 4 * 2 * 2))]
)
def test_a_class_metric_agrees_with_the_count_by_hand(name, value):
    assert METRICS[name](PREDICTIONS, LABELS) == pytest.approx(value)


def test_f1_is_that_of_class_one_not_of_class_zero():
    assert METRICS["f1"](1 - PREDICTIONS, 1 - LABELS) == pytest.approx(2 / 4)


def test_pearson_sees_the_distances_and_spearman_only_the_order():
    predictions, labels = np.array([0.0, 1.0, 2.0, 30.0]), np.array([1.0, 2.0, 3.0, 4.0])
    assert METRICS["spearman"](predictions, labels) == pytest.approx(1)
    assert METRICS["pearson"](predictions, labels) == pytest.approx(np.corrcoef(predictions, labels)[0, 1])
    assert METRICS["pearson"](-predictions, labels) == pytest.approx(-np.corrcoef(predictions, labels)[0, 1])


@pytest.mark.parametrize("name", ["pearson", "spearman"])
@pytest.mark.parametrize(
    "predictions",
    [
        [2.5, 2.5, 2.5],
        [1.0, math.nan, 2.0],
        [1.0, math.inf, 2.0],
        [1e308, -1e308, 0.0],
        [0.0, 0.0, 5e-324],
        [1.0, 1.0, 1.0 + 2.3e-16],
    ],
)
def test_a_correlation_without_a_value_is_zero_or_finite_and_silent(name, predictions):
    value = METRICS[name](np.array(predictions), np.array([1.0, 2.0, 4.0]))
    assert math.isfinite(value)
    if not math.isfinite(sum(predictions)) or len(set(predictions)) == 1:
        assert value == 0.0


@pytest.mark.parametrize("name", METRICS)
def test_one_row_has_a_value(name):
    assert METRICS[name](np.array([1]), np.array([1])) in (0.0, 1.0)


@pytest.mark.parametrize("name", ["matthews", "f1"])
def test_a_constant_prediction_gets_nothing_from_matthews_or_f1(name):
    assert METRICS[name](np.zeros(6, dtype=int), LABELS) == 0.0


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_the_score_is_the_mean_of_the_tasks_metrics_and_one_for_a_perfect_answer(task):
    labels = np.linspace(0, 5, 12) if task.is_regression else np.arange(12) % len(task.labels)
    perfect = measure(task, labels, labels)
    assert set(perfect) == {*task.metrics, "score"}
    assert perfect["score"] == pytest.approx(1)
    mixed = measure(task, labels[::-1].copy(), labels)
    assert mixed["score"] == pytest.approx(np.mean([mixed[name] for name in task.metrics]))


@pytest.mark.parametrize(("predictions", "labels"), [([1], [1, 0]), ([], []), ([[1]], [[1]])])
def test_shapes_that_do_not_fit_are_an_error_with_both_in_it(predictions, labels):
    with pytest.raises(ValueError, match=r"rte: predictions \(.*\) and labels \(.*\) must be \(n,\)"):
        measure(TASKS["rte"], np.array(predictions), np.array(labels))


def test_the_constant_baseline_answers_the_training_majority_not_that_of_the_labels():
    train, labels = np.array([1, 1, 0]), np.array([0, 0, 0, 1])
    assert constant_baseline(TASKS["rte"], train, labels) == pytest.approx(1 / 4)
    assert constant_baseline(TASKS["mrpc"], train, labels) == pytest.approx((1 / 4 + 2 / 5) / 2)
    assert constant_baseline(TASKS["cola"], train, labels) == 0.0


def test_the_constant_baseline_of_even_classes_is_the_answer_that_f1_rewards():
    even = np.array([0, 1, 0, 1])
    assert constant_baseline(TASKS["mrpc"], even, even) == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_the_constant_baseline_of_a_regression_is_zero():
    assert constant_baseline(TASKS["stsb"], np.array([1.2, 3.4]), np.array([0.4, 2.2, 5.0])) == 0.0
