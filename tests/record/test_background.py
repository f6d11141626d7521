"""Tests that the mirror's thread retries what fails and omits what is refused, and that nothing waits for it."""

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from krona_tune.record import background
from krona_tune.record.background import BackgroundSink, Event, NotAcceptedError, NotSentError, Worker
from krona_tune.record.records import Records
from krona_tune.study.result import Report, Status
from tests.record.events import ended, report, started
from tests.waiting import until


class Memory:
    """A store in memory that fails as a test tells it to."""

    def __init__(self) -> None:
        self.opened = self.closed = 0
        self.events: list[Event] = []
        self.earlier: list[list[Event]] = []
        self.artifacts: Sequence[Path] = ()
        self.before_open: Callable[[], None] = lambda: None
        self.before_send: Callable[[Sequence[Event]], None] = lambda events: None

    def open(self) -> None:
        self.before_open()
        self.opened += 1

    def behind(self, earlier: Records) -> list[list[Event]]:
        return self.earlier

    def send(self, events: Sequence[Event]) -> None:
        self.before_send(events)
        self.events.extend(events)

    def close(self, artifacts: Sequence[Path]) -> None:
        self.artifacts, self.closed = artifacts, self.closed + 1

    def scores(self) -> list[float]:
        return [event.what.score for event in self.events if isinstance(event.what, Report)]


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(background, "LONGEST_PAUSE_SECONDS", 0.05)


def times(count: int, error: Exception) -> Callable[..., None]:
    left = [error] * count

    def fail(*_: object) -> None:
        if left:
            raise left.pop()

    return fail


def test_events_arrive_in_their_order_and_the_end_is_told() -> None:
    store, trial = Memory(), started(0)
    sink = BackgroundSink(store, Records(), name="memory")
    sink.trial_started(trial)
    for rung, score in enumerate((0.25, 0.5, 0.75)):
        sink.reported(report(trial, rung, score))
    sink.trial_ended(ended(trial, Status.COMPLETED, []))
    sink.study_ended([Path("page")])
    assert [event.ended for event in store.events] == [False, False, False, False, True]
    assert store.scores() == [0.25, 0.5, 0.75]
    assert (store.opened, store.closed, store.artifacts) == (1, 1, (Path("page"),))
    assert sink.unsent == 0


def test_a_store_that_comes_back_gets_everything(caplog: pytest.LogCaptureFixture) -> None:
    store = Memory()
    store.before_open = times(2, ConnectionError("no route"))
    store.before_send = times(2, ConnectionError("gone"))
    with caplog.at_level(logging.WARNING):
        sink = BackgroundSink(store, Records(), name="memory")
        sink.reported(report(started(0), 0, 0.25))
        sink.reported(report(started(1), 0, 0.5))
        sink.study_ended([])
    assert sorted(store.scores()) == [0.25, 0.5]
    assert sink.unsent == 0
    assert "memory: ConnectionError: no route; the study continues" in caplog.text


def test_trouble_is_told_once_and_its_end_too(caplog: pytest.LogCaptureFixture) -> None:
    store = Memory()
    store.before_open = times(4, ConnectionError("no route"))
    with caplog.at_level(logging.WARNING):
        sink = BackgroundSink(store, Records(), name="memory")
        sink.reported(report(started(0), 0, 0.5))
        until(lambda: not sink.unsent)
        sink.study_ended([])
    assert [record.getMessage() for record in caplog.records] == [
        "memory: ConnectionError: no route; the study continues",
        "memory: works again",
    ]


