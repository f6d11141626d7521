"""Tests that each study gets its slots and exactly one driver, whatever dies and whenever the service is killed."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from krona_tune.record.orders import remove_order, waiting_orders
from krona_tune.record.ownership import lock_of
from krona_tune.record.storage import Storage
from krona_tune.refusal import Refusal
from krona_tune.service.queue import dispatcher
from krona_tune.service.queue.database import Database
from krona_tune.service.queue.dispatcher import MOST_RESTARTS, Dispatcher
from krona_tune.service.queue.entry import Entry, Submission
from krona_tune.study.request.loader import build_spec, dump_spec
from krona_tune.study.study_state import End
from tests.service.queue.fakes import FakeDrivers, Machine
from tests.waiting import until


class Queue:
    """A queue whose rounds a test runs."""

    def __init__(self, storage: Storage, cpus: float = 2, limits: Mapping[str, int] | None = None) -> None:
        self.storage, self.machine, self.drivers = storage, Machine(cpus), FakeDrivers(storage)
        self.limits = limits
        self.begin()

    def begin(self, pace: float = 0) -> None:
        """Begins anew, as a service that was killed."""
        self.database = Database(self.storage.folder / "queue.db")
        self.dispatcher = Dispatcher(self.database, self.storage, self.drivers, self.machine, self.limits, pace=pace)

    def submit(self, name: str, priority: int = 1, person: str = "ann", **resources: float) -> int:
        return self.database.add(submission(name, priority, **resources), person).id

    def round(self) -> dict[str, tuple[str, int]]:
        """Runs a round and returns each study's state and slots."""
        self.dispatcher.round()
        return {entry.name: (entry.state, entry.slots) for entry in self.entries()}

    def entries(self) -> list[Entry]:
        return [*self.database.live(), *self.database.ended()]

    def entry(self, name: str) -> Entry:
        return next(entry for entry in self.entries() if entry.name == name)


def submission(name: str, priority: int = 1, **resources: float) -> Submission:
    spec = build_spec({"model": "m", "name": name, "tasks": ["cola"], "resources": resources}, "x.yaml")
    notify = ("json://a", "json://b/?c=d e")
    return Submission(name=name, space=dump_spec(spec), priority=priority, notify=notify, tracking_uri="http://m")


@pytest.fixture
def queue(storage: Storage) -> Queue:
    return Queue(storage)


def test_a_study_is_started_with_its_share(queue: Queue) -> None:
    queue.submit("first", person="bo")
    assert queue.round() == {"first": ("running", 2)}
    [words] = queue.drivers.started
    assert words[:5] == ("run", "--space", "space.yaml", "--name", "first")
    assert words[5:] == ("--address", "auto", "--share", "2", "--quiet", "--storage", str(queue.storage.folder))
    assert queue.drivers.environments == [
        {
            "KRONA_TUNE_PERSON": "bo",
            "KRONA_TUNE_NOTIFY": "json://a json://b/?c=d%20e",
            "KRONA_TUNE_TRACKING_URI": "http://m",
        }
    ]
    assert queue.round() == {"first": ("running", 2)}
    assert (len(queue.drivers.started), waiting_orders(queue.storage.study("first"))) == (1, [])


def test_a_second_study_gets_half_and_gives_it_back_at_its_end(queue: Queue) -> None:
    queue.submit("first")
    queue.round()
    queue.submit("second")
    assert queue.round() == {"first": ("running", 1), "second": ("running", 1)}
    assert queue.drivers.obeys("first") == ["share 1"]
    queue.round()
    assert queue.drivers.obeys("first") == [], "an order that was obeyed was given again"
    queue.drivers.ends("second", "finished")
    assert queue.round() == {"first": ("running", 2), "second": ("finished", 0)}
    assert queue.drivers.obeys("first") == ["share 2"]


def test_an_urgent_study_takes_the_last_slot_of_another_which_keeps_its_place(queue: Queue) -> None:
    for name in ("first", "second"):
        queue.submit(name)
    queue.round()
    queue.submit("urgent", priority=5)
    assert queue.round() == {"first": ("running", 0), "second": ("running", 0), "urgent": ("running", 2)}
    assert (queue.drivers.obeys("first"), queue.drivers.obeys("second")) == (["share 0"], ["share 0"])
    queue.database.move(3, 1)
    assert queue.round() == {"first": ("running", 1), "second": ("running", 1), "urgent": ("running", 0)}
    assert len(queue.drivers.started) == 3, "a study that waited was started again"


