"""Tests that the metrics agree with hand counts, and give 0.0 without a warning if a correlation has no value."""

import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from krona_tune.data import metrics, text_metrics, user_code
from krona_tune.data.metrics import constant_baseline, measure, resampled_scores
from krona_tune.data.tasks import TASKS, Generation, Task
from krona_tune.data.user_code import WithheldError
from krona_tune.study.randomness import RESAMPLES, drawn_rows
from krona_tune.study.request.metric_table import METRICS, Answers

LABELS = np.array([1, 1, 1, 0, 0, 1])
PREDICTIONS = np.array([1, 0, 1, 0, 1, 1])  # 3 true and 1 false positives, 1 true and 1 false negatives


@pytest.fixture(autouse=True)
def _warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize(
    ("name", "value"), [("accuracy", 4 / 6), ("f1", 6 / 8), ("matthews", (3 * 1 - 1 * 1) / math.sqrt(4 * 4 * 2 * 2))]
)
def test_a_class_metric_agrees_with_the_count_by_hand(name, value):
    assert METRICS[name].value(PREDICTIONS, LABELS) == pytest.approx(value)


def test_f1_is_that_of_class_one_not_of_class_zero():
    assert METRICS["f1"].value(1 - PREDICTIONS, 1 - LABELS) == pytest.approx(2 / 4)


def test_pearson_sees_the_distances_and_spearman_only_the_order():
    predictions, labels = np.array([0.0, 1.0, 2.0, 30.0]), np.array([1.0, 2.0, 3.0, 4.0])
    assert METRICS["spearman"].value(predictions, labels) == pytest.approx(1)
    assert METRICS["pearson"].value(predictions, labels) == pytest.approx(np.corrcoef(predictions, labels)[0, 1])
    assert METRICS["pearson"].value(-predictions, labels) == pytest.approx(-np.corrcoef(predictions, labels)[0, 1])


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
    value = METRICS[name].value(np.array(predictions), np.array([1.0, 2.0, 4.0]))
    assert math.isfinite(value)
    if not math.isfinite(sum(predictions)) or len(set(predictions)) == 1:
        assert value == 0.0


PEERS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "accuracy": lambda p, y: accuracy_score(y, p),
    "f1": lambda p, y: f1_score(y == 1, p == 1, zero_division=0.0),
    "macro_f1": lambda p, y: f1_score(y, p, average="macro", zero_division=0.0),
    "matthews": lambda p, y: matthews_corrcoef(y, p),
    "pearson": lambda p, y: pearsonr(p, y).statistic,
    "spearman": lambda p, y: spearmanr(p, y).statistic,
}


@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize("seed", range(20))
def test_a_metric_agrees_with_scikit_learn_and_scipy(name, seed):
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 2 + seed % 4, 97)
    predictions = np.where(draw.random(97) < 0.6, labels, draw.integers(0, 2 + seed % 5, 97))
    if METRICS[name].judges is Answers.NUMBERS:  # with ties
        labels, predictions = labels / 3, predictions + np.round(draw.normal(size=97), seed % 3)
    assert METRICS[name].value(predictions, labels) == pytest.approx(
        PEERS[name](predictions, labels), rel=1e-12, abs=1e-15
    )


@pytest.mark.parametrize("name", PEERS)
def test_one_row_has_a_value(name):
    assert METRICS[name].value(np.array([1]), np.array([1])) in (0.0, 1.0)


@pytest.mark.parametrize("name", ["matthews", "f1"])
def test_a_constant_prediction_gets_nothing_from_matthews_or_f1(name):
    assert METRICS[name].value(np.zeros(6, dtype=int), LABELS) == 0.0


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


def test_of_many_labels_only_the_most_frequent_are_compared_as_the_constant_baseline(monkeypatch):
    calls = []

    def measured(task, predictions, labels):
        calls.append((predictions[0], len(labels)))
        return measure(task, predictions, labels)

    many = replace(TASKS["rte"], labels=tuple(map(str, range(1000))), metrics=("macro_f1",))
    train = np.concatenate([np.arange(1000), [7, 7, 8]])
    expected = measure(many, np.full(4, 7), np.array([7, 8, 7, 9]))["score"]
    monkeypatch.setattr(metrics, "measure", measured)
    assert constant_baseline(many, train, np.array([7, 8, 7, 9])) == expected
    assert len(calls) == metrics.MOST_ANSWERS + 1
    assert calls[-1] == (7, 4)


AGREE = """
def agree(labels, answers):
    if len(set(labels) | set(answers)) == 1:
        return float("nan")
    return (labels == answers).mean()
"""
"""Has no value where there is one label only, as Cohen's kappa has none."""


def judged_by(folder: Path, code: str, *metrics: str) -> Task:
    """Returns RTE, judged by the function that the code defines, and by named metrics before it."""
    name = code.partition("def ")[2].partition("(")[0]
    (folder / "judge.py").write_text(code)
    return replace(TASKS["rte"], metrics=(*metrics, name), functions=((name, f"{folder}/judge.py:{name}"),))


@pytest.mark.parametrize(("rare", "known"), [(4, True), (2, False)])
def test_draws_on_which_a_function_has_no_value_cost_at_most_the_interval(rare, known, tmp_path):
    task, labels = judged_by(tmp_path, AGREE, "accuracy"), np.array([1] * rare + [0] * (50 - rare))
    answers = np.where(np.arange(50) == 20, 1, labels)
    assert measure(task, answers, labels)["score"] == pytest.approx(0.98)
    lacking = [not labels[rows].any() and not answers[rows].any() for rows in drawn_rows("rte", 50)]
    scores, note = resampled_scores(task, answers, labels)
    assert f"tasks.rte.metric: no value for {sum(lacking)} of 500 draws" in note
    assert note.startswith("no interval") is not known
    assert len(scores) == (RESAMPLES if known else 0)
    assert np.isnan(scores).tolist() == (lacking if known else [])


def test_draws_have_the_scores_of_their_rows():
    answers, labels = np.arange(44) % 3 // 2, np.arange(44) % 2
    expected = [measure(TASKS["mrpc"], answers[rows], labels[rows])["score"] for rows in drawn_rows("mrpc", 44)]
    assert resampled_scores(TASKS["mrpc"], answers, labels) == (tuple(expected), "")


@pytest.mark.parametrize(
    ("body", "said"),
    [("while len(labels) > len(set(answers)): pass", "more than 1 s"), ("raise SystemExit", "SystemExit")],
)
def test_a_function_that_is_too_slow_for_all_draws_or_ends_costs_the_interval(body, said, tmp_path, monkeypatch):
    monkeypatch.setattr(user_code, "CALL_SECONDS", 1.0)
    task = judged_by(tmp_path, f"def judge(labels, answers):\n    {body}\n")
    scores, note = resampled_scores(task, np.array([0, 1, 1]), np.array([0, 1, 1]))
    assert scores == ()
    assert note.startswith("no interval: tasks.rte.metric: ")
    assert said in note


def test_an_error_of_a_built_in_metric_of_texts_does_not_quote_them(monkeypatch):
    def fail(answers, targets):
        raise ValueError(f"{answers[0]} is not {targets[0]}")

    monkeypatch.setattr(text_metrics, "exact_match", fail)
    task = replace(TASKS["rte"], labels=(), metrics=("exact_match",), generation=Generation(prompt="{q}"))
    with pytest.raises(WithheldError, match=r"^exact_match failed \(ValueError at test_metrics.py:\d+\)$"):
        measure(task, np.array(["a secret"], dtype=object), np.array(["a text"], dtype=object))