def test_a_refused_trial_is_counted_and_the_others_are_sent(caplog: pytest.LogCaptureFixture) -> None:
    store = Memory()

    def refuse(events: Sequence[Event]) -> None:
        if events[0].what.trial_id == "cola-0000":
            raise NotAcceptedError("a parameter changed\nand more")

    store.before_send = refuse
    with caplog.at_level(logging.WARNING):
        sink = BackgroundSink(store, Records(), name="memory")
        sink.reported(report(started(0), 0, 0.25))
        sink.reported(report(started(1), 0, 0.5))
        with pytest.raises(NotSentError, match=r"lacks 1 of 2 events \(trial cola-0000 was refused: a parameter"):
            sink.study_ended([])
    assert (store.scores(), sink.unsent, store.closed) == ([0.5], 1, 1)
    assert "trial cola-0000 was refused: a parameter changed" in caplog.text
    assert "and more" not in caplog.text


@pytest.mark.slow
def test_a_trial_that_always_fails_does_not_hold_up_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Memory()

    def fail(events: Sequence[Event]) -> None:
        if events[0].what.trial_id == "cola-0000":
            raise RuntimeError("always")

    store.before_send = fail
    monkeypatch.setattr(background, "FIRST_PAUSE_SECONDS", 0.1)
    monkeypatch.setattr(background, "LONGEST_PAUSE_SECONDS", 60)
    monkeypatch.setattr(background, "DRAIN_SECONDS", 6)  # the last try comes after 3.1 s, a further one after 6.3 s
    sink = BackgroundSink(store, Records(), name="memory")
    for number in range(3):
        sink.reported(report(started(number), 0, number / 4))
    with pytest.raises(NotSentError, match=r"lacks 1 of 3 events \(RuntimeError: always\)"):
        sink.study_ended([])
    assert store.scores() == [0.25, 0.5]
    assert sink.unsent == 1
    assert store.closed


def test_the_end_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store is busy until the end has returned."""
    store, release = Memory(), threading.Event()
    store.before_send = lambda events: (release.wait(), None)[1]
    monkeypatch.setattr(background, "DRAIN_SECONDS", 0.1)
    sink = BackgroundSink(store, Records(), name="memory")
    sink.reported(report(started(0), 0, 0.5))
    with pytest.raises(NotSentError, match=r"memory lacks 1 of 1 events \(still busy after 0.1 s\)"):
        sink.study_ended([])
    release.set()


def once(monkeypatch: pytest.MonkeyPatch, **seconds: float) -> None:
    """Makes the next try come later than the end waits for, so that the last one is not repeated."""
    for name, value in {"FIRST_PAUSE_SECONDS": 60.0, "LONGEST_PAUSE_SECONDS": 60.0, **seconds}.items():
        monkeypatch.setattr(background, name, value)


def test_the_end_hardly_waits_for_a_store_that_never_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the patience for a store that was opened, the end would wait for years."""
    once(monkeypatch, UNOPENED_SECONDS=50, DRAIN_SECONDS=1e9)
    store = Memory()
    tried: list[None] = []

    def fail() -> None:
        tried.append(None)
        raise ConnectionError("http://me:hunter2@host does not answer")

    store.before_open = fail
    sink = BackgroundSink(store, Records(), name="memory")
    sink.reported(report(started(0), 0, 0.5))
    until(lambda: tried)
    with pytest.raises(NotSentError) as lacking:
        sink.study_ended([])
    why = "ConnectionError: http://me:***@host does not answer"
    fix = "the Parquet records have them, and krona-tune sync sends them"
    assert str(lacking.value) == f"memory lacks 1 of 1 events ({why}); {fix}"


