"""Tests that a study has exactly one driver, whatever dies and whenever the service is killed."""

from collections.abc import Callable

import pytest

from krona_tune.record.orders import waiting_orders
from krona_tune.record.ownership import lock_of
from krona_tune.service.queue import dispatcher
from krona_tune.service.queue.database import UnavailableError
from krona_tune.service.queue.dispatcher import MOST_RESTARTS
from krona_tune.study.study_state import End
from tests.service.queue.fakes import Queue, submission


@pytest.mark.parametrize("end", ["", "halted", "lost"])
def test_a_dead_driver_is_started_again_three_times_within_an_hour(
    queue: Queue, end: End, halts_told: list[tuple[tuple[str, ...], str, str]]
) -> None:
    queue.submit("first")
    queue.round()
    for restarts in range(1, MOST_RESTARTS + 1):
        queue.drivers.ends("first", end)
        assert queue.round() == {"first": ("running", 2)}
        assert (queue.entry("first").restarts, queue.drivers.started[-1][:2]) == (restarts, ("resume", "first"))
    queue.drivers.ends("first", end)
    assert halts_told == [], "it is started again"
    assert queue.round() == {"first": ("halted", 0)}
    queue.round()
    assert halts_told == [(submission("first").notify, "first", queue.entry("first").reason)]
    reason = queue.entry("first").reason
    assert "started again 3 times within an hour and ended again" in reason
    assert ("the disk is full" if end == "halted" else "the last line" if not end else "lost") in reason
    assert "hunter2" not in reason
    queue.database.put_back(1)
    assert queue.round() == {"first": ("running", 2)}


def test_what_the_full_disk_does_not_keep_is_not_told_in_each_round(
    queue: Queue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object, **__: object) -> None:
        raise UnavailableError("queue.db", "the queue can't be kept: the disk is full", "look at the disk")

    queue.submit("first")
    queue.round()
    queue.drivers.ends("first")
    with monkeypatch.context() as patch:
        patch.setattr(queue.database, "end_start", full)
        for _ in range(3):
            with pytest.raises(UnavailableError):
                queue.round()
    assert caplog.messages == []
    queue.round()
    assert len(caplog.messages) == 1


def test_of_a_long_line_that_a_dead_driver_wrote_the_queue_shows_the_beginning(queue: Queue) -> None:
    queue.submit("first")
    queue.round()
    queue.drivers.last_lines = lambda handle: "a line\nOut of memory: " + "help " * 900  # type: ignore[method-assign]
    queue.drivers.ends("first")
    queue.begin(pace=1000.0)
    queue.round()
    reason = queue.entry("first").reason
    assert ("Out of memory: help" in reason, len(reason) < 400) == (True, True), reason


