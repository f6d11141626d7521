"""Gives studies their slots: starts drivers, tells them how many trials they may run, and starts dead ones again.

Each round compares what is with what should be, and changes what differs. Nothing is remembered but what the queue's
file and the studies' folders hold, so a service that is killed at any moment goes on where it was.
"""

import logging
import shlex
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

from krona_tune.record.driver_state import state_since, written_at
from krona_tune.record.notifications import tell_of_halt
from krona_tune.record.orders import PERSON, give_order, waiting_orders
from krona_tune.record.ownership import is_running
from krona_tune.record.storage import Storage, refresh
from krona_tune.refusal import LONGEST_LINE, Refusal, told
from krona_tune.service.queue.capacity import CapacitySource, Claim, divide
from krona_tune.service.queue.database import Database, Start, UnavailableError
from krona_tune.service.queue.drivers import SPACE, Drivers, NotStartedError
from krona_tune.service.queue.entry import Entry, start_of
from krona_tune.study.folder import StudyFolder
from krona_tune.study.order import OrderKind, OrderRequest
from krona_tune.study.redact import redact
from krona_tune.study.request.loader import parse_spec
from krona_tune.study.request.study_spec import ResourcesSpec
from krona_tune.study.study_state import DriverState

logger = logging.getLogger(__name__)

ROUND_SECONDS, END_SECONDS = 1.0, 10.0
"""The time between two rounds, and how long the end waits for a round that a silent cluster holds up."""
MOST_RESTARTS, WITHIN_SECONDS = 3, 3600.0
"""How often a dead driver is started again within which time."""
MOST_STARTS = 20
"""How many starts within that time are the most if the system told the drivers to end."""
WAITS = (1.0, 10.0, 60.0)
"""How long a dead driver's next start waits, in seconds, by the number of restarts before it."""
FETCHED = ("state.json", "study.yaml", "manifest.json")
"""What is fetched of a study whose copy is at a URI."""
UNSEEN_SECONDS = 60.0
"""How long a driver that nobody noted may take to appear in its study's folder."""
AGAIN_SECONDS, REMOTE_AGAIN_SECONDS = 10.0, 45.0
"""How long a driver has to take an order before it is given again; at a URI its answer comes with its next copy."""
BY = "the queue"
BY_HAND = "a person runs it; it takes none of the slots"
PAUSED = "it is paused; let it go on with: krona-tune order {} continue{}"


@dataclass(frozen=True, kw_only=True)
class WatchedEntry:
    """An entry with its study's folder, its last start (None: it has none), and, if that driver has written one, its
    state."""

    entry: Entry
    folder: StudyFolder
    start: Start | None
    state: DriverState | None

    @property
    def begun(self) -> bool:
        """Returns whether a driver of it was started and has not ended."""
        return self.start is not None and self.start.ended_at is None

    @property
    def by_hand(self) -> bool:
        """Returns whether a person runs it, after its own driver has died: that driver knows of no share."""
        return self.begun and self.state is not None and self.state.share is None and not self.state.end


