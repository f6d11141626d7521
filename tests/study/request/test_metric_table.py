"""Tests that each metric has every fact, that its facts are true of its function, and that nothing else holds them."""

import ast
from math import nan, sqrt
from pathlib import Path
from pkgutil import resolve_name

import numpy as np
import pytest

import krona_tune
from krona_tune.study.request.metric_table import METRICS, USUAL, Answers, bounds_of, rows_of, standard_error
from tests.syntax_trees import tree_of

PACKAGE = Path(krona_tune.__file__).parent
SPELLED = set(METRICS)
BOUNDED = [name for name, metric in METRICS.items() if metric.bounds]


def answered(judges: Answers, *, wrongly: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Returns 400 labels, numbers or texts, and answers of which a quarter, or all, are as wrong as they can be."""
    draw = np.random.default_rng(5)
    labels = draw.integers(0, 2, 400)
    answers = np.where(draw.random(400) < (1.0 if wrongly else 0.25), 1 - labels, labels)
    match judges:
        case Answers.LABELS:
            return answers, labels
        case Answers.NUMBERS:
            return answers * 1.5, labels * 1.5
        case Answers.TEXTS:
            return np.array(["7", "13"], object)[answers], np.array(["7", "13"], object)[labels]


def test_a_metric_without_bounds_or_error_is_that_of_losses_alone() -> None:
    unbounded = {name for name, metric in METRICS.items() if metric.bounds is None}
    assert unbounded == {name for name, metric in METRICS.items() if metric.error is None} == {"perplexity"}
    assert unbounded == {metric.name for metric in METRICS.values() if metric.of_losses and metric.lower_is_better}


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_has_the_name_and_the_words_of_its_function(name: str) -> None:
    assert name == METRICS[name].name == resolve_name(METRICS[name].function).__name__


@pytest.mark.parametrize("name", BOUNDED)
def test_a_metric_of_right_and_of_wrong_answers_has_its_bounds(name: str) -> None:
    metric = METRICS[name]
    answers, labels = answered(metric.judges, wrongly=True)
    assert (metric.value(answers, labels), metric.value(labels, labels)) == pytest.approx(metric.bounds)


@pytest.mark.parametrize("name", BOUNDED)
def test_the_rough_error_of_a_metric_is_near_to_its_deviation_on_draws_of_the_examples(name: str) -> None:
    metric, draw = METRICS[name], np.random.default_rng(6)
    answers, labels = answered(metric.judges)
    drawn = [metric.value(answers[rows], labels[rows]) for rows in draw.integers(0, 400, (200, 400))]
    error = standard_error({name: metric.value(answers, labels)}, 400)
    assert error is not None
    assert 0.6 < np.std(drawn) / error < 1.6


def test_f1_alone_is_about_one_of_two_labels() -> None:
    assert [metric.name for metric in METRICS.values() if metric.of_one_label] == ["f1"]
    answers, labels = answered(Answers.LABELS)
    value = METRICS["f1"].value(answers, labels)
    assert value != METRICS["f1"].value(1 - answers, 1 - labels)
    assert METRICS["macro_f1"].value(answers, labels) == METRICS["macro_f1"].value(1 - answers, 1 - labels)


def test_standard_errors_of_shares_and_correlations() -> None:
    assert standard_error({"accuracy": 0.8}, 98) == pytest.approx(sqrt(0.794 * 0.206 / 98))
    assert standard_error({"matthews": 0.6}, 103) == pytest.approx((1 - (0.6 * 103 / 105) ** 2) / 10)
    both = standard_error({"accuracy": 0.8, "f1": 0.9}, 100)
    assert both == pytest.approx((0.04 + 0.03) / 2, rel=0.03)
    for value in (0.0, 1.0):
        assert standard_error({"accuracy": value}, 4) == pytest.approx(sqrt(5 / 144))
    for value in (-1.0, 1.0):
        assert standard_error({"pearson": value}, 4) == pytest.approx(5 / 9)


@pytest.mark.parametrize(
    ("metrics", "examples"),
    [
        ({}, 9),
        ({"bleu": 0.5}, 9),
        ({"f1": nan}, 9),
        ({"f1": 0.5}, 0),
        ({"f1": 0.5, "own": 1}, 9),
        ({"perplexity": 3}, 9),
    ],
)
def test_no_standard_error_where_none_is_known(metrics: dict[str, float], examples: int) -> None:
    assert standard_error(metrics, examples) is None


def test_a_mean_of_metrics_has_the_mean_of_their_bounds_if_all_are_known() -> None:
    assert bounds_of(["accuracy", "matthews"]) == (-0.5, 1.0)
    assert bounds_of(["accuracy", "my_own"]) is None
    assert bounds_of(["perplexity"]) is None
    assert bounds_of([]) is None


def test_the_rows_of_some_metrics_leave_a_users_own_out() -> None:
    assert [metric.name for metric in rows_of(["spearman", "my_own", "accuracy"])] == ["accuracy", "spearman"]


def test_the_usual_metric_of_a_kind_of_answers_judges_them() -> None:
    assert {METRICS[name].judges: name for name in USUAL.values()} == USUAL
    assert set(USUAL) == set(Answers)


def test_no_other_module_spells_a_metric_but_the_table_of_tasks() -> None:
    def spells(path: Path) -> bool:
        tree = tree_of(path)
        return any(isinstance(node, ast.Constant) and node.value in SPELLED for node in ast.walk(tree))

    found = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if spells(path)}
    assert found == {"study/request/metric_table.py", "data/tasks.py", "record/recorded_curves.py"}