def test_twenty_studies_run_in_the_order_in_which_they_came(queue: Queue) -> None:
    names = [f"study-{number:02d}" for number in range(20)]
    for name in names:
        queue.submit(name)
    ended = []
    for _ in names:
        queue.round()
        assert len(queue.drivers.running) <= 2
        ended.append(next(iter(queue.drivers.running.values())))
        queue.drivers.ends(ended[-1], "finished")
    queue.round()
    assert ended == names
    assert [words[words.index("--name") + 1] for words in queue.drivers.started] == names
    assert {entry.state for entry in queue.entries()} == {"finished"}


def test_a_study_takes_no_more_than_it_can_use(queue: Queue) -> None:
    queue.submit("first")
    queue.submit("capped", priority=9, max_concurrent=1)
    assert queue.round() == {"first": ("running", 1), "capped": ("running", 1)}
    queue.drivers.writes("first", 1, ended=9)
    queue.drivers.ends("capped", "finished")
    assert queue.round()["first"] == ("running", 1), "one trial is left, so one slot is enough"


def test_a_study_whose_limit_was_raised_gets_what_is_free(queue: Queue) -> None:
    queue.machine.cpus = 8
    queue.submit("first", max_concurrent=2)
    assert queue.round() == {"first": ("running", 2)}
    queue.drivers.most = 5
    queue.drivers.writes("first", 2)
    assert queue.round() == {"first": ("running", 5)}
    assert queue.drivers.obeys("first") == ["share 5"]


def test_a_study_that_is_started_again_gets_what_its_own_request_says_by_now(queue: Queue) -> None:
    queue.machine.cpus = 8
    queue.submit("first", max_concurrent=2)
    queue.round()
    spec = queue.storage.study("first").spec
    spec.write_text(
        spec.read_text(encoding="utf-8").replace("max_concurrent: 2", "max_concurrent: 6"), encoding="utf-8"
    )
    queue.drivers.ends("first")
    queue.round()
    assert [words[words.index("--share") + 1] for words in queue.drivers.started] == ["2", "6"]


def test_a_person_pauses_a_study_and_its_slots_serve_others(queue: Queue) -> None:
    for name in ("first", "second"):
        queue.submit(name)
    queue.round()
    queue.drivers.writes("first", 1, paused=True)
    assert queue.round() == {"first": ("running", 0), "second": ("running", 2)}
    queue.drivers.writes("first", 0, paused=False)
    assert queue.round() == {"first": ("running", 1), "second": ("running", 1)}


def test_a_person_s_limit_holds(storage: Storage) -> None:
    queue = Queue(storage, cpus=8, limits={"ann": 2})
    queue.submit("first")
    queue.submit("second")
    queue.submit("third", person="bo")
    assert queue.round() == {"first": ("running", 1), "second": ("running", 1), "third": ("running", 6)}


@pytest.mark.parametrize("end", ["", "halted", "lost"])
def test_a_dead_driver_is_started_again_three_times_within_an_hour(queue: Queue, end: End) -> None:
    queue.submit("first")
    queue.round()
    for restarts in range(1, MOST_RESTARTS + 1):
        queue.drivers.ends("first", end)
        assert queue.round() == {"first": ("running", 2)}
        assert (queue.entry("first").restarts, queue.drivers.started[-1][:2]) == (restarts, ("resume", "first"))
    queue.drivers.ends("first", end)
    assert queue.round() == {"first": ("halted", 0)}
    reason = queue.entry("first").reason
    assert "started again 3 times within an hour and ended again" in reason
    assert ("the disk is full" if end == "halted" else "the last line" if not end else "lost") in reason
    assert "hunter2" not in reason
    queue.database.put_back(1)
    assert queue.round() == {"first": ("running", 2)}


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


def test_a_person_s_own_limit_leaves_slots_to_others(queue: Queue) -> None:
    for name in ("first", "second"):
        queue.submit(name, priority=5 if name == "first" else 1)
    queue.machine.cpus = 8
    queue.round()
    queue.drivers.most = 1
    queue.drivers.writes("first", 6)
    assert queue.round() == {"first": ("running", 1), "second": ("running", 7)}


