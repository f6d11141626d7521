"""Offers the queue of a storage's studies to pages, programs and the command line."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from threading import Lock

import platformdirs
from filelock import FileLock, Timeout

from krona_tune.record.driver_state import written_at
from krona_tune.record.orders import remove_order, waiting_orders
from krona_tune.record.storage import Storage, refresh
from krona_tune.refusal import Refusal
from krona_tune.refused_calls import naming_fields
from krona_tune.search.start_options import SENT
from krona_tune.service.queue.capacity import CapacitySource, describe_capacity
from krona_tune.service.queue.database import Database, UnavailableError
from krona_tune.service.queue.dispatcher import FETCHED, Dispatcher
from krona_tune.service.queue.drivers import Drivers
from krona_tune.service.queue.entry import Entry, QueueView, SlotChange, Submission, SubmissionAnswer, TrainingRequest
from krona_tune.service.queue.submission_check import CheckedSubmission, check_apart
from krona_tune.service.response_models import StudySummary
from krona_tune.study.folder import StudyFolder
from krona_tune.study.manifest import read_manifest
from krona_tune.study.order import Order
from krona_tune.study.redact import redact
from krona_tune.study.request.loader import dump_spec, load_spec
from krona_tune.study.settings import field_names

SHOWN_SECONDS = 86_400.0
"""How far back the slots are shown."""
TURN_SECONDS = 300.0
"""How long a submission waits while others are checked, which happens one after the other."""


class NoQueueError(Refusal):
    """Refuses to run a queue that another process runs, or in a place that can't be written."""


def place_of_queue(storage: Storage) -> Path:
    """Returns the folder of a storage's queue: beside the studies, or, if they are at a URI, among this user's data."""
    if not storage.uri:
        return storage.folder
    return platformdirs.user_data_path("krona_tune") / "queues" / storage.folder.name


