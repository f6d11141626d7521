"""Tests that a study's state follows from rows, request and driver, and that one module spells its words."""

import ast
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

import krona_tune
from krona_tune.study.manifest import PlanFacts
from krona_tune.study.order import Order
from krona_tune.study.request.loader import build_spec
from krona_tune.study.result import Status, TrialResult
from krona_tune.study.study_state import (
    NOT_BEGUN,
    RUNNING,
    Counts,
    DriverState,
    StateWord,
    StudyState,
    TrialStates,
    asked_trials,
    running_trials,
)
from tests.record.events import started
from tests.syntax_trees import tree_of

PACKAGE = Path(krona_tune.__file__).parent
OTHERS = {
    "search/terminal/live_view.py": "a table's heads",
    "record/orders.py": "the end of a file's name",
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
        runs=runs, states=TrialStates.of(made, running_trials(made) if runs else (), to_come), driver=driver
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
def test_a_study_has_one_word(found: StudyState, word: StateWord) -> None:
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
        ({"what": "continue"}, "waiting", False),
        ({"what": "stop"}, "waiting", True),
        ({"what": "max_concurrent", "value": "2"}, "waiting", True),
        ({"what": "cancel"}, "waiting", True),
        ({"what": "unreadable"}, "waiting", True),
    ],
)
def test_a_study_of_which_more_was_ordered_is_not_finished_until_a_driver_has_answered(
    what: dict[str, str], said: Any, finished: bool
) -> None:
    order = Order(id="20260101T000000Z-00ff00", by="ann", given_at=1.0, state=said, **what)
    both = rows(Status.COMPLETED, Status.FAILED)
    found = StudyState.of(both, [order], runs=False, to_come=0)
    assert (found.finished, found.word) == (finished, "finished" if finished else "stopped")
    assert not StudyState.of(both, runs=False, to_come=1).finished


def test_a_study_is_finished_if_nothing_runs_waits_or_is_to_come() -> None:
    assert state(Status.COMPLETED, Status.FAILED).finished
    assert not any(state(Status.COMPLETED, Status.INTERRUPTED, runs=runs).finished for runs in (False, True))
    assert not any(state(Status.COMPLETED, to_come=to_come).finished for to_come in (None, 1))


@pytest.mark.parametrize("running", [(), ("cola-0001",)])
def test_without_a_plan_nobody_knows_what_is_left(running: Collection[str]) -> None:
    counts = TrialStates.of(rows(Status.COMPLETED, Status.INTERRUPTED), running)
    assert (counts.trials, counts.to_go) == (None, None)
    assert StudyState(runs=bool(running), states=counts).progress is None


def test_what_a_driver_says_is_newer_than_the_rows() -> None:
    known = state(Status.COMPLETED, Status.INTERRUPTED, to_come=6)
    assert (known.trials, known.ended, known.seconds_left, known.progress) == (8, 1, None, 1 / 8)
    told = replace(known, runs=True, driver=driver())
    assert (told.trials, told.ended, told.seconds_left, told.progress) == (9, 4, 75.0, 4 / 9)
    assert driver().left == 5


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (state(), ""),
        (state(runs=True), "running"),
        (state(Status.STOPPED_EARLY, Status.INTERRUPTED), "1 stopped early, 1 interrupted"),
        (state(Status.COMPLETED, Status.INTERRUPTED, runs=True), "running 1 now, 1 completed"),
        (state(Status.COMPLETED, runs=True, driver=driver(paused=True)), "paused, 1 completed"),
        (state(Status.INTERRUPTED, runs=True, driver=driver(share=0)), "paused, 1 begun"),
    ],
)
def test_a_list_says_what_the_trials_do(found: StudyState, said: str) -> None:
    assert found.text == said


def counted(planned: PlanFacts, **request: Any) -> dict[str, int]:
    """Returns the numbers of the finals' and of the searched trials of a task, and of the heads alone."""
    plain = {"model": "m", "tasks": ["rte", "cola"], "adapter": {"method": ["krona", "lora", "lokr"]}}
    asked = build_spec({**plain, **request}, "x")
    counts = Counts.of(asked, planned)
    assert asked_trials(asked, planned) == 2 * sum(counts.by_kind.values())
    return {"searched": counts.searched, "heads": counts.heads, "finals": counts.finals}


def test_a_request_asks_for_trials_of_the_methods_that_its_plan_has_left() -> None:
    each = {"search": {"trials": 5, "per_method": True}, "finalists": {"top": 4, "seeds": 3}}
    assert counted(PlanFacts(methods=2), **each) == {"searched": 2 * 5, "heads": 1, "finals": 2 * 4 * 3}
    together = {**each, "search": {"trials": 5, "baseline_learning_rates": [0.1, 0.01]}}
    assert counted(PlanFacts(methods=2), **together) == {"searched": 5, "heads": 2, "finals": 4 * 3}
    assert counted(PlanFacts(text_to_text=True), **together)["heads"] == 1


@pytest.mark.parametrize(
    ("compares", "tries_default", "trials", "finals"),
    [
        (False, True, 2, 2),
        (True, True, 2, 1 + 1),
        (True, False, 2, 1 + 2),
        (True, True, 9, 1 + 4),
        (True, False, 9, 1 + 4),
    ],
)
def test_no_more_finals_are_expected_than_there_are_configurations(
    compares: bool, tries_default: bool, trials: int, finals: int
) -> None:
    planned = PlanFacts(compares=compares, tries_default=tries_default)
    request = {"search": {"trials": trials}, "finalists": {"top": 4, "seeds": 3}}
    assert counted(planned, **request)["finals"] == finals * 3
    assert counted(planned, search={"trials": trials}, finalists={"top": 0})["finals"] == 0


def test_no_other_module_spells_a_study_s_state() -> None:
    words = {*get_args(StateWord), NOT_BEGUN}

    def spells(path: Path) -> bool:
        tree = tree_of(path)
        return any(isinstance(node, ast.Constant) and node.value in words for node in ast.walk(tree))

    found = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if spells(path)}
    assert found == {"study/study_state.py", *OTHERS}
