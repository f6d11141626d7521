"""Tests that a task of one's own is judged, weighed and worded as asked, and that a wrong key is refused."""

import os
import re
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from krona_tune.data import own_task
from krona_tune.data.metrics import measure
from krona_tune.data.own_data import load_own
from krona_tune.data.own_task import try_draws, try_functions
from krona_tune.refusal import Refusal
from krona_tune.study.request.task_spec import TaskSpec
from tests.data.own_tickets import labelled, own, refusal_of, rows, write_csv


@pytest.fixture(autouse=True)
def _own_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets no call of a metric seem slow, however busy the machine is."""
    clock = count()
    monkeypatch.setattr(own_task, "monotonic", lambda: next(clock) / 10**4)


def test_a_regression_has_its_numbers_and_their_scale(tmp_path: Path) -> None:
    some = [{"body": f"text {n}", "queue": n * 1.5} for n in range(100)]
    data = own(write_csv(tmp_path / "prices.csv", some), metric=["pearson", "spearman"])
    labels = data.parts["train"]["label"].to_numpy()
    assert data.task.is_regression
    assert (data.task.centre, data.task.spread) == pytest.approx((labels.mean(), labels.std()))
    assert len(data.task.candidates) == len(data.task.grid) == 26
    assert not data.shares


def test_stars_are_a_regressions_own_grid(tmp_path: Path) -> None:
    some = [{"body": f"text {n}", "queue": 1 + n % 5} for n in range(100)]
    data = own(write_csv(tmp_path / "stars.csv", some), metric="spearman")
    assert data.task.candidates == ("1", "2", "3", "4", "5")


def test_weights_words_and_the_positive_label(tmp_path: Path) -> None:
    some = [{"body": f"text {n}", "queue": "no" if n % 4 else "alarm"} for n in range(100)]
    path = write_csv(tmp_path / "alarms.csv", some)
    data = own(path, class_weights="balanced", words={"alarm": "fire"}, positive="alarm", metric="f1")
    assert data.task.labels == ("no", "alarm")
    assert data.task.candidates == ("no", "fire")
    assert data.task.class_weights == pytest.approx((2 / 3, 2.0), rel=0.05)
    given = own(path, class_weights={"alarm": 3})
    assert given.task.class_weights == (3.0, 1.0)


@pytest.mark.parametrize(
    ("words", "asked", "said"),
    [
        (("Spam", "ham"), {}, ["f1 of tickets is about 'ham', for capital letters come before small ones"]),
        (("Spam", "ham"), {"positive": "Spam"}, []),
        (("spam", "ham"), {}, []),
        (("10", "9"), {}, []),
    ],
)
def test_a_positive_label_by_its_capital_is_warned_of(
    words: tuple[str, str], asked: dict[str, str], said: list[str], tmp_path: Path
) -> None:
    some = [{"body": f"text {n}", "queue": words[n % 2]} for n in range(100)]
    warnings = own(write_csv(tmp_path / "mails.csv", some), metric="f1", **asked).warnings
    assert [each.partition(":")[0] for each in warnings if each.startswith("f1")] == said


@pytest.mark.slow
def test_an_own_metric_gets_labels_and_answers(tmp_path: Path) -> None:
    (tmp_path / "costs.py").write_text(
        "def cost(labels, answers):\n    return 3.0 * ((labels == 'access') & (answers != 'access')).sum()\n"
    )
    path = write_csv(tmp_path / "tickets.csv", rows())
    spec = TaskSpec.model_validate(
        {"data": "tickets.csv", "text": "body", "label": "queue", "metric": "costs:cost", "direction": "lower"}
    )
    task = load_own("tickets", spec.resolved_against(tmp_path), "tasks.tickets").task
    assert measure(task, np.array([1, 1, 0, 0]), np.array([0, 1, 0, 1])) == {"cost": 3.0, "score": -3.0}
    of_sklearn = own(path, metric=["accuracy", "sklearn.metrics:balanced_accuracy_score"]).task
    measured = measure(of_sklearn, np.array([1, 1, 1, 1]), np.array([1, 1, 1, 0]))
    assert measured == {"accuracy": 0.75, "balanced_accuracy_score": 0.5, "score": 0.625}


@pytest.mark.parametrize(
    ("judges", "direction", "said"),
    [
        (
            "sum(labels != answers)",
            {},
            ["right answers score 0, the same answer always "],
        ),
        ("sum(labels != answers)", {"direction": "lower"}, []),
        ("sum((labels == 1) & (answers == 1))", {}, ["labels are texts, such as '1'"]),
        ("sum(labels == answers)", {}, []),
    ],
)
def test_a_function_by_which_right_answers_are_no_better_than_one_answer_is_warned_of(
    tmp_path: Path, judges: str, direction: dict[str, Any], said: list[str]
) -> None:
    (tmp_path / "judge.py").write_text(f"def judge(labels, answers):\n    return float({judges})\n")
    path = write_csv(tmp_path / "tickets.csv", rows(429))
    found = own(path, metric=f"{tmp_path}/judge.py:judge", **direction).warnings
    assert len(found) == len(said)
    assert all(part in warning for part, warning in zip(said, found, strict=True))


def test_a_function_that_has_no_value_on_many_draws_of_validation_labels_is_warned_of(tmp_path: Path) -> None:
    (tmp_path / "judge.py").write_text(
        "def judge(labels, answers):\n    return sum(labels == answers) / list(labels).count('access')\n"
    )
    path = write_csv(tmp_path / "tickets.csv", rows(100))
    [warning] = own(path, metric=f"{tmp_path}/judge.py:judge").warnings
    assert warning.startswith(
        "finalists of tickets, tried on its validation labels: no interval: tasks.tickets.metric: no value for "
    )
    assert own(path, split={"validation": 60, "test": 20}, metric=f"{tmp_path}/judge.py:judge").warnings == ()


def test_a_function_that_is_too_slow_for_all_draws_is_warned_of_without_trying_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "judge.py").write_text("def judge(labels, answers):\n    return sum(labels == answers)\n")
    clock = count()
    monkeypatch.setattr(own_task, "monotonic", lambda: next(clock) / 10)
    path = write_csv(tmp_path / "tickets.csv", rows(200))
    [warning] = own(path, metric=f"{tmp_path}/judge.py:judge").warnings
    assert re.search(r"no interval: a call takes 0\.\d+ s, 500 of them have 30 s$", warning)


def test_one_slow_call_on_a_busy_machine_is_no_slow_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "judge.py").write_text("def judge(labels, answers):\n    return 1.0\n")
    task = own(write_csv(tmp_path / "tickets.csv", rows()), metric=f"{tmp_path}/judge.py:judge").task
    clock = iter([0.0, 0.2, 1.0, 1.001])
    monkeypatch.setattr(own_task, "monotonic", lambda: next(clock))
    assert list(own_task.try_draws(task, np.zeros(8, dtype=int))) == []


def test_a_function_is_tried_on_some_of_many_examples_and_on_every_label(tmp_path: Path) -> None:
    (tmp_path / "judge.py").write_text(
        "def judge(labels, answers):\n"
        "    if len(labels) > 2100 or 'access' not in labels:\n"
        "        raise ValueError(len(labels))\n"
        "    return 1.0\n"
    )
    task = own(write_csv(tmp_path / "tickets.csv", rows(500)), metric=f"{tmp_path}/judge.py:judge").task
    labels = np.full(9_000, task.labels.index("billing"))
    labels[4_001] = task.labels.index("access")
    try_functions(task, labels, "tasks.tickets")
    labels[:] = task.labels.index("access")
    assert list(try_draws(task, labels)) == []


WRONG_KEYS: list[tuple[dict[str, Any], str]] = [
    ({"metric": "f2"}, "tasks.tickets.metric: unknown metric 'f2', did you mean 'f1'?"),
    ({"metric": "f1"}, "tasks.tickets.metric: f1 is about one of two labels, there are 3; write macro_f1"),
    (
        {"metric": ["accuracy", "pearson"]},
        "tasks.tickets.metric: accuracy is of labels, not of numbers; choose metrics of one kind",
    ),
    ({"metric": "pearson"}, "tickets.csv: queue: row 1: 'billing' is not a number to 1e+30; write a number there"),
    (
        {"metric": "nowhere:cost"},
        "tasks.tickets.metric: nowhere:cost can't be imported (ModuleNotFoundError: No module named 'nowhere'); "
        "write MODULE:FUNCTION, or FILE.py:FUNCTION beside the YAML file",
    ),
    (
        {"metric": "math:sqrt"},
        "tasks.tickets.metric: math:sqrt failed "
        "(TypeError: math.sqrt() takes exactly one argument (2 given)); "
        "it takes labels and answers, and returns a number; labels are texts, such as '1', but numbers of a regression",
    ),
    (
        {"direction": "lower"},
        "tasks.tickets.direction: lower is about one MODULE:FUNCTION, accuracy has 0; "
        "leave it out, or write one function",
    ),
    ({"positive": "biling"}, "tasks.tickets.positive: unknown label 'biling', did you mean 'billing'?"),
    ({"class_weights": {"acces": 2}}, "tasks.tickets.class_weights: unknown label 'acces', did you mean 'access'?"),
    (
        {"words": {"access": "billing"}},
        "tasks.tickets.words: billing, billing, hardware are not different words; give each label its own",
    ),
    (
        {"split": {"validation": 60, "test": 40}},
        "tasks.tickets.split: 40 for test and 60 for validation of 100 examples leave none to train; hold out fewer",
    ),
    (
        {"split": {"test": "/nowhere/test.csv"}},
        "/nowhere/test.csv: no such file or folder; in a YAML file paths are relative to it, else to the process",
    ),
    (
        {"split": {"group": "customer", "validation": 2, "test": 0.2}},
        "tasks.tickets.split.group: no value of customer is left that has so few examples that 2 for validation can be "
        "held out; hold out another number, or leave group out",
    ),
    ({"split": {"column": "id"}}, "tickets.csv: id: '0' is no part; write train, validation or test in each row"),
]


@pytest.mark.parametrize(("keys", "message"), WRONG_KEYS, ids=[str(keys) for keys, _ in WRONG_KEYS])
def test_a_wrong_key_is_refused_with_its_place(keys: dict[str, Any], message: str, tmp_path: Path) -> None:
    assert refusal_of(write_csv(tmp_path / "tickets.csv", rows()), **keys) == message


def test_a_metric_file_that_is_only_where_the_process_runs_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker runs in another folder, where it would not find it."""
    (tmp_path / "costs.py").write_text("def cost(labels, answers):\n    return 1.0\n")
    monkeypatch.chdir(tmp_path)
    data = write_csv(tmp_path / "tickets.csv", rows())
    asked = {"data": str(data), "text": "body", "label": "queue", "metric": "costs.py:cost"}
    with pytest.raises(Refusal, match=r"tasks.tickets.metric: .*/conf/costs.py is not there"):
        load_own("tickets", TaskSpec.model_validate(asked).resolved_against(tmp_path / "conf"), "tasks.tickets")