class StudyQueue:
    """The queue of one storage. Every method may be called from any thread.

    Args:
        limits: the most slots of each person's studies.
        pace: stretches the dispatcher's times to wait.

    Raises:
        NoQueueError: another process has the queue, or nothing can be written there.
        Refusal: its file can't be used.
    """

    def __init__(
        self,
        storage: Storage,
        drivers: Drivers,
        source: CapacitySource,
        limits: Mapping[str, int] | None = None,
        pace: float = 1.0,
    ) -> None:
        self._storage, self._source, self._limits = storage, source, dict(limits or {})
        self._closing, self._checking = ExitStack(), Lock()
        place = place_of_queue(storage)
        try:
            place.mkdir(parents=True, exist_ok=True)
            self._closing.enter_context(FileLock(place / "queue.lock", timeout=0))
        except Timeout:
            problem = f"another service runs the queue of {storage}"
            raise NoQueueError("the queue", problem, "submit to that one") from None
        except OSError as error:
            problem = f"{place} can't be written: {error.strerror}"
            raise NoQueueError("--storage", problem, "make it writable") from None
        path = place / "queue.db"
        path.touch(mode=0o600)  # addresses of services to tell may hold passwords
        self._database = Database(path)
        self._dispatcher = Dispatcher(self._database, storage, drivers, source, limits, pace)

    def begin(self) -> None:
        """Starts the thread that starts drivers and divides the slots."""
        self._dispatcher.begin()

    def end(self) -> None:
        """Gives the queue back; the drivers that were started run on."""
        self._dispatcher.end()
        self._closing.close()

    def submit(self, asked: Submission, person: str) -> SubmissionAnswer:
        """Checks a request as `run` does and gives it a place, unless only its plan is asked for.

        A request that comes again because its answer was lost has the place that it has.

        Raises:
            Refusal: the request is wrong, its name is taken, or one trial of it needs more than there is.
        """
        with self._turn():
            fingerprint = _fingerprint(asked)
            before = self._database.answer_before(fingerprint, asked.name, person)
            return before or self._answer(asked, person, fingerprint)

    def plan(self, asked: Submission) -> str:
        """Returns what `run --dry-run` prints of a request; nothing is queued. Raises what `submit` raises."""
        with self._turn():
            return self._checked(asked, prints=True).printed

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Waits until no other request is checked, which happens one after the other."""
        if not self._checking.acquire(timeout=TURN_SECONDS):
            raise UnavailableError("the queue", "other submissions are still being checked", "send it again")
        try:
            yield
        finally:
            self._checking.release()

    def move(self, entry: int, priority: int) -> Entry:
        """Gives an entry another priority. Raises a Refusal if it has no place."""
        return self._then_look(self._database.move(entry, priority))

    def remove(self, entry: int, person: str) -> Entry:
        """Removes a queued entry, with what its resumption has ordered, and asks the driver of one that runs to end.

        Raises:
            Refusal: it has no place.
        """
        found = self._database.entry(entry)
        if found.state == "queued":
            self._take_back(found)
        return self._then_look(self._database.remove(entry, person))

    def note_orders(self, entry: Entry, orders: Iterable[Order]) -> None:
        """Notes the orders that wait for the next driver of an entry, because its place was taken with them."""
        self._database.note_orders(entry.id, [order.id for order in orders])

    def _take_back(self, entry: Entry) -> None:
        """Removes the orders that were given with a place that nobody has used."""
        asked, folder = self._database.noted_orders(entry.id), self._storage.study(entry.name)
        for order in waiting_orders(folder) if asked else ():
            if order.id in asked:
                remove_order(folder, order)

    def put_back(self, entry: int) -> Entry:
        """Gives an entry that ended its place again; its study is resumed. Raises a Refusal if it has one."""
        return self._then_look(self._put_back(self._database.entry(entry)))

    @contextmanager
    def resuming(self, name: str, priority: int, person: str) -> Iterator[Entry]:
        """Gives a study of the storage that does not run a place: that which it had, or a new one if it had none.

        Whoever has the place leaves the orders for the study's next driver in the context; an error there takes the
        place back.

        Raises:
            Refusal: it has a place, its request can't be read, or one trial of it needs more than there is.
        """
        entry = self._place_for(name, priority, person)
        try:
            yield entry
        except BaseException:
            self._database.remove(entry.id, person)
            raise
        finally:
            self._dispatcher.wake()

    def _place_for(self, name: str, priority: int, person: str) -> Entry:
        asked = self._of_storage(name, priority)
        before = self._database.last_ended(name, trainings_too=False)
        if before and not _is_of_another(before, self._storage.study(name)):
            return self._put_back(before)
        return self._database.adopt(asked, person, written_at(self._storage.study(name)))

    def _put_back(self, entry: Entry) -> Entry:
        """Gives an entry its place again. Raises a Refusal if its study is another one, which somebody else began."""
        folder = self._storage.study(entry.name)
        refresh(folder, FETCHED)
        if _is_of_another(entry, folder):
            fix = "submit yours under another name; that one is resumed from its own page"
            raise Refusal(f"entry {entry.id}", f"another study is named {entry.name!r} by now", fix)
        return self._database.put_back(entry.id, begun=folder.spec.exists(), state_before=written_at(folder))

    def train(self, asked: TrainingRequest, person: str) -> Entry:
        """Gives a full training of a study that does not run a place. Raises what `resuming` raises."""
        study = self._of_storage(asked.name, asked.priority)
        return self._then_look(self._database.add_training(study, person, asked.words))

    def _of_storage(self, name: str, priority: int) -> Submission:
        """Returns what the queue keeps of a study of the storage, which must have no place there."""
        self.refuse_live(name)
        spec = load_spec(self._storage.study(name).spec)
        self._source.most(spec.resources)
        before = self._database.last_ended(name)
        asked = Submission(name=name, space=dump_spec(spec), priority=priority)
        if before is None or _is_of_another(before, self._storage.study(name)):
            return asked
        told = self._database.submission(before.id)
        return asked.model_copy(update={option: getattr(told, option) for option in SENT})

    def refuse_live(self, name: str, fix: str = "look at the queue") -> None:
        """Raises a Refusal if a study of this name has a place."""
        if name in {entry.name for entry in self._database.live()}:
            raise Refusal("name", f"{name!r} has a place in the queue", fix)

    def view(self, studies: Iterable[StudySummary] = ()) -> QueueView:
        """Returns the queue as it is now; `studies` tell what each person's have used."""
        capacity, problem = "", self._dispatcher.problem
        found: list[Entry] = []
        changes: list[SlotChange] = []
        try:
            found = [
                *sorted(self._database.live(), key=lambda entry: (-entry.priority, entry.id)),
                *self._database.ended(),
            ]
            changes = self._database.changes(time.time() - SHOWN_SECONDS)
            problem = problem or self._database.problem
            capacity = describe_capacity(self._source.cluster())
        except Refusal as refusal:
            problem = problem or str(refusal)
        hours: Counter[str] = Counter()
        for study in studies:
            if study.device_seconds:
                hours[study.begun_by.partition("@")[0]] += study.device_seconds / 3600  # type: ignore[assignment]
        return QueueView(
            entries=found,
            capacity=capacity,
            problem=redact(problem),
            limits=self._limits,
            changes=changes,
            device_hours=dict(hours.most_common()),
        )

    def stamp(self) -> str:
        """Returns a text that differs if an entry has changed."""
        try:
            seen = repr((self._database.live(), self._database.ended(), self._dispatcher.problem))
        except UnavailableError as refusal:
            seen = str(refusal)
        return blake2b(seen.encode(errors="replace"), digest_size=12).hexdigest()

    def _then_look(self, entry: Entry) -> Entry:
        self._dispatcher.wake()
        return entry

    def _answer(self, asked: Submission, person: str, fingerprint: str) -> SubmissionAnswer:
        checked = self._checked(asked)
        plan = dict(checked.lines)
        if asked.only_plan:
            return SubmissionAnswer(entry=None, plan=plan)
        entry = self._database.add(asked.model_copy(update={"space": checked.space}), person, fingerprint, plan)
        return SubmissionAnswer(entry=self._then_look(entry), plan=plan)

    def _checked(self, asked: Submission, *, prints: bool = False) -> CheckedSubmission:
        self.refuse_live(asked.name, "choose another name")
        with naming_fields(_fields_of(asked)):
            checked = check_apart(self._storage, asked, self._source.cluster(), prints=prints)
            self._source.most(checked.resources)
        return checked


def _is_of_another(entry: Entry, folder: StudyFolder) -> bool:
    """Returns whether somebody else began the study of an entry's name, which the queue has never begun."""
    if entry.began_at is not None or entry.training:
        return False
    with suppress(Refusal):
        begun_by = read_manifest(folder.manifest).begun_by.partition("@")[0]
        return begun_by not in {"", entry.person.partition("@")[0]}
    return False


def _fingerprint(asked: Submission) -> str:
    """Returns a hash by which the same request is known when it comes again."""
    return blake2b(asked.model_dump_json().encode(errors="replace"), digest_size=20).hexdigest()


def _fields_of(asked: Submission) -> dict[str, str]:
    """Returns the fields and keys by their flags, but the flags of which the submission says that they gave a value."""
    by = {each.by for each in asked.given}
    return {flag: name for flag, name in field_names(Submission.model_fields).items() if flag not in by}
