"""Tests that a signal ends the start of a study once, and surely."""

import signal
import sys
import time
import weakref
from collections.abc import Callable
from contextlib import suppress

import pytest

from krona_tune.search import signals
from krona_tune.search.signals import ENDING, interrupted_by_signals, listen, listen_as_before
from tests.waiting import until

Listen = Callable[[], object]


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


def is_interrupted(start: Callable[[Listen], object]) -> bool:
    """Returns whether a start was interrupted; it is given what listens anew."""
    try:
        with interrupted_by_signals() as listen_anew:
            start(listen_anew)
    except KeyboardInterrupt:
        return True
    return False


@pytest.mark.parametrize("number", ENDING)
def test_each_signal_ends_a_start_and_means_afterwards_what_it_did(number: int) -> None:
    before = list(map(signal.getsignal, ENDING))
    assert is_interrupted(lambda _: signal.raise_signal(number))
    assert list(map(signal.getsignal, ENDING)) == before
    assert not is_interrupted(lambda _: None)


def test_one_that_comes_while_an_object_is_freed_ends_it_too() -> None:
    def start(_: Listen) -> None:
        Freed()
        until(lambda: False)

    assert is_interrupted(start)


def test_so_does_one_that_python_drops() -> None:
    dropped = list[str]()

    def start(_: Listen) -> None:
        held = Held()
        watched = weakref.ref(held, lambda _: signal.raise_signal(signal.SIGINT))
        del held
        dropped.append(str(watched()))
        until(lambda: False)

    assert is_interrupted(start)
    assert dropped == ["None"]


def test_what_cleans_up_is_not_interrupted_again_by_the_same_signal() -> None:
    cleaned = list[str]()

    def start(_: Listen) -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            for name in ("workers", "folder"):
                with suppress(OSError):
                    raise OSError
                time.sleep(0.1)  # sleep: five times as long as it takes to be raised again
                cleaned.append(name)

    assert is_interrupted(start)
    assert cleaned == ["workers", "folder"]


def test_whoever_listens_next_hears_a_dropped_one_once() -> None:
    heard = list[int]()

    def start(_: Listen) -> None:
        Freed()
        before = listen(lambda number, frame: heard.append(number))
        until(lambda: heard)
        time.sleep(0.1)  # sleep: it would come again in this time
        listen_as_before(before)

    assert not is_interrupted(start)
    assert heard == [signal.SIGINT]


def test_it_listens_anew_where_another_has_taken_a_signal() -> None:
    def start(listen_anew: Listen) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        listen_anew()
        signal.raise_signal(signal.SIGTERM)

    assert is_interrupted(start)