def test_a_metric_file_of_a_study_s_own_request_stays_as_it_was_written(tmp_path: Path) -> None:
    """An earlier version left it relative to where its command ran."""
    (tmp_path / "study.yaml").touch()
    asked = {"data": "x.csv", "text": "body", "label": "queue", "metric": "costs.py:cost"}
    assert TaskSpec.model_validate(asked).resolved_against(tmp_path).metric == ("costs.py:cost",)
    (tmp_path / "study.yaml").unlink()
    assert TaskSpec.model_validate(asked).resolved_against(tmp_path).metric == (f"{tmp_path}/costs.py:cost",)


def test_a_metric_file_that_is_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "costs.py")
    write_csv(tmp_path / "tickets.csv", rows())
    asked = {"data": "tickets.csv", "text": "body", "label": "queue", "metric": "costs:cost"}
    with pytest.raises(Refusal, match=r"tasks.tickets.metric: .*/costs.py is no regular file; name a file of Python"):
        load_own("tickets", TaskSpec.model_validate(asked).resolved_against(tmp_path), "tasks.tickets")


def test_regression_without_a_metric_is_judged_by_pearson(tmp_path: Path) -> None:
    some = [{"body": f"text {n}", "queue": n} for n in range(40)]
    assert own(write_csv(tmp_path / "tickets.csv", some), regression=True).task.metrics == ("pearson",)


