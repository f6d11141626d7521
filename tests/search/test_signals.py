"""Tests that a signal ends the start of a study once, and surely."""

import signal
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress

import pytest

from krona_tune.search import signals
from krona_tune.search.signals import ENDING, interrupted_by_signals, listen, listen_anew, listen_as_before
from tests.waiting import PATIENCE, until


class Freed:
    """Gets a signal while it is being freed."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGTERM)


class Held:
    """Can be looked at without being held."""


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "REPEATED_SECONDS", 0.02)
    monkeypatch.setattr(sys, "unraisablehook", lambda dropped: None)


class Pauses:
    """Takes the place of the pauses between two interrupts: each lasts until the test ends it."""

    def __init__(self) -> None:
        self.gate, self.begun = threading.Semaphore(0), 0

    def sleep(self, seconds: float) -> None:
        self.begun += 1
        self.gate.acquire()

    def end_one(self) -> None:
        """Ends a pause, and waits for the next one: between both, the signal was sent."""
        until(lambda: self.begun)
        begun = self.begun
        self.gate.release()
        until(lambda: self.begun > begun)

    @staticmethod
    def repeats() -> bool:
        return any(thread.name == "interrupt again" for thread in threading.enumerate())


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pauses]:
    found = Pauses()
    monkeypatch.setattr(signals, "time", found)
    yield found
    found.gate.release(9)  # of a thread that waits still


@pytest.fixture(autouse=True)
def means_what_it_did() -> Iterator[None]:
    """Lets each signal be heard, also where `nohup` started the tests, and each test leave what they mean."""
    outside = {number: signal.signal(number, signal.default_int_handler) for number in ENDING}
    yield
    assert all(signal.getsignal(number) == signal.default_int_handler for number in ENDING)
    assert not signals.LISTENING
    listen_as_before(outside)


def is_interrupted(start: Callable[[], object]) -> bool:
    """Returns whether a start was interrupted."""
    try:
        with interrupted_by_signals():
            start()
    except KeyboardInterrupt:
        return True
    return False


def wait() -> None:
    """Waits for what does not come, in one call that Python's other code does not interrupt."""
    Future[None]().result(PATIENCE)


@pytest.mark.parametrize("number", ENDING)
def test_each_signal_ends_a_start(number: int) -> None:
    assert is_interrupted(lambda: signal.raise_signal(number))
    assert not is_interrupted(lambda: None)


def test_one_that_comes_while_an_object_is_freed_ends_it_too() -> None:
    def start() -> None:
        Freed()
        wait()

    assert is_interrupted(start)


def test_so_does_one_that_python_drops() -> None:
    dropped = list[str]()

    def start() -> None:
        held = Held()
        watched = weakref.ref(held, lambda _: signal.raise_signal(signal.SIGINT))
        del held
        dropped.append(str(watched()))
        wait()

    assert is_interrupted(start)
    assert dropped == ["None"]


def test_what_cleans_up_is_not_interrupted_again_by_the_same_signal(pauses: Pauses) -> None:
    cleaned = list[str]()

    def start() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            for name in ("workers", "folder"):
                with suppress(OSError):
                    raise OSError
                pauses.end_one()
                cleaned.append(name)

    assert is_interrupted(start)
    assert cleaned == ["workers", "folder"]


@pytest.mark.parametrize("number", ENDING)
def test_whoever_listens_next_hears_a_dropped_one_once(number: int, pauses: Pauses) -> None:
    heard = list[int]()

    class Dropped:
        def __del__(self) -> None:
            signal.raise_signal(number)

    def start() -> None:
        Dropped()
        before = listen(lambda number, frame: heard.append(number))
        pauses.gate.release(9)  # it would come nine times
        until(lambda: heard and not pauses.repeats())
        listen_as_before(before)

    assert not is_interrupted(start)
    assert heard == [number]


def test_it_listens_anew_where_another_has_taken_a_signal() -> None:
    asked = threading.Event()

    def ask() -> None:
        listen_anew()
        asked.set()

    def start() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        threading.Thread(target=ask).start()
        assert asked.wait(PATIENCE)
        signal.raise_signal(signal.SIGTERM)

    assert is_interrupted(start)
    listen_anew()  # outside of a start it changes nothing


def test_it_takes_no_signal_back_from_whom_it_was_given_to() -> None:
    heard = list[int]()

    def start() -> None:
        before = listen(lambda number, frame: heard.append(number))
        listen_anew()
        signal.raise_signal(signal.SIGTERM)
        listen_as_before(before)

    assert not is_interrupted(start)
    assert heard == [signal.SIGTERM]
