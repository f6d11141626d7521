"""Tests what ends a study early, and the status of its running trials."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from krona_tune.search.budget import Amount, Budget
from krona_tune.search.study_stopper import Asked, StudyStopper, interruptible
from krona_tune.study.result import Status
from tests.waiting import PATIENCE

AT_A_RUNG = {"score": 0.5}


@pytest.fixture(autouse=True)
def heard_hangups() -> Iterator[None]:
    """Lets a closed terminal be heard, also where `nohup` started the tests; processes inherit it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def stopper() -> StudyStopper:
    return StudyStopper(Budget(), Amount)


def test_a_trial_that_could_not_keep_its_state_ends_the_study() -> None:
    study = stopper()
    assert not study.stop("cola-000", {"score": 0.5})
    assert not study.stop("cola-001", {"status": "failed", "error": "KeyError", "done": True})
    assert not study.stop_all()
    study.stop("cola-002", {"status": "interrupted", "error": "no room for cola-002", "done": True})
    study.stop("cola-003", {"status": "interrupted", "error": "no room for cola-003", "done": True})
    assert study.stop_all()
    assert study.halted == "no room for cola-002"


def test_trials_that_were_under_way_when_the_study_was_halted_are_interrupted() -> None:
    study = stopper()
    assert study.final_status("a", AT_A_RUNG, False) is Status.STOPPED_EARLY
    study.halt("the records could not be kept")
    assert study.final_status("b", AT_A_RUNG, False) is Status.INTERRUPTED
    assert study.final_status("c", {"status": "completed", "score": 0.5}, False) is Status.COMPLETED


def test_a_trials_status_is_decided_once_whatever_happens_between_two_who_ask() -> None:
    study = stopper()
    assert study.final_status("a", AT_A_RUNG, False) is Status.STOPPED_EARLY
    study.ask("interrupted")
    assert study.final_status("a", AT_A_RUNG, False) is Status.STOPPED_EARLY
    assert study.final_status("b", AT_A_RUNG, False) is Status.INTERRUPTED


def test_a_trial_whose_worker_went_with_ray_is_interrupted_and_not_failed() -> None:
    study = stopper()
    assert study.final_status("a", None, True) is Status.FAILED
    study.abandon("Ray's raylet ended")
    assert study.final_status("b", None, True) is Status.INTERRUPTED


@pytest.mark.parametrize("how", ["interrupted", "terminated", "cancelled"])
def test_a_run_that_is_abandoned_after_somebody_asked_for_its_end_ends_as_asked(how: Asked) -> None:
    """Else a queue would start the driver again that a person has stopped by pressing Ctrl-C twice."""
    study = stopper()
    study.abandon("Ray's raylet ended")
    assert study.end == ("lost", "Ray's raylet ended")
    study = stopper()
    study.ask(how)
    study.abandon("a second request to stop")
    assert study.end == (how, "")
    study.halt("the disk is full")
    assert study.end == ("halted", "the disk is full")


def test_the_clock_alone_ends_the_finals() -> None:
    used = Amount(seconds=5, examples=100)
    study = StudyStopper(Budget(seconds=10, examples=50), lambda: used)
    assert study.used_up == "examples"
    study.let_finals_end()
    assert study.used_up is None
    used = Amount(seconds=10)
    assert study.used_up == "time"


@pytest.mark.parametrize(
    ("trained", "left", "lifted"), [(0, 51, False), (0, 50, True), (30, 21, False), (30, 20, True)]
)
def test_a_limit_that_is_less_than_the_finals_need_holds_for_them_too(trained: int, left: int, lifted: bool) -> None:
    study = StudyStopper(Budget(examples=50), lambda: Amount(examples=60))
    study.reserve = lambda: Amount(examples=left)
    study.let_finals_end(Amount(examples=trained))
    assert study.used_up == (None if lifted else "examples")


def test_a_trial_that_somebody_stops_ends_at_its_next_result_and_says_so() -> None:
    stopper = StudyStopper(Budget(), Amount)
    assert not stopper.stop("t0", {"score": 0.5})
    stopper.stopped.add("t0")
    assert stopper.stop("t0", {"score": 0.5})
    assert stopper.final_status("t0", {"score": 0.5}, False) is Status.STOPPED_BY_USER
    assert stopper.final_status("t1", {"score": 0.5}, False) is Status.STOPPED_EARLY


