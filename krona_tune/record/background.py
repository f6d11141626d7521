"""Does slow work in a thread, so that only the study's end waits for it, and sends a sink's events to a slow store."""

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from krona_tune.record.sink import Sink
from krona_tune.study.order import Order
from krona_tune.study.redact import redact
from krona_tune.study.result import Report, TrialResult

if TYPE_CHECKING:
    from krona_tune.record.records import Records

logger = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 2.0, 60.0
"""The pause after work that failed, doubled by each further failure, and its limit."""
DRAIN_SECONDS = 60.0
"""How long the study's end waits for a worker."""
UNOPENED_SECONDS = 10.0
"""How long the study's end waits for a store that could not be opened so far."""
SYNC = "the Parquet records have them, and krona-tune sync sends them"
CAPACITY = 20_000
"""The most events that wait; further ones are only in the records, from which a later sync sends them."""

Item = TypeVar("Item")


class Worker(Generic[Item]):
    """A thread that works on the items that are put, and tries again what failed, until it is ended.

    After a failure it pauses, twice as long each time, whatever is put meanwhile. The log says the first failure only.
    `problem` is the last failure, without passwords; empty if the last work succeeded.

    Args:
        work: gets the items that were put since its last call, in their order, and whether it is called for the last
            time, unless it fails. After a failure it may get none.
        name: says in the log what the work is about.
        patience: returns for how many seconds after the end failed work is tried again; asked after each failure.
        failing: says the first of several failures, with the name and the problem.
        recovery: says that the work succeeds again, with the name; empty: nothing is said.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Item], bool], None],
        *,
        name: str,
        patience: Callable[[], float] = lambda: DRAIN_SECONDS,
        failing: str = "%s: %s; the study continues",
        recovery: str = "%s: works again",
    ) -> None:
        self._work, self._name, self._patience = work, name, patience
        self._failing, self._recovery = failing, recovery
        self._items: queue.SimpleQueue[Item | None] = queue.SimpleQueue()  # None: the end
        self._ending, self._ended_at = threading.Event(), float("inf")
        self._pause, self.problem = 0.0, ""
        self._last, self._finished = False, threading.Event()
        threading.Thread(target=self._serve, name=name, daemon=True).start()

    def put(self, item: Item) -> None:
        """Gives the thread something to work on; returns at once."""
        self._items.put(item)

    def end(self) -> None:
        """Tells the thread to work for the last time; returns at once."""
        self._ended_at = time.monotonic()
        self._items.put(None)
        self._ending.set()

    def wait(self, seconds: float) -> str:
        """Waits for the last work, at most so many seconds; returns what is wrong by then, empty if nothing is."""
        if self._finished.wait(max(0.0, seconds)):
            return self.problem
        return f"still busy after {seconds:g} s" + (f", {self.problem}" if self.problem else "")

    def drain(self, *, while_it_works: bool = False) -> str:
        """Ends the thread and waits for it as long as its patience is now; returns what `wait` does.

        Args:
            while_it_works: wait on while the last work goes on and nothing has failed.
        """
        seconds = self._patience()
        self.end()
        while while_it_works and not self._finished.wait(max(0.0, seconds)) and not self.problem:
            logger.info("%s: still busy", self._name)
        return self.wait(seconds)

    def _serve(self) -> None:
        try:
            while not self._last:
                self._try(self._receive())
            while self.problem and time.monotonic() + self._pause <= self._ended_at + self._patience():
                time.sleep(self._pause)
                self._try([])
        finally:
            self._finished.set()

    def _receive(self) -> list[Item]:
        """Returns what was put, after waiting for something, or for the end of a pause; at the end, at once."""
        items: list[Item | None] = [] if self.problem else [self._items.get()]
        self._ending.wait(self._pause)
        while not self._items.empty():
            items.append(self._items.get())
        self._last = None in items
        return [item for item in items if item is not None]

    def _try(self, items: Sequence[Item]) -> None:
        try:
            self._work(items, self._last)
        except Exception as error:
            said = redact(f"{type(error).__name__}: {first_line(error)}")
            if not self.problem:
                logger.warning(self._failing, self._name, said)
            self.problem = said
            self._pause = min(max(2 * self._pause, FIRST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)
            return
        if self.problem and self._recovery:
            logger.warning(self._recovery, self._name)
        self._pause, self.problem = 0.0, ""


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


class NotSentError(Exception):
    """The store lacks something when the study ends."""


class NotAcceptedError(Exception):
    """The store rejected these events: sending them again can not succeed."""


class Mirror(Protocol):
    """The store that the sink writes to. Every method is called from the sink's thread only."""

    def open(self) -> None: ...

    def behind(self, earlier: "Records") -> Iterable[Sequence[Event]]:
        """Returns what the store lacks of earlier records, one subject's events at a time; called once it is open."""

    def send(self, events: Sequence[Event]) -> None:
        """Sends some of one subject's events, in their order. Sending the same again does no harm."""

    def close(self, artifacts: Sequence[Path]) -> None: ...


class BackgroundSink(Sink):
    """A sink with calls that return at once. What can't be sent is tried again until the study ends, then counted.

    The store is opened for the first event: opening takes seconds, and the first trial need not wait for it.
    """

    def __init__(self, store: Mirror, earlier: "Records", *, name: str, fix: str = SYNC) -> None:
        """`fix` says how what the store lacks at the end gets there later.

        `earlier` are the records of a resumed study: what the store lacks of them is sent first, because the driver
        that had them may have been killed before it could send them.
        """
        self._store, self._earlier, self._name, self._fix = store, earlier, redact(name), fix
        self._backlogs: dict[str, list[Event]] = {}
        self._artifacts: Sequence[Path] = ()
        self._opened = self._closed = False
        self._refused = ""
        self._taken = self._behind = self._sent = self._left_out = 0
        self._worker = Worker(self._serve, name=self._name, patience=self._patience)

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
        """Waits until everything is sent, at most `DRAIN_SECONDS`. Raises NotSentError if something is not."""
        self._artifacts = tuple(artifacts)
        problem = self._worker.drain()
        if self.unsent or not self._closed:
            lacks = f"{self.unsent} of {self._taken + self._behind} events" if self.unsent else "tables and artifacts"
            why = problem or redact(self._refused)
            raise NotSentError(f"{self._name} lacks {lacks}{why and f' ({why})'}; {self._fix}")

    def _take(self, event: Event) -> None:
        self._taken += 1
        if self.unsent - self._left_out > CAPACITY:
            self._left_out += 1
        else:
            self._worker.put(event)

    def _patience(self) -> float:
        """Returns how long to wait at the end: shorter for a store that could not be opened so far."""
        failed = self._worker.problem and not self._opened
        return min(DRAIN_SECONDS, UNOPENED_SECONDS) if failed else DRAIN_SECONDS

    def _serve(self, events: Sequence[Event], last: bool) -> None:
        for event in events:
            self._backlogs.setdefault(event.subject, []).append(event)
        self._open()
        try:
            self._send_all()
        finally:
            if last:
                self._store.close(self._artifacts)
                self._closed = True

    def _open(self) -> None:
        if not self._opened:
            self._store.open()
            for events in list(self._store.behind(self._earlier)):
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
                self._refused = f"{kind} {subject} was refused: {first_line(error)}"
                logger.warning("%s: %s", self._name, self._refused)
            except Exception:
                self._backlogs[subject] = self._backlogs.pop(subject)  # the others go first next time
                raise
            del self._backlogs[subject]


def milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def first_line(error: Exception) -> str:
    """Returns the error's first line, shortened."""
    return next(iter(str(error).splitlines()), "")[:300]
