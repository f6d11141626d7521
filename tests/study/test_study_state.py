"""Tests that a study's state follows from rows, request and driver, and that one module spells its words."""

import ast
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

import krona_tune
from krona_tune.study.order import Order
from krona_tune.study.request.loader import build_spec
from krona_tune.study.result import Status, TrialResult
from krona_tune.study.study_state import (
    NOT_BEGUN,
    RUNNING,
    DriverState,
    State,
    StudyState,
    TrialStates,
    not_begun,
    running_trials,
)
from tests.record.events import started
from tests.syntax_trees import tree_of

PACKAGE = Path(krona_tune.__file__).parent
OTHERS = {
    "search/terminal/live_view.py": "a table's heads",
    "record/orders.py": "the end of a file's name",
    "search/study_stopper.py": "the end of a driver that did all",
    "service/queue/database.py": "the states of a queue's entry",
    "service/queue/dispatcher.py": "the states of a queue's entry",
    "service/queue/entry.py": "the states of a queue's entry",
    "data/mini_grammar.py": "a word of a sentence",
    "report/loss_charts.py": "what a chart calls the trials that run",
    "report/study_page.py": "what a page calls the trials that run",
}
"""The other modules with a word that is a study's state too, and what it means there."""


def rows(*statuses: Status) -> list[TrialResult]:
    """Returns a row for each status; those that did not end have no time of their end."""
    return [
        replace(started(number), status=status, ended_at=None if status is Status.INTERRUPTED else 9.0)
        for number, status in enumerate(statuses)
    ]


def state(
    *statuses: Status, runs: bool = False, to_come: int | None = 0, driver: DriverState | None = None
) -> StudyState:
    made = rows(*statuses)
    return StudyState(
        runs=runs, counts=TrialStates.of(made, running_trials(made) if runs else (), to_come), driver=driver
    )


def driver(**more: Any) -> DriverState:
    return DriverState(stage="search", trials=9, ended=4, seconds_left=75.0, slots=2, at=1.0, **more)


@pytest.mark.parametrize(
    ("found", "word"),
    [
        (state(Status.COMPLETED, Status.FAILED), "finished"),
        (state(Status.COMPLETED, to_come=1), "stopped"),
        (state(Status.COMPLETED, to_come=None), "stopped"),
        (state(Status.COMPLETED, Status.INTERRUPTED), "stopped"),
        (state(Status.COMPLETED, runs=True), RUNNING),
        (state(Status.COMPLETED, runs=True, driver=driver()), RUNNING),
        (state(Status.COMPLETED, runs=True, driver=driver(paused=True)), "paused"),
        (state(Status.COMPLETED, runs=True, driver=driver(share=0)), "paused"),
    ],
)
def test_a_study_has_one_word(found: StudyState, word: State) -> None:
    assert found.word == word


def test_each_trial_is_counted_once_by_its_status_or_as_one_that_runs() -> None:
    counts = TrialStates.of(rows(*Status, Status.INTERRUPTED), {"cola-0006"}, to_come=11)
    assert list(counts.by_state) == [RUNNING, *Status]
    assert set(counts.by_state.values()) == {1}
    assert (counts.running, counts.completed, counts.stopped, counts.failed, counts.ended) == (1, 1, 2, 3, 6)
    assert (counts.trials, counts.to_go) == (8 + 11, 1 + 11)


@pytest.mark.parametrize(
    ("what", "said", "finished"),
    [
        ({"what": "trials", "value": "+4"}, "waiting", False),
        ({"what": "trials", "value": "+4"}, "taken", False),
        ({"what": "trials", "value": "+4"}, "done", True),
        ({"what": "trials", "value": "+4"}, "refused", True),
        ({"what": "cancel"}, "waiting", True),
        ({"what": "unreadable"}, "waiting", True),
    ],
)
def test_a_study_of_which_more_was_ordered_is_not_finished_until_a_driver_has_answered(
    what: dict[str, str], said: Any, finished: bool
) -> None:
    search = {"trials": 2, "baseline_learning_rates": []}
    spec = build_spec({"model": "m", "tasks": ["cola"], "search": search, "finalists": {"top": 0}}, "x")
    order = Order(id="20260101T000000Z-00ff00", by="ann", given_at=1.0, state=said, **what)
    both = rows(Status.COMPLETED, Status.FAILED)
    found = StudyState.of(spec, both, [order], text_to_text=False, runs=False)
    assert (found.finished, found.word) == (finished, "finished" if finished else "stopped")
    assert not StudyState.of(spec, both[:1], text_to_text=False, runs=False).finished