def test_a_clock_that_is_set_back_holds_up_nothing(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    queue.submit("first")
    queue.round()
    queue.drivers.ends("first")
    queue.begin(pace=1000.0)
    queue.round()
    assert queue.drivers.running == {}
    now = time.time()
    monkeypatch.setattr(dispatcher.time, "time", lambda: now - 86_400)
    assert queue.round() == {"first": ("running", 2)}


def test_what_is_removed_during_a_round_is_not_started(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    queue.submit("first")
    """Its request is read for its resources, and then for its start."""
    real, asked = queue.database.submission, list[int]()

    def removed(entry: int) -> Submission:
        asked.append(entry)
        if len(asked) == 2:
            queue.database.remove(entry, "ann")
        return real(entry)

    monkeypatch.setattr(queue.database, "submission", removed)
    assert queue.round() == {"first": ("removed", 2)} or queue.entry("first").state == "removed"
    assert (len(asked), queue.drivers.started) == (2, [])


def test_a_job_whose_answer_was_lost_is_not_submitted_again(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    queue.drivers.plans = True
    queue.submit("first")
    with monkeypatch.context() as patch:
        KILLS["before its handle is noted"](queue, patch)
        queue.round()  # the handle is known before the start, so nothing has to be noted
    queue.begin()
    queue.round()
    assert (len(queue.drivers.started), queue.entry("first").state) == (1, "running")


def test_one_entry_that_can_not_be_read_holds_up_no_other(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = queue.submit("broken")
    queue.submit("sound")
    real = queue.database.submission

    def read(entry: int) -> Submission:
        found = real(entry)
        return found.model_copy(update={"space": "modle: m"}) if entry == broken else found

    monkeypatch.setattr(queue.database, "submission", read)
    assert queue.round() == {"broken": ("queued", 0), "sound": ("running", 2)}
    assert "modle" in queue.entry("broken").reason


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


def test_a_removed_study_s_driver_is_asked_to_end(queue: Queue) -> None:
    queue.submit("first")
    queue.submit("waiting", cpus_per_trial=2)
    queue.round()
    assert queue.database.remove(2, "ann").state == "removed"
    queue.database.remove(1, "bo")
    queue.round()
    assert queue.drivers.obeys("first") == ["cancel"]
    queue.drivers.ends("first", "cancelled")
    assert queue.round()["first"] == ("removed", 0)
    assert queue.entry("first").reason == "bo removed it"


def test_a_removed_study_is_not_started_again(queue: Queue) -> None:
    queue.submit("first")
    queue.round()
    queue.drivers.ends("first")
    queue.begin(pace=1000.0)
    queue.round()
    queue.database.remove(1, "bo")
    queue.begin()
    assert queue.round() == {"first": ("removed", 0)}


def test_an_order_that_is_not_obeyed_is_given_again(queue: Queue) -> None:
    queue.submit("first")
    queue.round()
    queue.submit("second")
    queue.round()
    folder = queue.storage.study("first")
    [lost] = waiting_orders(folder)
    remove_order(folder, lost)
    queue.round()
    assert [order.text for order in waiting_orders(folder)] == ["share 1"]
    queue.round()
    assert len(waiting_orders(folder)) == 1, "one that waits was given again"


def test_a_driver_that_has_come_to_its_end_gets_no_orders(queue: Queue) -> None:
    queue.submit("first")
    queue.round()
    queue.drivers.writes("first", 2, ended=10, end="finished")
    queue.round()
    queue.database.remove(1, "bo")
    queue.round()
    assert queue.drivers.obeys("first") == [], "it still writes what the study leaves"


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


def test_a_study_that_a_person_resumes_before_its_place_is_used_holds_no_slots(queue: Queue) -> None:
    queue.submit("first")
    queue.round()
    queue.drivers.ends("first", "cancelled")
    queue.round()
    queue.database.put_back(1)
    queue.submit("second")
    with lock_of(queue.storage.study("first")):
        for _ in range(2):
            assert queue.round() == {"first": ("queued", 0), "second": ("running", 2)}
        assert queue.entry("first").reason == dispatcher.BY_HAND
    assert queue.round() == {"first": ("running", 1), "second": ("running", 1)}
    assert queue.entry("first").reason == ""


KILLS: dict[str, Callable[[Queue, pytest.MonkeyPatch], None]] = {
    "before the process": lambda queue, patch: patch.setattr(queue.drivers, "start", _killed),
    "before its handle is noted": lambda queue, patch: patch.setattr(queue.database, "note_handle", _killed),
    "before its start is noted": lambda queue, patch: patch.setattr(queue.database, "begin_start", _killed),
    "before its slots are noted": lambda queue, patch: patch.setattr(queue.database, "give_slots", _killed),
}


class Killed(BaseException):
    """The service is killed."""


def _killed(*_: object, **__: object) -> None:
    raise Killed


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


def test_nothing_is_changed_while_the_cluster_gives_no_answer(queue: Queue) -> None:
    queue.submit("first")
    queue.round()
    queue.machine.answers = False
    with pytest.raises(Refusal, match="no answer"):
        queue.round()
    assert queue.entry("first").slots == 2
    assert waiting_orders(queue.storage.study("first")) == []
    queue.machine.answers = True
    assert queue.round() == {"first": ("running", 2)}


def test_a_study_that_fits_nowhere_now_waits_and_says_why(queue: Queue) -> None:
    queue.submit("large", cpus_per_trial=4)
    queue.submit("small")
    assert queue.round() == {"large": ("queued", 0), "small": ("running", 2)}
    assert "4 asked, the largest node has 2" in queue.entry("large").reason
    queue.machine.cpus = 8
    assert queue.round()["large"][0] == "running"


def test_one_study_s_fault_holds_up_no_other(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    queue.submit("first")
    queue.round()
    queue.submit("second")
    real = dispatcher.give_order

    def fails(folder: object, *rest: object) -> object:
        raise Refusal("orders", "no order can be left there", "make it writable")

    monkeypatch.setattr(dispatcher, "give_order", fails)
    assert queue.round() == {"first": ("running", 1), "second": ("running", 1)}
    assert "no order can be left there" in queue.entry("first").reason
    monkeypatch.setattr(dispatcher, "give_order", real)
    queue.round()
    queue.drivers.obeys("first")
    queue.round()
    assert queue.entry("first").reason == ""


def test_each_request_is_read_once(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    real = queue.database.submission
    monkeypatch.setattr(queue.database, "submission", lambda key: asked.append(key) or real(key))
    for number in range(20):
        queue.submit(f"study-{number}")
    queue.round()
    seen = len(asked)
    for _ in range(3):
        queue.round()
    assert len(asked) == seen, "a request was read again"


def test_the_rounds_run_until_the_service_ends(queue: Queue, storage: Storage) -> None:
    queue.submit("first")
    queue.dispatcher.begin()
    until(lambda: queue.drivers.started)
    queue.dispatcher.end()
    assert [words[0] for words in queue.drivers.started] == ["run"]


def test_paths_are_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "studies").mkdir()
    monkeypatch.chdir(tmp_path)
    queue = Queue(Storage(folder=Path("studies")))
    queue.submit("first")
    queue.round()
    [words] = queue.drivers.started
    assert words[words.index("--storage") + 1] == str(tmp_path / "studies"), "a driver starts in another folder"


@pytest.mark.parametrize("reads", [1, 2, 3, 4])
def test_a_study_that_is_adopted_during_a_round_is_resumed(
    queue: Queue, monkeypatch: pytest.MonkeyPatch, reads: int
) -> None:
    """Between whichever two reads that is, nobody began it meanwhile."""
    asked, folder, seen = submission("first"), queue.storage.study("first"), list[str]()
    folder.root.mkdir(parents=True)
    folder.spec.write_text(asked.space, encoding="utf-8")

    def then_adopts(name: str, read: Callable[[], Any]) -> Callable[[], Any]:
        def reading() -> Any:
            found = read()
            seen.append(name)
            if len(seen) == reads:
                queue.database.adopt(asked, "ann", None)
            return found

        return reading

    with monkeypatch.context() as patch:
        for name in ("live", "last_starts"):
            patch.setattr(queue.database, name, then_adopts(name, getattr(queue.database, name)))
        queue.dispatcher.round()
    assert len(seen) == 4
    assert queue.round() == {"first": ("running", 2)}
