"""Tests that a study's state comes from its rows, its request and its orders, and from what its last driver said."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from krona_tune.record.driver_state import write_driver_state
from krona_tune.record.orders import give_order, waiting_orders
from krona_tune.record.ownership import lock_of
from krona_tune.search.progress.study_status import StudyStatus, read_status
from krona_tune.study.folder import StudyFolder
from krona_tune.study.manifest import PlanFacts
from krona_tune.study.order import OrderRequest
from krona_tune.study.request.loader import build_spec, dump_spec, load_spec
from krona_tune.study.result import Status
from krona_tune.study.study_state import DriverState, asked_trials
from tests.record.events import manifest
from tests.search.searched import searched

MANIFEST = manifest("rte", "cola")
ROWS = [searched(0, 0.5, "rte"), searched(0, 0.5, "cola"), searched(1, 0.4, "cola")]
"""The second trial of rte has not begun."""


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    search = {"trials": 2, "baseline_learning_rates": []}
    spec = build_spec({"model": "m", "name": "s", "tasks": ["rte", "cola"], "search": search}, "x.yaml")
    found = StudyFolder(tmp_path / "s")
    found.root.mkdir()
    found.spec.write_text(dump_spec(spec), encoding="utf-8")
    return found


def said(folder: StudyFolder, *, paused: bool = False, **more: Any) -> None:
    write_driver_state(folder, DriverState(stage="end", trials=9, ended=3, slots=2, at=1.0, paused=paused, **more))


def status(folder: StudyFolder, *, runs: bool = False, **more: Any) -> StudyStatus:
    return read_status(folder, ROWS, runs=runs, manifest=MANIFEST, **more)


def test_what_is_left_is_counted_from_the_rows_where_no_driver_has_said_that_nothing_is(folder: StudyFolder) -> None:
    assert status(folder).state.word == "stopped"
    said(folder, end="finished")
    found = status(folder)
    assert (found.state.word, found.to_come, found.state.trials) == ("stopped", {"rte": 1, "cola": 0}, 4)
    assert read_status(folder, [*ROWS, searched(1, 0.3)], runs=False, manifest=MANIFEST).state.finished


def test_a_driver_that_found_nothing_left_is_believed_until_more_is_asked_for(folder: StudyFolder) -> None:
    """Every point of the space of rte was tried, which no row says."""
    spec = load_spec(folder.spec)
    said(folder, end="finished", fulfilled=asked_trials(spec, MANIFEST.planned_of(spec)))
    found = status(folder)
    assert (found.state.word, found.to_come, found.state.trials) == ("finished", {"rte": 0, "cola": 0}, 3)
    more = spec.model_copy(update={"search": spec.search.model_copy(update={"trials": 3})})
    assert not status(folder, spec=more).state.finished
    methods = MANIFEST.model_copy(update={"planned": PlanFacts(methods=2)})
    assert read_status(folder, ROWS, runs=False, manifest=methods).state.finished, "its methods share the trials"
    begun = [*ROWS, searched(1, None, status=Status.INTERRUPTED)]
    assert not read_status(folder, begun, runs=False, manifest=MANIFEST).state.finished
    assert status(folder, runs=True).to_come == {"rte": 1, "cola": 0}, "a driver that runs may know more"


@pytest.mark.parametrize(
    ("end", "stage", "word"),
    [
        ("interrupted, cut short", "end", "stopped"),
        ("finished", "end", "finished"),
        ("interrupted", "end", "finished"),
        ("", "end", "stopped"),
        ("", "finals", "stopped"),
        ("halted", "end", "stopped"),
        ("lost", "end", "stopped"),
        ("", "full training", "finished"),
        ("halted, training", "end", "stopped"),
        ("lost, training", "end", "finished"),
        (", training", "end", "stopped"),
        ("interrupted, cut short, training", "end", "finished"),
    ],
)
def test_a_study_whose_driver_was_cut_off_before_it_wrote_the_adapters_is_not_finished(
    folder: StudyFolder, end: Any, stage: Any, word: str
) -> None:
    """Else nobody could resume it, though every trial has ended."""
    end, *more = end.split(", ")
    told: Any = {"stage": stage, "end": end, "cut_short": "cut short" in more, "training": "training" in more}
    write_driver_state(folder, DriverState(trials=4, ended=4, slots=2, fulfilled=4, at=1.0, **told))
    found = read_status(folder, [*ROWS, searched(1, 0.3)], runs=False, manifest=MANIFEST)
    assert (found.state.word, found.state.states.to_go) == (word, 0)


def test_a_full_training_that_was_cut_off_is_not_left_of_the_study(folder: StudyFolder) -> None:
    """Nothing but the same command trains it."""
    done = [*ROWS, searched(1, 0.3)]
    cut = replace(searched(1, 0.3), trial_id="rte-001-full-train-s1", kind="full_train", status=Status.INTERRUPTED)
    for ended_at in (None, 7.0):
        found = read_status(folder, [*done, replace(cut, ended_at=ended_at)], runs=False, manifest=MANIFEST)
        assert (found.state.word, found.state.states.to_go, found.state.trials) == ("finished", 0, 4)
    running = read_status(folder, [*done, replace(cut, ended_at=None)], runs=True, manifest=MANIFEST)
    assert running.state.states.running == 1


def test_an_order_that_waits_leaves_something_until_it_is_answered(folder: StudyFolder) -> None:
    said(folder, end="finished", fulfilled=4)
    give_order(folder, OrderRequest(what="trials", value="+4"))  # type: ignore[arg-type]
    assert status(folder).state.word == "stopped"
    [order] = waiting_orders(folder)
    (folder.orders / f"{order.id}.json").unlink()
    assert status(folder, answered=[order.model_copy(update={"state": "refused"})]).state.word == "finished"


def test_a_study_that_runs_says_what_its_driver_says(folder: StudyFolder) -> None:
    with lock_of(folder):
        said(folder, paused=True)
        state = status(folder, runs=True).state
        assert (state.word, state.trials, state.ended) == ("paused", 9, 3)
        assert read_status(folder, ROWS, runs=True).state.word == "paused"


def test_of_a_search_that_was_stopped_nothing_is_to_come_while_finals_are_trained(folder: StudyFolder) -> None:
    known = {"trials": 3, "ended": 3, "slots": 2, "at": 1.0}
    with lock_of(folder):
        for over, to_come in ((False, {"rte": 1, "cola": 0}), (True, {"rte": 0, "cola": 0})):
            write_driver_state(folder, DriverState.model_validate({"stage": "end", "search_over": over, **known}))
            assert status(folder, runs=True).to_come == to_come


def test_a_request_that_can_not_be_read_says_why_and_nothing_is_known_of_what_is_to_come(folder: StudyFolder) -> None:
    folder.spec.write_text("{", encoding="utf-8")
    found = status(folder)
    assert found.problem
    assert found.problem is not None
    assert "study.yaml" in found.problem.place
    assert (found.to_come, found.state.trials, found.state.word) == (None, None, "stopped")
    alone = read_status(folder, [replace(ROWS[0], status=Status.INTERRUPTED)], runs=False)
    assert (alone.problem, alone.state.text) == (None, "1 interrupted")