def test_a_study_is_finished_if_nothing_runs_waits_or_is_to_come() -> None:
    assert state(Status.COMPLETED, Status.FAILED).finished
    assert not any(state(Status.COMPLETED, Status.INTERRUPTED, runs=runs).finished for runs in (False, True))
    assert not any(state(Status.COMPLETED, to_come=to_come).finished for to_come in (None, 1))


@pytest.mark.parametrize("running", [(), ("cola-0001",)])
def test_without_a_plan_nobody_knows_what_is_left(running: Collection[str]) -> None:
    counts = TrialStates.of(rows(Status.COMPLETED, Status.INTERRUPTED), running)
    assert (counts.trials, counts.to_go) == (None, None)
    assert StudyState(runs=bool(running), counts=counts).share is None


def test_what_a_driver_says_is_newer_than_the_rows() -> None:
    known = state(Status.COMPLETED, Status.INTERRUPTED, to_come=6)
    assert (known.trials, known.ended, known.seconds_left, known.share) == (8, 1, None, 1 / 8)
    told = replace(known, runs=True, driver=driver())
    assert (told.trials, told.ended, told.seconds_left, told.share) == (9, 4, 75.0, 4 / 9)
    assert driver().left == 5


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (state(), ""),
        (state(runs=True), "running"),
        (state(Status.STOPPED_EARLY, Status.INTERRUPTED), "1 stopped early, 1 interrupted"),
        (state(Status.COMPLETED, Status.INTERRUPTED, runs=True), "running 1 now, 1 completed"),
        (state(Status.COMPLETED, runs=True, driver=driver(paused=True)), "paused, 0 begun, 1 completed"),
        (state(Status.INTERRUPTED, runs=True, driver=driver(share=0)), "paused, 1 begun"),
    ],
)
def test_a_list_says_what_the_trials_do(found: StudyState, said: str) -> None:
    assert found.text == said


def test_what_is_to_come_is_what_the_request_asks_for_and_no_row_has_begun() -> None:
    search = {"trials": 4, "baseline_learning_rates": [0.001, 0.01]}
    spec = build_spec({"model": "m", "tasks": ["rte", "cola"], "search": search, "finalists": {"top": 0}}, "x")
    begun = [started(0), started(1), started(2, kind="baseline"), started(3, kind="full_train")]
    assert not_begun(spec, begun, text_to_text=False) == {"rte": 4 + 2, "cola": 2 + 1}
    assert not_begun(spec, begun, text_to_text=True) == {"rte": 4 + 1, "cola": 2}


def test_a_clone_is_none_of_the_trials_that_the_request_asks_for() -> None:
    search = {"trials": 4, "baseline_learning_rates": []}
    spec = build_spec({"model": "m", "tasks": ["cola"], "search": search, "finalists": {"top": 0}}, "x")
    clone = replace(started(0), trial_id="cola-clone-0", number=-1)
    assert not_begun(spec, [started(0), started(1), clone], text_to_text=False) == {"cola": 2}


@pytest.mark.parametrize(
    ("second", "left"),
    [
        (Status.COMPLETED, 2 * 3),
        (Status.STOPPED_EARLY, 2 * 3),
        (Status.FAILED, 1 * 3),
        (Status.DIVERGED, 1 * 3),
        (Status.INTERRUPTED, 2 * 3),
    ],
)
def test_after_the_search_there_are_no_more_finalists_than_trials_that_may_be_one(second: Status, left: int) -> None:
    search = {"trials": 2, "baseline_learning_rates": []}
    finalists = {"top": 2, "seeds": 3, "default": False}
    spec = build_spec({"model": "m", "tasks": ["cola"], "search": search, "finalists": finalists}, "x")
    both = [replace(each, score=0.5) for each in rows(Status.COMPLETED, second)]
    assert not_begun(spec, both, text_to_text=False) == {"cola": left}
    assert not_begun(spec, both[:1], text_to_text=False) == {"cola": 1 + 2 * 3}


def test_no_other_module_spells_a_study_s_state() -> None:
    words = {*get_args(State), NOT_BEGUN}

    def spells(path: Path) -> bool:
        tree = tree_of(path)
        return any(isinstance(node, ast.Constant) and node.value in words for node in ast.walk(tree))

    found = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if spells(path)}
    assert found == {"study/study_state.py", *OTHERS}
