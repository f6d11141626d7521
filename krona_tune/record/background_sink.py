"""Sends a sink's events to a slow store from one background thread, so that only the study's end waits for it."""

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from krona_tune.study.order import Order
from krona_tune.study.redact import redact
from krona_tune.study.result import Report, TrialResult

logger = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 60.0
UNOPENED_SECONDS = 10.0
"""How long the study's end waits for a store that could not be opened so far."""
SYNC = "the Parquet records have them, and krona-tune sync sends them"
CAPACITY = 20_000
"""The most events that wait; further ones are only in the records, from which a later sync sends them."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """An event of a trial or an order, and its time (milliseconds since the epoch). `ended`: it is the trial's end."""

    what: TrialResult | Report | Order
    at_ms: int
    ended: bool = False

    @property
    def subject(self) -> str:
        """Returns the trial or the order that the event is about."""
        return self.what.id if isinstance(self.what, Order) else self.what.trial_id


@dataclass(frozen=True)
class _Ending:
    artifacts: tuple[Path, ...]
    at: float


class NotSentError(Exception):
    """The store lacks something when the study ends."""


class NotAcceptedError(Exception):
    """The store rejected these events: sending them again can not succeed."""


class Store(Protocol):
    """The store that the sink writes to. Every method is called from the sink's thread only."""

    def open(self) -> None: ...

    def behind(self) -> Iterable[Sequence[Event]]:
        """Returns what the store lacks of earlier drivers, one subject's events at a time; called when it is open."""

    def send(self, events: Sequence[Event]) -> None:
        """Sends some of one subject's events, in their order. Sending the same again does no harm."""

    def close(self, artifacts: Sequence[Path]) -> None: ...


class BackgroundSink:
    """A sink with calls that return at once. What can't be sent is tried again until the study ends, then counted.

    The store is opened for the first event: opening takes seconds, and the first trial need not wait for it.
    """

    def __init__(self, store: Store, *, name: str, fix: str = SYNC, drain_seconds: float = 60.0) -> None:
        """`fix` says how what the store lacks at the end gets there later."""
        self._store, self._name, self._fix, self._drain_seconds = store, redact(name), fix, drain_seconds
        self._queue: queue.SimpleQueue[Event | _Ending] = queue.SimpleQueue()
        self._backlogs: dict[str, list[Event]] = {}
        self._opened = self._closed = False
        self._pause, self._problem, self._refused = 0.0, "", ""
        self._taken = self._behind = self._sent = self._left_out = 0
        self._finished = threading.Event()
        threading.Thread(target=self._serve, name=f"{name} mirror", daemon=True).start()

    @property
    def unsent(self) -> int:
        """Returns how many events the store doesn't have (yet)."""
        return self._taken + self._behind - self._sent

    def trial_started(self, result: TrialResult) -> None:
        self._take(Event(what=result, at_ms=milliseconds(result.started_at)))

    def reported(self, report: Report) -> None:
        self._take(Event(what=report, at_ms=milliseconds(time.time())))

    def trial_ended(self, result: TrialResult) -> None:
        self._take(Event(what=result, at_ms=milliseconds(result.ended_at or time.time()), ended=True))

    def ordered(self, order: Order) -> None:
        self._take(Event(what=order, at_ms=milliseconds(order.ended_at or time.time())))

    def study_ended(self, artifacts: Sequence[Path]) -> None:
        """Waits until everything is sent, at most `drain_seconds`. Raises NotSentError if something is not."""
        patience = self._patience_at_the_end()
        self._queue.put(_Ending(tuple(artifacts), time.monotonic()))
        if not self._finished.wait(patience):
            self._problem = f"still busy after {patience:g} s" + (f", {self._problem}" if self._problem else "")
        if self.unsent or not self._closed:
            lacks = f"{self.unsent} of {self._taken + self._behind} events" if self.unsent else "tables and artifacts"
            why = redact(self._problem or self._refused)
            raise NotSentError(f"{self._name} lacks {lacks}{why and f' ({why})'}; {self._fix}")

    def _take(self, event: Event) -> None:
        self._taken += 1
        if self.unsent - self._left_out > CAPACITY:
            self._left_out += 1
        else:
            self._queue.put(event)

    def _serve(self) -> None:
        try:
            while (ending := self._receive()) is None:
                self._try(self._send_all)
            while not self._try(lambda: self._finish(ending)):
                if time.monotonic() + self._pause > ending.at + self._patience_at_the_end():
                    return
                time.sleep(self._pause)
        finally:
            self._finished.set()

    def _receive(self) -> _Ending | None:
        """Collects the events so far, after waiting for one and for the end of a pause; returns the ending, if any."""
        resume_at = time.monotonic() + self._pause
        while True:
            try:
                item = self._queue.get(timeout=self._patience(resume_at))
            except queue.Empty:
                return None
            if isinstance(item, _Ending):
                return item
            self._backlogs.setdefault(item.subject, []).append(item)

    def _patience_at_the_end(self) -> float:
        """Returns how long to wait at the end: shorter for a store that could not be opened so far."""
        failed = self._pause and not self._opened
        return min(self._drain_seconds, UNOPENED_SECONDS) if failed else self._drain_seconds

    def _patience(self, resume_at: float) -> float | None:
        if self._pause:
            return max(0.0, resume_at - time.monotonic())
        return 0.0 if self._backlogs else None

    def _try(self, step: Callable[[], None]) -> bool:
        """Returns whether the step succeeded. A failure logs a warning the first time, and makes the pause longer."""
        try:
            step()
        except Exception as error:
            self._problem = f"{type(error).__name__}: {_line(error)}"
            if not self._pause:
                logger.warning("%s: %s; the study continues", self._name, self._problem)
            self._pause = min(max(2 * self._pause, FIRST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)
            return False
        if self._pause:
            logger.warning("%s: works again", self._name)
        self._pause, self._problem = 0.0, ""
        return True

    def _open(self) -> None:
        if not self._opened:
            self._store.open()
            for events in list(self._store.behind()):
                subject = events[0].subject
                self._backlogs[subject] = [*events, *self._backlogs.get(subject, ())]
                self._behind += len(events)
            self._opened = True

    def _send_all(self) -> None:
        self._open()
        for subject, events in list(self._backlogs.items()):
            try:
                self._store.send(events)
                self._sent += len(events)
            except NotAcceptedError as error:
                self._left_out += len(events)
                kind = "order" if isinstance(events[0].what, Order) else "trial"
                self._refused = f"{kind} {subject} was refused: {_line(error)}"
                logger.warning("%s: %s", self._name, self._refused)
            except Exception:
                self._backlogs[subject] = self._backlogs.pop(subject)  # the others go first next time
                raise
            del self._backlogs[subject]

    def _finish(self, ending: _Ending) -> None:
        self._open()
        try:
            self._send_all()
        finally:
            self._store.close(ending.artifacts)
            self._closed = True


def milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _line(error: Exception) -> str:
    """Returns the error's first line, shortened."""
    return next(iter(str(error).splitlines()), "")[:300]
