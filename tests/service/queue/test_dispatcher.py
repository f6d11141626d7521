"""Tests that each study gets its slots, and that drivers are told."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from krona_tune.record.orders import remove_order, waiting_orders
from krona_tune.record.storage import Storage
from krona_tune.refusal import Refusal
from krona_tune.service.queue import dispatcher
from krona_tune.service.queue.entry import Submission
from tests.service.queue.fakes import Queue, submission
from tests.waiting import until


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
    queue.drivers.writes("first", 0, paused=True)
    queue.round()
    first = queue.entry("first")
    assert (first.text, "krona-tune order first continue" in first.reason) == ("waits", True), first
    queue.drivers.writes("first", 0, paused=False)
    assert queue.round() == {"first": ("running", 1), "second": ("running", 1)}
    queue.drivers.obeys("first")
    queue.round()
    assert queue.entry("first").reason == ""


def test_a_person_s_limit_holds(storage: Storage) -> None:
    queue = Queue(storage, cpus=8, limits={"ann": 2})
    queue.submit("first")
    queue.submit("second")
    queue.submit("third", person="bo")
    assert queue.round() == {"first": ("running", 1), "second": ("running", 1), "third": ("running", 6)}


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
    assert queue.round() == {"first": ("removed", 0)}
    assert (len(asked), queue.drivers.started) == (2, [])


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


def test_the_reason_of_a_study_that_fits_nowhere_stands_as_long_as_it_is_true(queue: Queue) -> None:
    queue.machine.cpus = 4
    queue.submit("runs", cpus_per_trial=3)
    assert queue.round() == {"runs": ("running", 1)}
    queue.submit("waits", cpus_per_trial=4)
    queue.round()
    assert queue.entry("waits").reason == ""
    queue.machine.cpus = 2
    for _ in range(3):
        queue.round()
        assert "3 asked, the largest node has 2" in queue.entry("runs").reason
        assert "4 asked, the largest node has 2" in queue.entry("waits").reason
    queue.machine.cpus = 4
    queue.round()
    queue.round()
    assert (queue.entry("runs").reason, queue.entry("waits").reason) == ("", "")


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


def test_a_driver_is_started_with_the_gpus_that_are_its_turn(queue: Queue) -> None:
    queue.machine.cpus, queue.machine.gpus = 8, 4
    for name in ("first", "second"):
        queue.submit(name)
    assert queue.round() == {"first": ("running", 2), "second": ("running", 2)}
    assert queue.drivers.turns == [(2, {}), (2, {"driver-0": 2})]
    assert [each["TURN"] for each in queue.drivers.environments] == ["0", "1"]
    queue.drivers.ends("first", "finished")
    queue.submit("third")
    queue.round()
    assert queue.drivers.turns[2:] == [(2, {"driver-1": 2})]
