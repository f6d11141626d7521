"""Keeps computed values while what they were computed from is the same, and lets nobody wait long for a new one."""

import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from threading import Condition, Thread
from typing import Generic, TypeVar

from krona_tune.record.remote_files import UnreachableStore
from krona_tune.refusal import Refusal

Value = TypeVar("Value")
Stamped = tuple[str, Value]
"""A value behind the stamp of what it was computed from."""
REST = 3.0
"""A value that took long is computed again after this many times as long, at the earliest."""
PATIENCE = 10.0
"""The seconds after its beginning for which a computation is waited for; then the value before it is returned."""
MOST_AT_ONCE, SHORT_PATIENCE = 8, 0.5
"""The most keys whose values are computed at once, and how long a key that has a value waits for others, in seconds."""


class SlowError(Refusal):
    """Refuses a request because what it needs is not there yet."""


@dataclass
class _CacheEntry(Generic[Value]):
    held: Stamped[Value] | None = None
    made: float = 0.0
    took: float = 0.0
    began: float = 0.0
    coming: "Future[Stamped[Value]] | None" = None


class StampedCache(Generic[Value]):
    """The newest values of at most `most` keys, each with the stamp of what it was computed from.

    Each value is computed by a thread of its own, and once for all who ask meanwhile. A value younger than `seconds` is
    returned although its stamp has changed since.
    """

    def __init__(self, most: int, seconds: float = 0.0) -> None:
        self._most, self._seconds = most, seconds
        self._changed = Condition()
        self._computing = 0
        self._entries: OrderedDict[str, _CacheEntry[Value]] = OrderedDict()

    def get(self, key: str, stamp: str, make: Callable[[], Value]) -> Stamped[Value]:
        """Returns a value and the stamp that it was computed for; the one before, if the storage is not reached.

        Raises:
            SlowError: there is none yet, and it takes long.
            Exception: what `make` raises.
        """
        with self._changed:
            entry = self._entry(key)
            held = entry.held
            if held and (held[0] == stamp or not self._is_old(entry)):
                return held
            coming = entry.coming or self._begun(entry, stamp, make)
            patience = entry.began + PATIENCE - time.monotonic()
        if coming and wait([coming], max(0.0, patience)).done:
            return held if held and isinstance(coming.exception(), UnreachableStore) else coming.result()
        if held is None:
            raise SlowError("the storage", f"has not answered within {PATIENCE:g} s", "ask again soon")
        return held

    def is_due(self, key: str) -> bool:
        """Returns whether the key's value would be computed again if its stamp had changed."""
        with self._changed:
            entry = self._entries.get(key)
            return entry is None or entry.held is None or self._is_old(entry)

    def _begun(
        self, entry: _CacheEntry[Value], stamp: str, make: Callable[[], Value]
    ) -> "Future[Stamped[Value]] | None":
        """Begins to compute a value, or returns None if too many are computed for long."""
        patience = SHORT_PATIENCE if entry.held else PATIENCE
        if not self._changed.wait_for(lambda: entry.coming or self._computing < MOST_AT_ONCE, patience):
            return None
        if entry.coming is None:
            entry.coming, entry.began = Future(), time.monotonic()
            self._computing += 1
            Thread(target=self._compute, args=(entry, entry.coming, stamp, make), name="compute", daemon=True).start()
        return entry.coming

    def _compute(
        self, entry: _CacheEntry[Value], coming: "Future[Stamped[Value]]", stamp: str, make: Callable[[], Value]
    ) -> None:
        try:
            found = stamp, make()
        except BaseException as error:
            self._end(entry, None)
            coming.set_exception(error)
        else:
            self._end(entry, found)
            coming.set_result(found)

    def _end(self, entry: _CacheEntry[Value], found: Stamped[Value] | None) -> None:
        """Notes what came of a computation, and lets the next one begin."""
        with self._changed:
            if found:
                entry.held, entry.made = found, time.monotonic()
                entry.took = entry.made - entry.began
            entry.coming = None
            self._computing -= 1
            self._changed.notify_all()

    def _is_old(self, entry: _CacheEntry[Value]) -> bool:
        wait = max(self._seconds, REST * entry.took) if self._seconds else 0.0
        return time.monotonic() - entry.made >= wait

    def _entry(self, key: str) -> _CacheEntry[Value]:
        """Returns a key's entry; those asked for longest ago make room for it, unless they are being computed."""
        entry = self._entries.setdefault(key, _CacheEntry())
        self._entries.move_to_end(key)
        while len(self._entries) > self._most:
            idle = (each for each, other in self._entries.items() if other.coming is None and other is not entry)
            if (oldest := next(idle, None)) is None:
                break
            del self._entries[oldest]
        return entry