def test_the_positive_label_may_be_yamls_true(tmp_path: Path) -> None:
    some = [{"body": f"text {n}", "queue": str(n % 3 == 0)} for n in range(40)]
    data = own(write_csv(tmp_path / "tickets.csv", some), metric="f1", positive=True)
    assert data.task.labels == ("False", "True")


def test_a_positive_label_that_yaml_reads_as_true_belongs_in_quotes(tmp_path: Path) -> None:
    said = refusal_of(labelled(tmp_path / "tickets.csv", "yes", "no"), positive=True)
    assert said.endswith("unknown label 'true', as which YAML reads yes without quotes; write 'yes', in quotes")


def test_a_refusal_shows_no_long_label_whole(tmp_path: Path) -> None:
    path = labelled(tmp_path / "tickets.csv", *(f"{letter} y" * 4_000 for letter in "abc"))
    for keys in ({"positive": "d"}, {"words": {"e": "f"}}, {"class_weights": {"a y" * 4_000 + "z": 2}}):
        assert len(refusal_of(path, **keys)) < 1_000


def test_numbers_that_differ_late_have_words_of_their_own(tmp_path: Path) -> None:
    close = own(write_csv(tmp_path / "close.csv", stars(100_000, 1e-3)), metric="pearson").task
    assert close.words == ("100000", "100000.001", "100000.002", "100000.003", "100000.004")
    assert own(write_csv(tmp_path / "far.csv", stars(0, 0.5)), metric="pearson").task.words == (
        "0", "0.5", "1", "1.5", "2",
    )  # fmt: skip


def stars(low: float, step: float) -> list[dict[str, Any]]:
    return [{"body": f"text {number}", "queue": repr(low + number % 5 * step)} for number in range(200)]


def test_a_title_is_one_line_that_a_terminal_can_show(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "tickets.csv", rows())
    assert own(path, title="All\n my\x1b[31m tickets ").task.title == "All my [31m tickets"
    assert own(path, title="\n").task.title == "tickets"
