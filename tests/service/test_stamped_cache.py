"""Tests that a value is computed once as long as what it comes from is the same, and not too often."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from threading import Event

import pytest

from krona_tune.service import stamped_cache
from krona_tune.service.stamped_cache import SlowError, StampedCache
from tests.waiting import until


def test_a_value_is_computed_again_only_for_another_stamp() -> None:
    kept: StampedCache[int] = StampedCache(2)
    made = iter(range(10))
    found = [kept.get("a", stamp, lambda: next(made)) for stamp in ("x", "x", "y", "y")]
    assert found == [("x", 0), ("x", 0), ("y", 1), ("y", 1)]


def test_the_least_asked_is_dropped() -> None:
    kept: StampedCache[str] = StampedCache(2)
    for key in ("a", "b", "a", "c", "a", "b"):
        kept.get(key, "", lambda key=key: key)  # type: ignore[misc]
    assert kept.get("a", "", lambda: "new") == ("", "a")
    assert kept.get("c", "", lambda: "new") == ("", "new")


def test_whether_a_value_is_due_can_be_asked_without_dropping_another() -> None:
    kept: StampedCache[str] = StampedCache(1)
    kept.get("a", "", lambda: "a")
    assert kept.is_due("b")
    assert kept.get("a", "", lambda: "new") == ("", "a")


def test_a_young_value_is_returned_although_it_is_old_news(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(stamped_cache.time, "monotonic", lambda: now[0])
    kept: StampedCache[str] = StampedCache(2, seconds=3.0)

    def slow() -> str:
        now[0] += 2.0
        return "slow"

    assert kept.get("a", "x", slow) == ("x", "slow")
    now[0] += 5.9
    assert not kept.is_due("a")
    assert kept.get("a", "y", lambda: "new") == ("x", "slow")
    now[0] += 0.2
    assert kept.is_due("a")
    assert kept.get("a", "y", lambda: "new") == ("y", "new")


def test_a_failure_is_not_kept() -> None:
    kept: StampedCache[float] = StampedCache(2)
    with pytest.raises(ZeroDivisionError):
        kept.get("a", "x", lambda: 1 / 0)
    assert kept.get("a", "x", lambda: 2.0) == ("x", 2.0)


def once_there(kept: StampedCache[str], key: str, stamp: str, make: Callable[[], str]) -> tuple[str, str]:
    """Returns a value as soon as it is there, however long a busy machine takes."""
    while True:
        with suppress(SlowError):
            return kept.get(key, stamp, make)


@pytest.fixture
def held_up(monkeypatch: pytest.MonkeyPatch) -> Iterator[Event]:
    """Makes whoever waits for a slow value wait briefly; slow values come when the event is set."""
    monkeypatch.setattr(stamped_cache, "PATIENCE", 0.05)
    event = Event()
    yield event
    event.set()


def test_a_slow_value_is_waited_for_briefly_and_the_one_before_is_returned(held_up: Event) -> None:
    kept: StampedCache[str] = StampedCache(2)
    made: list[str] = []

    def slow() -> str:
        made.append("slow")
        held_up.wait()
        return "new"

    with pytest.raises(SlowError, match=r"has not answered within 0.05 s; ask again soon"):
        kept.get("a", "x", slow)
    once_there(kept, "b", "x", lambda: "old")
    assert [kept.get("b", stamp, slow) for stamp in ("y", "z")] == [("x", "old")] * 2
    until(lambda: len(made) == 2)
    held_up.set()
    until(lambda: kept.get("b", "y", slow) == ("y", "new"))
    assert once_there(kept, "a", "x", slow) == ("x", "new")
    assert made == ["slow"] * 2, "each is computed once"


def test_a_value_that_is_being_computed_is_not_dropped(held_up: Event) -> None:
    kept: StampedCache[str] = StampedCache(1)
    made: list[str] = []

    def slow() -> str:
        made.append("slow")
        held_up.wait()
        return "new"

    with pytest.raises(SlowError):
        kept.get("a", "x", slow)
    assert once_there(kept, "b", "x", lambda: "b") == ("x", "b")
    with pytest.raises(SlowError):
        kept.get("a", "x", slow)
    held_up.set()
    assert once_there(kept, "a", "x", slow) == ("x", "new")
    assert made == ["slow"], "it was begun again"


def test_few_slow_values_are_computed_at_once(held_up: Event, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stamped_cache, "SHORT_PATIENCE", 0.01)
    kept: StampedCache[str] = StampedCache(100)
    once_there(kept, "old", "x", lambda: "old")
    begun: list[int] = []

    def slow() -> str:
        begun.append(1)
        held_up.wait()
        return "new"

    for number in range(stamped_cache.MOST_AT_ONCE + 3):
        with pytest.raises(SlowError):
            kept.get(str(number), "x", slow)
    until(lambda: len(begun) == stamped_cache.MOST_AT_ONCE)
    assert kept.get("old", "y", slow) == ("x", "old")
    assert len(begun) == stamped_cache.MOST_AT_ONCE
    held_up.set()
    until(lambda: kept.get("old", "y", slow) == ("y", "new"))