class Dispatcher:
    """Runs the rounds in a thread of its own.

    Args:
        limits: the most slots of each person's studies.
        pace: stretches the times to wait; a test makes them short.
    """

    def __init__(
        self,
        database: Database,
        storage: Storage,
        drivers: Drivers,
        source: CapacitySource,
        limits: Mapping[str, int] | None = None,
        pace: float = 1.0,
    ) -> None:
        self.problem = ""
        self._database, self._storage, self._drivers, self._source = database, storage, drivers, source
        self._limits, self._pace = dict(limits or {}), pace
        self._given: dict[tuple[int, str], tuple[str, float]] = {}
        self._unplaced: dict[int, str] = {}  # the reasons of entries of which no trial fits now
        self._resources: dict[tuple[int, int | None], ResourcesSpec] = {}
        self._over, self._woken = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="queue", daemon=True)

    def begin(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Begins the next round at once."""
        self._woken.set()

    def end(self) -> None:
        """Ends the rounds; the drivers run on."""
        self._over.set()
        self._woken.set()
        if self._thread.is_alive():
            self._thread.join(END_SECONDS)

    def _run(self) -> None:
        while not self._over.is_set():
            self._woken.clear()
            try:
                self.round()
            except Refusal as refusal:
                self._tell(str(refusal))
            except Exception as error:
                logger.exception("a round of the queue failed")
                self.problem = f"the queue could not look after its studies: {type(error).__name__}"
            else:
                self.problem = ""
            self._woken.wait(ROUND_SECONDS * self._pace)

    def _tell(self, problem: str) -> None:
        if problem != self.problem:
            logger.warning("%s", redact(problem))
        self.problem = problem

    def round(self) -> None:
        """Compares what is with what should be, once. Raises a Refusal if the file or the cluster can't be reached."""
        self._source.cluster()  # without an answer nothing is changed
        for watched in self._watched(fetch=True):
            with self._noting(watched.entry):
                self._look_after(watched)
        there = self._watched()
        claims = []
        for watched in there:
            with self._noting(watched.entry):
                claims += self._claims(watched)
                said = self._unplaced.pop(watched.entry.id, "")
                if said and said == watched.entry.reason:
                    self._database.note(watched.entry.id, "")
        shares = divide(claims, self._source.cluster(), self._limits)
        self._database.give_slots({watched.entry.id: shares.get(watched.entry.id, 0) for watched in there})
        gpus = {claim.place: shares.get(claim.place, 0) * claim.gpus for claim in claims}
        held = {each.start.handle: gpus.get(each.entry.id, 0.0) for each in there if each.start and each.begun}
        # those that give slots up come first
        for watched in sorted(there, key=lambda each: not each.begun):
            share = shares.get(watched.entry.id, 0)
            with self._noting(watched.entry):
                if watched.begun:
                    self._tell_driver(watched, share)
                elif share:
                    self._start(watched, share, gpus[watched.entry.id], held)

    @contextmanager
    def _noting(self, entry: Entry) -> Iterator[None]:
        """Notes at an entry what can't be done for it now, so that the others get what they need."""
        try:
            yield
        except UnavailableError:
            raise
        except Refusal as refusal:
            self._note(entry, str(refusal))
        except Exception as error:
            logger.exception("%s could not be looked after", entry.name)
            self._note(entry, f"it could not be looked after: {told(error)}")

    def _note(self, entry: Entry, said: str) -> None:
        reason = redact(said)
        if reason != entry.reason:
            self._database.note(entry.id, reason)
            logger.warning("%s: %s", entry.name, reason)

    def _watched(self, *, fetch: bool = False) -> Sequence[WatchedEntry]:
        """Returns every entry that has a place; `fetch`: what copies at a URI hold is fetched first."""
        entries = self._database.live()
        starts = self._database.last_starts()  # read last: an entry that is adopted meanwhile has one
        return [self._watch(entry, starts.get(entry.id), fetch=fetch) for entry in entries]

    def _watch(self, entry: Entry, start: Start | None, *, fetch: bool) -> WatchedEntry:
        folder = self._storage.study(entry.name)
        if start and fetch and folder.remote:
            with suppress(Refusal):
                refresh(folder, FETCHED)
        state = state_since(folder, start.state_before) if start else None
        return WatchedEntry(entry=entry, folder=folder, start=start, state=state)

    # What there is to divide

    def _claims(self, watched: WatchedEntry) -> list[Claim]:
        """Returns what a study asks for; nothing if it needs nothing now."""
        entry, state = watched.entry, watched.state if watched.begun else None
        if entry.removed_by or watched.by_hand or (state and (state.paused or state.end)) or self._waits(watched):
            return []
        if self._is_taken(watched):
            return []
        asked = self._asked(watched)
        if state and state.most:  # orders may have changed it since
            asked = asked.model_copy(update={"max_concurrent": state.most})
        try:
            slots = self._source.most(asked)
        except Refusal as refusal:  # while a node is gone
            self._unplaced[entry.id] = redact(str(refusal))
            raise
        most = min(slots.count, max(1, state.left)) if state else slots.count
        return [
            Claim(
                place=entry.id,
                person=entry.person,
                priority=entry.priority,
                most=most,
                cpus=slots.cpus,
                gpus=slots.gpus,
            )
        ]

    def _asked(self, watched: WatchedEntry) -> ResourcesSpec:
        """Returns what a study's trials need: of one that was begun as its request says it now, which is read once."""
        entry, path = watched.entry.id, watched.folder.spec
        key = entry, path.stat().st_mtime_ns if watched.start and path.exists() else None
        if key not in self._resources:
            asked = self._database.submission(entry).space if key[1] is None else path.read_text(encoding="utf-8")
            self._resources[key] = parse_spec(asked, "space", self._storage.folder).resources
        return self._resources[key]

    def _is_taken(self, watched: WatchedEntry) -> bool:
        """Returns whether a person runs a study before its next driver is started; notes it as long as it is so."""
        if watched.begun:
            return False
        taken = is_running(watched.folder)
        if taken != (watched.entry.reason == BY_HAND):
            self._database.note(watched.entry.id, BY_HAND if taken else "")
        return taken

    def _waits(self, watched: WatchedEntry) -> bool:
        """Returns whether a dead driver's next start has to wait."""
        ended = watched.start.ended_at if watched.start else None
        if watched.entry.state == "queued" or ended is None:
            return False
        faults = self._database.faults(watched.entry.id, time.time() - WITHIN_SECONDS)
        return 0 <= time.time() - ended < WAITS[min(max(faults, 1), len(WAITS)) - 1] * self._pace

    # Drivers

    def _look_after(self, watched: WatchedEntry) -> None:
        """Ends an entry whose driver has ended, or lets it be started again."""
        start, entry = watched.start, watched.entry
        if start is None or start.ended_at is not None:
            if entry.removed_by:
                self._end_removed(entry)
        elif not self._may_run(start, watched.folder):
            self._settle(watched, start)

    def _may_run(self, start: Start, folder: StudyFolder) -> bool:
        """Returns whether a driver runs, or was started just now and nobody noted how it is found."""
        if (start.handle and self._drivers.runs(start.handle)) or is_running(folder):
            return True
        return not start.handle and 0 <= time.time() - start.at < UNSEEN_SECONDS * self._pace

    def _end_removed(self, entry: Entry) -> None:
        self._database.end(entry.id, "removed", f"{entry.removed_by} removed it")

    def _halt(self, entry: Entry, reason: str) -> None:
        """Ends an entry that can't go on, and tells those whom its submission names."""
        notify = self._database.submission(entry.id).notify
        self._database.end(entry.id, "halted", reason)
        tell_of_halt(notify, study=entry.name, reason=reason)

    def _settle(self, watched: WatchedEntry, start: Start) -> None:
        """Ends an entry as its driver has ended, or notes that the driver has to be started again."""
        entry = watched.entry
        if watched.folder.remote:
            refresh(watched.folder, FETCHED)  # what it wrote last came after the last look
        state = state_since(watched.folder, start.state_before) or watched.state
        other = state is not None and state.training is not None and state.training != bool(entry.training)
        if other or (entry.training and state and state.share is None):
            state = None  # a person has run the study or a training meanwhile, and nothing for this entry
        how = state.end if state else ""
        lines = self._drivers.last_lines(start.handle) if start.handle else ""
        said = redact(lines.rpartition("\n")[2])[:LONGEST_LINE]
        hour_ago = time.time() - WITHIN_SECONDS
        reason = redact(state.reason) if state and how else said
        if how == "finished":
            self._database.end(entry.id, "finished", "")
        elif entry.removed_by:
            self._end_removed(entry)
        elif how in {"cancelled", "interrupted"}:
            self._database.end(entry.id, "stopped", "a person ended its driver")
        elif how == "terminated" and self._database.starts_since(entry.id, hour_ago) < MOST_STARTS:
            # the machine or the service was stopped, which is no fault
            self._database.end_start(entry.id, "its driver was told to end and is started again", fault=False)
        elif self._database.faults(entry.id, hour_ago) >= MOST_RESTARTS:
            often = f"its driver was started again {MOST_RESTARTS} times within an hour and ended again"
            self._halt(entry, f"{often}: {how or 'it died'}. {reason}".strip())
        else:
            said = f"its driver ended ({how or 'it died'}) and is started again. {reason}".strip()
            self._database.end_start(entry.id, said, fault=True)
            logger.warning("%s: %s", entry.name, said)

    def _start(self, watched: WatchedEntry, share: int, gpus: float, held: dict[str, float]) -> None:
        """Starts a driver that takes so many GPUs; `held` are those that others hold by their handles, and gets its."""
        entry, folder = watched.entry, watched.folder
        if folder.remote:
            refresh(folder, FETCHED)
        if is_running(folder):
            return  # a person runs it, or its last driver still ends
        if folder.spec.exists() and not (watched.start or entry.training):
            self._halt(entry, "somebody began a study of this name meanwhile")
            return
        asked = self._database.submission(entry.id)
        told = replace(start_of(asked), address=self._drivers.address, quiet=True, share=share)
        where = ["--storage", self._storage.uri or str(self._storage.folder.resolve())]
        words = ["resume", entry.name] if folder.spec.exists() else ["run", "--space", SPACE, "--name", entry.name]
        words = ["train", entry.name, *shlex.split(entry.training)] if entry.training else words
        words += [*told.words(), *where]
        environment = {PERSON: entry.person, **told.environment(), **self._drivers.turn(gpus, held)}
        handle = self._drivers.handle(entry.name)
        start = self._database.begin_start(entry.id, share, written_at(folder), handle)
        if start is None:
            return  # somebody removed it meanwhile
        try:
            known = self._drivers.start(entry.name, handle, words, asked.space, environment)
        except NotStartedError as error:
            self._database.drop_start(start.id, entry.state, f"it could not be started yet: {redact(str(error))}")
            return
        held[known] = gpus
        if known != handle:
            self._database.note_handle(start.id, known)

    def _tell_driver(self, watched: WatchedEntry, share: int) -> None:
        """Orders what a driver has not done yet: to end, or to run another number of trials at once."""
        start, state, entry = watched.start, watched.state, watched.entry
        assert start is not None
        if state and state.ends:
            return
        if entry.removed_by:
            self._order(watched, OrderRequest(what=OrderKind.CANCEL))
        elif watched.by_hand:
            self._note(entry, BY_HAND)
        elif share != (start.slots if state is None else state.share):
            self._order(watched, OrderRequest(what=OrderKind.SHARE, value=str(share)))
        elif state and state.paused:
            self._note(entry, PAUSED.format(entry.name, watched.folder.storage_flag))
        elif state and entry.reason and entry.id not in self._unplaced:
            self._database.note(entry.id, "")

    def _order(self, watched: WatchedEntry, request: OrderRequest) -> None:
        folder, key = watched.folder, (watched.entry.id, request.what)
        patience = (REMOTE_AGAIN_SECONDS if folder.remote else AGAIN_SECONDS) * self._pace
        value, at = self._given.get(key, ("", -patience))
        if (value == request.value and time.monotonic() - at < patience) or not folder.spec.exists():
            return
        waiting = [order for order in waiting_orders(folder) if order.what == request.what and order.by == BY]
        if not (waiting and waiting[-1].value == request.value):
            give_order(folder, request, BY)
        self._given[key] = request.value, time.monotonic()