def test_faults_of_long_ago_do_not_count(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    queue.submit("first")
    queue.round()
    monkeypatch.setattr(dispatcher, "WITHIN_SECONDS", 0.0)
    for _ in range(MOST_RESTARTS + 2):
        queue.drivers.ends("first")
        assert queue.round() == {"first": ("running", 2)}


def test_a_machine_that_shuts_down_is_no_fault(queue: Queue) -> None:
    queue.submit("first")
    queue.round()
    for _ in range(MOST_RESTARTS + 2):
        queue.drivers.ends("first", "terminated")
        assert queue.round() == {"first": ("running", 2)}


def test_the_next_start_of_a_dead_driver_waits(queue: Queue) -> None:
    queue.submit("first")
    queue.round()
    queue.drivers.ends("first")
    queue.begin(pace=1000.0)
    assert queue.round() == {"first": ("running", 0)}
    assert "it died" in queue.entry("first").reason
    queue.submit("second")
    assert queue.round()["second"] == ("running", 2), "its slots are free meanwhile"


def test_a_driver_that_is_told_to_end_again_and_again_is_given_up(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "MOST_STARTS", MOST_RESTARTS + 3)
    queue.submit("first")
    queue.round()
    for _ in range(60):
        if "first" in queue.drivers.running.values():
            queue.drivers.ends("first", "terminated")
        queue.round()
    assert queue.entry("first").state == "halted"
    assert len(queue.drivers.started) < 30


def test_a_job_whose_answer_was_lost_is_not_submitted_again(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    queue.drivers.plans = True
    queue.submit("first")
    with monkeypatch.context() as patch:
        KILLS["before its handle is noted"](queue, patch)
        queue.round()  # the handle is known before the start, so nothing has to be noted
    queue.begin()
    queue.round()
    assert (len(queue.drivers.started), queue.entry("first").state) == (1, "running")


@pytest.mark.parametrize("end", ["cancelled", "interrupted"])
def test_a_driver_that_a_person_ended_is_not_started_again(queue: Queue, end: End) -> None:
    queue.submit("first")
    queue.round()
    queue.drivers.ends("first", end)
    assert queue.round() == {"first": ("stopped", 0)}
    queue.database.put_back(1)
    assert queue.round() == {"first": ("running", 2)}
    assert queue.drivers.started[-1][:2] == ("resume", "first")


def test_the_state_of_an_earlier_driver_says_nothing_of_the_next(queue: Queue) -> None:
    queue.submit("first")
    queue.round()
    queue.drivers.ends("first", "cancelled")
    queue.round()
    queue.database.put_back(1)
    writes = queue.drivers.writes
    queue.drivers.writes = lambda *_, **__: None  # type: ignore[method-assign]
    queue.round()
    queue.drivers.writes = writes  # type: ignore[method-assign]
    queue.drivers.ends("first")
    assert queue.round() == {"first": ("running", 2)}, "it was killed, not cancelled again"


def test_a_removed_study_is_not_started_again(queue: Queue) -> None:
    queue.submit("first")
    queue.round()
    queue.drivers.ends("first")
    queue.begin(pace=1000.0)
    queue.round()
    queue.database.remove(1, "bo")
    queue.begin()
    assert queue.round() == {"first": ("removed", 0)}


def test_a_study_that_a_person_resumes_gets_no_orders_until_that_driver_ends(queue: Queue) -> None:
    for name in ("first", "second"):
        queue.submit(name)
    queue.round()
    queue.drivers.ends("first")
    with lock_of(queue.storage.study("first")):
        queue.drivers.writes("first", None)
        for _ in range(3):
            assert queue.round() == {"first": ("running", 0), "second": ("running", 2)}
        assert waiting_orders(queue.storage.study("first")) == []
        assert queue.entry("first").reason == dispatcher.BY_HAND
        queue.database.remove(1, "bo")
        queue.round()
        assert queue.drivers.obeys("first") == ["cancel"], "who removes a study ends whatever runs it"
        queue.drivers.writes("first", None, end="cancelled")
    assert queue.round()["first"] == ("removed", 0)


def holds_no_slots_while_a_person_runs_it(queue: Queue) -> None:
    with lock_of(queue.storage.study("first")):
        for _ in range(2):
            assert queue.round() == {"first": ("queued", 0), "second": ("running", 2)}
        assert queue.entry("first").reason == dispatcher.BY_HAND
    assert queue.round() == {"first": ("running", 1), "second": ("running", 1)}


def test_a_study_that_a_person_resumes_before_its_place_is_used_holds_no_slots(queue: Queue) -> None:
    queue.submit("first")
    queue.round()
    queue.drivers.ends("first", "cancelled")
    queue.round()
    queue.database.put_back(1)
    queue.submit("second")
    holds_no_slots_while_a_person_runs_it(queue)
    assert queue.entry("first").reason == ""


def test_a_training_of_a_study_that_a_person_runs_holds_no_slots(queue: Queue) -> None:
    begin_by_hand(queue)
    queue.database.add_training(submission("first"), "ann", ["--seeds", "1"])
    queue.submit("second")
    holds_no_slots_while_a_person_runs_it(queue)


def begin_by_hand(queue: Queue) -> None:
    """Begins the study first as a person does, with no place in the queue."""
    folder = queue.storage.study("first")
    folder.root.mkdir()
    folder.spec.write_text(submission("first").space, encoding="utf-8")


def test_a_training_has_not_ended_with_a_study_that_a_person_resumed_after_its_driver_died(queue: Queue) -> None:
    begin_by_hand(queue)
    queue.database.add_training(submission("first"), "ann", ["--seeds", "1"])
    assert queue.round() == {"first": ("running", 2)}
    queue.drivers.ends("first")
    queue.drivers.writes("first", None, end="finished")
    queue.round()
    assert queue.round() == {"first": ("running", 2)}
    assert [words[0] for words in queue.drivers.started] == ["train", "train"]
    queue.drivers.ends("first", "finished")
    assert queue.round() == {"first": ("finished", 0)}


def test_a_search_has_not_ended_with_a_training_that_a_person_ran_after_its_driver_died(queue: Queue) -> None:
    queue.submit("first")
    assert queue.round() == {"first": ("running", 2)}
    queue.drivers.ends("first")
    queue.drivers.writes("first", None, end="finished", training=True)
    queue.round()
    assert queue.round() == {"first": ("running", 2)}
    assert len(queue.drivers.started) == 2


class Killed(BaseException):
    """The service is killed."""


def _killed(*_: object, **__: object) -> None:
    raise Killed


KILLS: dict[str, Callable[[Queue, pytest.MonkeyPatch], None]] = {
    "before the process": lambda queue, patch: patch.setattr(queue.drivers, "start", _killed),
    "before its handle is noted": lambda queue, patch: patch.setattr(queue.database, "note_handle", _killed),
    "before its start is noted": lambda queue, patch: patch.setattr(queue.database, "begin_start", _killed),
    "before its slots are noted": lambda queue, patch: patch.setattr(queue.database, "give_slots", _killed),
}


@pytest.mark.parametrize("moment", KILLS)
def test_a_service_that_is_killed_starts_nothing_twice(
    queue: Queue, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    queue.submit("first")
    with monkeypatch.context() as patch:
        KILLS[moment](queue, patch)
        with pytest.raises(Killed):
            queue.round()
    running = dict(queue.drivers.running)
    monkeypatch.setattr(dispatcher, "is_running", lambda folder: folder.name in running.values())
    queue.begin()
    queue.round()
    assert list(queue.drivers.running.values()) == ["first"]
    assert len(queue.drivers.started) == 1
    assert queue.entry("first").state == "running"


def test_a_driver_that_outlived_the_service_is_found(queue: Queue) -> None:
    queue.submit("first")
    queue.round()
    queue.begin()
    queue.submit("second")
    assert queue.round() == {"first": ("running", 1), "second": ("running", 1)}
    assert queue.drivers.obeys("first") == ["share 1"]
    queue.drivers.ends("first", "finished")
    queue.begin()
    assert queue.round()["first"] == ("finished", 0)


def test_a_driver_that_nobody_noted_has_time_to_appear(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    queue.submit("first")
    with monkeypatch.context() as patch:
        KILLS["before its handle is noted"](queue, patch)
        with pytest.raises(Killed):
            queue.round()
    queue.begin(pace=1.0)
    queue.round()
    assert len(queue.drivers.started) == 1, "its process may still be importing"


def test_what_can_not_be_started_now_is_tried_again(queue: Queue) -> None:
    queue.submit("first")
    queue.drivers.fails = True
    assert queue.round() == {"first": ("queued", 2)}
    assert queue.entry("first").reason == "it could not be started yet: no memory"
    queue.drivers.fails = False
    assert queue.round() == {"first": ("running", 2)}
    assert (queue.entry("first").reason, queue.entry("first").restarts) == ("", 0)


def test_a_study_that_somebody_began_meanwhile_is_left_alone(queue: Queue) -> None:
    queue.submit("first")
    folder = queue.storage.study("first")
    folder.root.mkdir()
    folder.spec.write_text("theirs", encoding="utf-8")
    assert queue.round() == {"first": ("halted", 0)}
    assert (queue.drivers.started, folder.spec.read_text(encoding="utf-8")) == ([], "theirs")