def test_a_store_that_takes_everything_but_its_end_lacks_that(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Memory()
    monkeypatch.setattr(store, "close", times(1_000_000, OSError("no space left")))
    once(monkeypatch, DRAIN_SECONDS=50)
    sink = BackgroundSink(store, Records(), name="memory")
    sink.reported(report(started(0), 0, 0.5))
    with pytest.raises(NotSentError, match=r"memory lacks tables and artifacts \(OSError: no space left\)"):
        sink.study_ended([])
    assert store.scores() == [0.5]


def test_nobody_waits_for_a_slow_store() -> None:
    """The store does not open before all calls have returned."""
    store, release = Memory(), threading.Event()
    store.before_open = lambda: (release.wait(), None)[1]
    sink = BackgroundSink(store, Records(), name="memory")
    sink.trial_started(started(0))
    for _ in range(100):
        sink.reported(report(started(0), 0, 0.5))
    assert sink.unsent == 101
    release.set()
    sink.study_ended([])
    assert sink.unsent == 0


def test_what_waits_is_limited_and_the_rest_is_left_to_a_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "CAPACITY", 3)
    store, release = Memory(), threading.Event()
    store.before_open = lambda: (release.wait(10), None)[1]
    sink = BackgroundSink(store, Records(), name="memory")
    for number in range(5):
        sink.reported(report(started(number), 0, number / 4))
    release.set()
    with pytest.raises(NotSentError, match="lacks 2 of 5 events; the Parquet records have them, and krona-tune sync"):
        sink.study_ended([])
    assert store.scores() == [0.0, 0.25, 0.5]
    assert sink.unsent == 2


def test_an_event_carries_the_time_at_which_it_happened() -> None:
    store, trial = Memory(), started(3)
    sink = BackgroundSink(store, Records(), name="memory")
    sink.trial_started(trial)
    sink.trial_ended(ended(trial, Status.COMPLETED, []))
    sink.study_ended([])
    assert [event.at_ms for event in store.events] == [1_700_000_030_000, 1_700_000_039_000]


def test_what_the_store_lacks_of_earlier_sessions_comes_first_and_a_refused_trial_stops_no_other() -> None:
    """Trial 0 is refused, trial 1 continues."""
    store, refused, trial = Memory(), started(0), started(1)
    store.earlier = [
        [Event(what=report(refused, 0, 0.125), at_ms=1)],
        [Event(what=report(trial, 0, 0.25), at_ms=2)],
    ]

    def refuse(events: Sequence[Event]) -> None:
        if events[0].what.trial_id == refused.trial_id:
            raise NotAcceptedError("not this one")

    store.before_send = refuse
    sink = BackgroundSink(store, Records(), name="memory")
    sink.reported(report(trial, 1, 0.5))
    with pytest.raises(NotSentError, match="lacks 1 of 3 events"):
        sink.study_ended([])
    assert store.scores() == [0.25, 0.5]
    assert (store.closed, sink.unsent) == (1, 1)


def test_a_worker_repeats_what_failed_though_nothing_new_comes_and_ends_with_what_is_left() -> None:
    begun, release = threading.Event(), threading.Event()
    calls: list[tuple[list[int], bool]] = []
    failures = [OSError("second"), OSError("first")]

    def work(items: Sequence[int], last: bool) -> None:
        calls.append((list(items), last))
        begun.set()
        if failures:
            raise failures.pop()
        if not last:
            release.wait(10)

    worker = Worker(work, name="work")
    worker.put(3)
    assert begun.wait(10)
    until(lambda: not failures)
    worker.put(5)
    worker.put(7)
    release.set()
    assert worker.drain() == ""
    assert calls[0] == ([3], False)
    assert [item for items, _ in calls for item in items] == [3, 5, 7]
    assert [last for _, last in calls].count(True) == 1
    assert len(calls) >= 3


def test_a_worker_that_is_busy_says_so_with_its_last_failure() -> None:
    release = threading.Event()
    failures = [OSError("http://me:hunter2@host is away")]

    def work(items: Sequence[int], last: bool) -> None:
        if failures:
            raise failures.pop()
        release.wait(10)

    worker = Worker(work, name="work", patience=lambda: 0.2)
    worker.put(3)
    until(lambda: not failures)
    assert worker.drain() == "still busy after 0.2 s, OSError: http://me:***@host is away"
    release.set()
    assert worker.wait(10) == ""


def test_a_worker_is_waited_for_as_long_as_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr(background.logger, "info", lambda *_: release.set())  # its patience is over, and it works

    def work(items: Sequence[int], last: bool) -> None:
        release.wait()

    assert Worker(work, name="work", patience=lambda: 0.05).drain(while_it_works=True) == ""
    assert release.is_set()