def test_an_ordered_end_of_the_search_lasts_until_the_finals() -> None:
    stopper = StudyStopper(Budget(), Amount)
    stopper.ended = "ann"
    assert stopper.stop_all()
    assert not stopper.interrupted
    assert stopper.final_status("t0", {"score": 0.5}, False) is Status.INTERRUPTED
    stopper.let_finals_end()
    assert not stopper.stop_all()


@pytest.mark.parametrize("halted", ["", "the disk is full"])
def test_a_trial_that_is_stopped_with_the_report_that_uses_up_the_budget_was_stopped_early(halted: str) -> None:
    stopper = StudyStopper(Budget(examples=50), lambda: Amount(examples=50))
    stopper.judged.add("t0")
    stopper.halted = halted
    assert stopper.final_status("t0", {"score": 0.5}, False) is (Status.INTERRUPTED if halted else Status.STOPPED_EARLY)
    assert stopper.final_status("t1", {"score": 0.5}, False) is Status.INTERRUPTED


def test_a_new_time_budget_counts_at_once() -> None:
    stopper = StudyStopper(Budget(seconds=10), lambda: Amount(seconds=20))
    assert stopper.stop_all()
    stopper.allow(30)
    assert not stopper.stop_all()
    stopper.allow(None)
    assert not stopper.stop_all()


@pytest.mark.parametrize(
    ("number", "how"),
    [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated"), (signal.SIGHUP, "terminated")],
)
def test_it_keeps_whether_a_person_or_the_system_asked_first(number: int, how: str) -> None:
    study = stopper()
    with interruptible(study, Console(quiet=True)):
        signal.raise_signal(number)
    assert (study.asked, study.interrupted) == (how, True)
    study.ask("cancelled")
    assert study.asked == how


def test_a_terminal_may_say_several_times_that_it_is_closed() -> None:
    study, done = stopper(), list[str]()
    with interruptible(study, Console(quiet=True)):
        for _ in range(3):
            signal.raise_signal(signal.SIGHUP)
        study.end_decided = True
        signal.raise_signal(signal.SIGHUP)
        done.append("the rest")
    assert (study.asked, done) == ("terminated", ["the rest"])


def test_a_study_that_nohup_started_does_not_hear_its_terminal() -> None:
    study = stopper()
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptible(study, Console(quiet=True)):
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert not study.interrupted


IN_A_TERMINAL = """
import fcntl, os, signal, sys, termios
from rich.console import Console
from krona_tune.search.budget import Amount, Budget
from krona_tune.search.study_stopper import StudyStopper, interruptible

fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signals, heard = os.pipe()
os.set_blocking(heard, False)
signal.set_wakeup_fd(heard)  # a signal just before a pause would be waited for without an end
study = StudyStopper(Budget(), Amount)
with interruptible(study, Console(force_terminal=True)):
    print("begun", flush=True)
    while not study.asked:
        os.read(signals, 1)
    print("the end", flush=True)
    print("and an error", file=sys.stderr, flush=True)
with open(sys.argv[1], "w") as kept:
    kept.write(study.asked)
"""


def test_a_study_whose_terminal_is_closed_comes_to_its_end(tmp_path: Path) -> None:
    terminal, inside = os.openpty()
    program = subprocess.Popen(
        [sys.executable, "-c", IN_A_TERMINAL, str(tmp_path / "kept")],
        stdin=inside,
        stdout=inside,
        stderr=inside,
        start_new_session=True,
    )
    os.close(inside)
    assert os.read(terminal, 5) == b"begun"
    os.close(terminal)
    assert program.wait(PATIENCE) == 0
    assert (tmp_path / "kept").read_text(encoding="utf-8") == "terminated"


@pytest.mark.parametrize("asked", ["", "interrupted"])
def test_a_signal_after_it_is_settled_how_the_driver_ends_only_cuts_short_what_is_left(asked: Asked) -> None:
    study, done = stopper(), list[str]()
    study.ask(asked)
    study.end_decided = True
    with interruptible(study, Console(quiet=True)):
        signal.raise_signal(signal.SIGTERM)
        done.append("the rest")
    assert (study.asked, done) == (asked, [])
