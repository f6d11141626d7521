"""Keeps computed values while what they were computed from is the same."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Value = TypeVar("Value")
REST = 3.0
"""A value that took long is computed again after this many times as long, at the earliest."""


@dataclass
class _Entry(Generic[Value]):
    lock: threading.Lock = field(default_factory=threading.Lock)
    held: tuple[str, Value] | None = None
    made: float = 0.0
    took: float = 0.0


class Kept(Generic[Value]):
    """The newest values of at most `most` keys, each with the stamp of what it was computed from.

    Threads that ask for the same value at once wait for one computation. A value younger than `seconds` is returned
    although its stamp has changed since.
    """

    def __init__(self, most: int, seconds: float = 0.0) -> None:
        self._most, self._seconds = most, seconds
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, _Entry[Value]] = OrderedDict()

    def get(self, key: str, stamp: str, make: Callable[[], Value]) -> tuple[str, Value]:
        """Returns a value and the stamp that it was computed for."""
        entry = self._entry(key)
        with entry.lock:
            if entry.held is None or (entry.held[0] != stamp and self._is_old(entry)):
                began = time.monotonic()
                entry.held = stamp, make()
                entry.made = time.monotonic()
                entry.took = entry.made - began
            return entry.held

    def is_due(self, key: str) -> bool:
        """Returns whether the key's value would be computed again if its stamp had changed."""
        entry = self._entry(key)
        return entry.held is None or self._is_old(entry)

    def _is_old(self, entry: _Entry[Value]) -> bool:
        wait = max(self._seconds, REST * entry.took) if self._seconds else 0.0
        return time.monotonic() - entry.made >= wait

    def _entry(self, key: str) -> _Entry[Value]:
        with self._lock:
            entry = self._entries.setdefault(key, _Entry())
            self._entries.move_to_end(key)
            while len(self._entries) > self._most:
                self._entries.popitem(last=False)
            return entry
