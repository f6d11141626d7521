"""Keeps the queue in a SQLite file: what was submitted, each start of a driver, and who had which slots when.

Every method is one transaction; after a kill at any moment the file holds all of it or nothing.
"""

import json
import logging
import shlex
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sql
from pydantic import ValidationError
from sqlalchemy.engine import Row
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.pool import NullPool

from krona_tune.refusal import Refusal, unknown
from krona_tune.search.start_options import SENT
from krona_tune.service.queue.database_schema import (
    MIGRATIONS,
    answers,
    changes,
    entries,
    resumptions,
    starts,
    trainings,
)
from krona_tune.service.queue.entry import LIVE, Entry, EntryState, SlotChange, Submission, SubmissionAnswer

logger = logging.getLogger(__name__)
Value = TypeVar("Value")

FORMAT_KEY = "user_version"
AS_SUBMITTED = {"name", "space", "priority", "tracking_uri"}
"""What of a submission is kept as it is."""
BUSY_SECONDS = 5.0
"""How long a transaction waits for another process that writes."""
MOST_QUEUED, MOST_ENDED = 1_000, 100
"""The most studies that may have a place, and how many of those that ended are listed."""


class UnknownEntryError(Refusal):
    """Refuses an entry that the queue does not have."""


class UnavailableError(Refusal):
    """Refuses a request because the queue's file can't be read or written now."""


@dataclass(frozen=True, kw_only=True)
class Start:
    """One start of a driver: when, with how many slots, and the `handle` by which its process or job is found, empty if
    nobody noted it. `state_before` is the time of the driver's state that a predecessor left in the study's folder;
    `fault`: the driver ended by itself before the study did."""

    id: int
    entry: int
    at: float
    slots: int
    handle: str
    state_before: float | None
    ended_at: float | None
    fault: bool


class Database:
    """The queue's file; it is made if it is missing, and brought to this version's format.

    Raises:
        Refusal: it can't be opened, is no such file, or was written by a newer version.
    """

    def __init__(self, path: Path, migrations: Sequence[Callable[[sql.Connection], None]] = MIGRATIONS) -> None:
        self._path = path
        self._odd: dict[int, str] = {}
        self._engine = sql.create_engine(
            f"sqlite:///{path}", poolclass=NullPool, connect_args={"timeout": BUSY_SECONDS, "isolation_level": None}
        )
        sql.event.listen(self._engine, "begin", _begin)
        with self._transaction() as connection:
            written = int(connection.execute(sql.text(f"PRAGMA {FORMAT_KEY}")).scalar_one())
            if written > len(migrations):
                problem = f"was written by a newer krona_tune (format {written}, this version reads {len(migrations)})"
                raise Refusal(str(path), problem, "install that version, or move the file away")
            for step in migrations[written:]:
                step(connection)
            connection.execute(sql.text(f"PRAGMA {FORMAT_KEY} = {len(migrations)}"))

    def add(
        self, asked: Submission, person: str, fingerprint: str = "", plan: Mapping[str, str] | None = None
    ) -> Entry:
        """Gives a study a place.

        Args:
            fingerprint: that of the request as it was sent, by which it is known again.
            plan: what it is answered with.

        Raises:
            Refusal: a study of this name has one, or too many have.
        """
        with self._transaction() as connection:
            entry = self._add(connection, asked, person)
            values = {"entry": entry, "fingerprint": fingerprint, "plan": json.dumps(plan or {})}
            connection.execute(answers.insert().values(values))
            return self._entry(connection, entry)

    def answer_before(self, fingerprint: str, name: str, person: str) -> SubmissionAnswer | None:
        """Returns the answer to a request that the person has sent before, if its study still has its place."""
        same = (answers.c.fingerprint == fingerprint) & (entries.c.name == name) & (entries.c.person == person)
        asked = sql.select(answers).join(entries, entries.c.id == answers.c.entry)
        with self._reading() as connection:
            found = connection.execute(asked.where(same, entries.c.state.in_(LIVE))).one_or_none()
            if found is None:
                return None
            return SubmissionAnswer(entry=self._entry(connection, found.entry), plan=json.loads(found.plan))

    def adopt(self, asked: Submission, person: str, state_before: float | None) -> Entry:
        """Gives a study that was begun without the queue a place, as if its driver had ended: it will be resumed.

        Args:
            state_before: the time of what its last driver wrote; None if that wrote nothing.

        Raises:
            Refusal: what `add` raises.
        """
        with self._transaction() as connection:
            entry = self._add(connection, asked, person)
            self._adopt(connection, entry, state_before)
            return self._entry(connection, entry)

    def _adopt(self, connection: sql.Connection, entry: int, state_before: float | None) -> None:
        now = time.time()
        ended = {"entry": entry, "at": now, "ended_at": now, "slots": 0, "handle": "", "fault": 0}
        _inserted(connection, starts, ended | {"state_before": state_before})

    def note_orders(self, entry: int, orders: Sequence[str]) -> None:
        """Notes the ids of the orders that were given with an entry's place, in place of those before."""
        with self._transaction() as connection:
            connection.execute(resumptions.delete().where(resumptions.c.entry == entry))
            connection.execute(resumptions.insert().values(entry=entry, orders=json.dumps(list(orders))))

    def noted_orders(self, entry: int) -> frozenset[str]:
        """Returns the ids of the orders that were given with an entry's last place."""
        with self._reading() as connection:
            asked = sql.select(resumptions.c.orders).where(resumptions.c.entry == entry)
            return frozenset(json.loads(connection.execute(asked).scalar_one_or_none() or "[]"))

    def add_training(self, asked: Submission, person: str, words: Sequence[str]) -> Entry:
        """Gives a full training a place; `words` follow `krona-tune train NAME`. Raises what `add` raises."""
        with self._transaction() as connection:
            entry = self._add(connection, asked, person)
            connection.execute(trainings.insert().values(entry=entry, words=shlex.join(words)))
            return self._entry(connection, entry)

    def _add(self, connection: sql.Connection, asked: Submission, person: str) -> int:
        live = sql.select(sql.func.count()).select_from(entries).where(entries.c.state.in_(LIVE))
        if connection.execute(live).scalar_one() >= MOST_QUEUED:
            raise Refusal("the queue", f"{MOST_QUEUED:,} studies have a place", "wait until some have ended")
        values = asked.model_dump(include=AS_SUBMITTED) | {"person": person, "notify": json.dumps(asked.notify)}
        try:
            return _inserted(connection, entries, values)
        except IntegrityError:
            raise Refusal("name", f"{asked.name!r} has a place in the queue", "choose another name") from None

    def submission(self, entry: int) -> Submission:
        """Reads the request that an entry was made from."""
        with self._reading() as connection:
            row = connection.execute(sql.select(entries).where(entries.c.id == entry)).one()
        return Submission(**{name: row._mapping[name] for name in AS_SUBMITTED}, notify=tuple(json.loads(row.notify)))

    def entry(self, entry: int) -> Entry:
        """Returns an entry. Raises an UnknownEntryError if there is none."""
        with self._reading() as connection:
            return self._entry(connection, entry)

    def live(self) -> list[Entry]:
        """Returns the entries that have a place, in the order in which they were submitted."""
        with self._reading() as connection:
            found = connection.execute(_selected().where(entries.c.state.in_(LIVE)).order_by(entries.c.id)).all()
        return self._valid(found, _as_entry)

    def ended(self) -> list[Entry]:
        """Returns the entries that ended, the last first."""
        with self._reading() as connection:
            asked = _selected().where(entries.c.state.not_in(LIVE)).order_by(entries.c.ended_at.desc())
            found = connection.execute(asked.limit(MOST_ENDED)).all()
        return self._valid(found, _as_entry)

    def last_ended(self, name: str, *, trainings_too: bool = True) -> Entry | None:
        """Returns the entry of a study of this name that ended last; None if there is none.

        Args:
            trainings_too: it may be one of a full training.
        """
        asked = _selected().where(entries.c.state.not_in(LIVE), entries.c.name == name)
        asked = asked if trainings_too else asked.where(trainings.c.entry.is_(None))
        with self._reading() as connection:
            found = connection.execute(asked.order_by(entries.c.ended_at.desc()).limit(1)).all()
        return next(iter(self._valid(found, _as_entry)), None)

    def move(self, entry: int, priority: int) -> Entry:
        """Gives an entry another priority. Raises a Refusal if it has no place any more."""
        with self._transaction() as connection:
            _refuse_ended(self._entry(connection, entry))
            self._update(connection, entry, {"priority": priority})
            return self._entry(connection, entry)

    def remove(self, entry: int, person: str) -> Entry:
        """Takes a queued entry's place; of one that runs, notes who wants its driver to end."""
        with self._transaction() as connection:
            found = self._entry(connection, entry)
            _refuse_ended(found)
            changed: dict[str, Any] = {"removed_by": person}
            if found.state == "queued":
                changed |= {"state": "removed", "ended_at": time.time(), "reason": f"{person} removed it"}
                self._give_slots(connection, entry, 0)
            self._update(connection, entry, changed)
            return self._entry(connection, entry)

    def put_back(self, entry: int, *, begun: bool = False, state_before: float | None = None) -> Entry:
        """Gives an entry that ended its place again. Raises a Refusal if it has one.

        Args:
            begun: its study was begun; if the queue has not done that, it is adopted.
            state_before: as in `adopt`.
        """
        with self._transaction() as connection:
            found = self._entry(connection, entry)
            if found.live:
                raise Refusal(f"entry {entry}", f"{found.name} has a place in the queue", "there is nothing to do")
            self._give_slots(connection, entry, 0)  # an earlier version left an ended entry its slots
            try:
                self._update(connection, entry, {"state": "queued", "ended_at": None, "reason": "", "removed_by": ""})
            except IntegrityError:
                problem = f"another study named {found.name!r} has a place in the queue"
                raise Refusal(f"entry {entry}", problem, "wait for its end") from None
            connection.execute(starts.update().where(starts.c.entry == entry).values(fault=0))
            if begun and found.began_at is None and not found.training:
                self._adopt(connection, entry, state_before)
            return self._entry(connection, entry)

    def end(self, entry: int, state: EntryState, reason: str) -> None:
        """Ends an entry and its last start; it holds no slots any more."""
        now = time.time()
        with self._transaction() as connection:
            self._give_slots(connection, entry, 0)
            self._update(connection, entry, {"state": state, "ended_at": now, "reason": reason})
            self._end_starts(connection, entry, now)

    def give_slots(self, shares: dict[int, int]) -> None:
        """Notes how many slots each entry has from now on, where that differs from what it had; none if it ended."""
        with self._transaction() as connection:
            live = connection.execute(sql.select(entries.c.id).where(entries.c.state.in_(LIVE))).scalars().all()
            for entry in shares.keys() & set(live):
                self._give_slots(connection, entry, shares[entry])

    def begin_start(self, entry: int, slots: int, state_before: float | None, handle: str = "") -> Start | None:
        """Notes that a driver is about to be started; returns None if somebody removed the entry meanwhile."""
        values: dict[str, Any] = {
            "entry": entry,
            "at": time.time(),
            "slots": slots,
            "handle": handle,
            "state_before": state_before,
            "fault": 0,
        }
        with self._transaction() as connection:
            wanted = entries.c.state.in_(LIVE) & (entries.c.removed_by == "")
            begun = entries.update().where(entries.c.id == entry, wanted).values(state="running", reason="")
            if not connection.execute(begun).rowcount:
                return None
            return Start(id=_inserted(connection, starts, values), ended_at=None, **values)

    def drop_start(self, start: int, state: EntryState, reason: str) -> None:
        """Takes back a start, because nothing was started: its entry has the state that it had."""
        with self._transaction() as connection:
            entry = connection.execute(
                starts.delete().where(starts.c.id == start).returning(starts.c.entry)
            ).scalar_one()
            self._update(connection, entry, {"state": state, "reason": reason})

    def note_handle(self, start: int, handle: str) -> None:
        """Notes how the started driver is found."""
        with self._transaction() as connection:
            connection.execute(starts.update().where(starts.c.id == start).values(handle=handle))

    def end_start(self, entry: int, reason: str, *, fault: bool) -> None:
        """Notes that an entry's driver has ended without the study's end, and why; `fault`: by itself."""
        with self._transaction() as connection:
            self._end_starts(connection, entry, time.time(), fault=fault)
            self._update(connection, entry, {"reason": reason})

    def note(self, entry: int, reason: str) -> None:
        """Notes why an entry can't go on now."""
        with self._transaction() as connection:
            self._update(connection, entry, {"reason": reason})

    def faults(self, entry: int, since: float) -> int:
        """Returns how many of an entry's drivers ended by themselves since a moment."""
        return self._count_starts(entry, (starts.c.fault == 1) & (starts.c.ended_at >= since))

    def starts_since(self, entry: int, since: float) -> int:
        """Returns how often a driver of an entry was started since a moment."""
        return self._count_starts(entry, starts.c.at >= since)

    def _count_starts(self, entry: int, which: sql.ColumnElement[bool]) -> int:
        with self._reading() as connection:
            return int(
                connection.execute(sql.select(sql.func.count()).where(starts.c.entry == entry, which)).scalar_one()
            )

    def last_starts(self) -> dict[int, Start]:
        """Returns the last start of each entry that has a place."""
        last = (
            sql.select(sql.func.max(starts.c.id)).join(entries, entries.c.id == starts.c.entry).group_by(starts.c.entry)
        )
        asked = sql.select(starts).where(starts.c.id.in_(last.where(entries.c.state.in_(LIVE))))
        with self._reading() as connection:
            return {row.entry: Start(**row._mapping) for row in connection.execute(asked)}

    def changes(self, since: float) -> list[SlotChange]:
        """Returns the changes of slots since a moment, and of each entry the last one before it."""
        before = sql.select(sql.func.max(changes.c.id)).where(changes.c.at < since).group_by(changes.c.entry)
        with self._reading() as connection:
            asked = (
                sql.select(changes.c.at, changes.c.entry.label("id"), entries.c.name, changes.c.slots)
                .join(entries, entries.c.id == changes.c.entry)
                .where((changes.c.at >= since) | (changes.c.id.in_(before) & (changes.c.slots > 0)))
                .order_by(changes.c.id)
            )
            found = connection.execute(asked).all()
        return self._valid(found, lambda row: SlotChange(**row._mapping))

    def _reading(self) -> AbstractContextManager[sql.Connection]:
        """Begins a transaction that waits for nobody who is about to write."""
        return self._transaction(reads=True)

    @contextmanager
    def _transaction(self, *, reads: bool = False) -> Iterator[sql.Connection]:
        try:
            with self._engine.connect().execution_options(reads=reads) as connection, connection.begin():
                yield connection
        except IntegrityError:
            raise
        except DBAPIError as error:
            said = str(error.orig)
            fix = "try again" if "locked" in said else "look at the disk and at that file"
            raise UnavailableError(str(self._path), f"the queue can't be kept: {said}", fix) from None

    @property
    def problem(self) -> str:
        """Returns which entries were left out so far, because their rows make no sense; empty if none were."""
        return f"{self._path}: what it says of {', '.join(self._odd.values())} makes no sense" if self._odd else ""

    def _valid(self, rows: Iterable[Any], read: Callable[[Any], Value]) -> list[Value]:
        """Returns what the rows hold, without those that this program has not written."""
        found = []
        for row in rows:
            try:
                found.append(read(row))
            except ValidationError as error:
                self._note_odd(row, error)
        return found

    def _note_odd(self, row: Any, error: ValidationError) -> None:
        fields = ", ".join(str(each["loc"][0]) for each in error.errors() if each["loc"])
        said = f"entry {row.id} ({fields})"
        if self._odd.get(row.id) != said:
            self._odd[row.id] = said
            logger.warning("%s", self.problem)

    def _entry(self, connection: sql.Connection, entry: int) -> Entry:
        row = connection.execute(_selected().where(entries.c.id == entry)).one_or_none()
        if row is None:
            there = connection.execute(sql.select(entries.c.id).where(entries.c.state.in_(LIVE))).scalars()
            told = unknown("the queue", "entry", str(entry), [str(each) for each in there])
            raise UnknownEntryError(told.place, told.problem, told.fix)
        if found := self._valid([row], _as_entry):
            return found[0]
        raise Refusal(f"entry {entry}", f"what the queue's file says of {self._odd[row.id]} makes no sense", "leave it")

    def _update(self, connection: sql.Connection, entry: int, values: dict[str, Any]) -> None:
        connection.execute(entries.update().where(entries.c.id == entry).values(values))

    def _give_slots(self, connection: sql.Connection, entry: int, slots: int) -> None:
        had = connection.execute(sql.select(entries.c.slots).where(entries.c.id == entry)).scalar_one()
        if slots != had:
            self._update(connection, entry, {"slots": slots})
            connection.execute(changes.insert().values(entry=entry, at=time.time(), slots=slots))

    def _end_starts(self, connection: sql.Connection, entry: int, now: float, *, fault: bool = False) -> None:
        open_starts = starts.update().where(starts.c.entry == entry, starts.c.ended_at.is_(None))
        connection.execute(open_starts.values(ended_at=now, fault=int(fault)))


def _inserted(connection: sql.Connection, table: sql.Table, values: Mapping[str, Any]) -> int:
    """Inserts a row and returns its key."""
    key = connection.execute(table.insert().values(values)).inserted_primary_key
    assert key is not None, "an insert returns its key"
    return int(key[0])


def _begin(connection: sql.Connection) -> None:
    """Begins a transaction; one that will write takes its lock at once, so that it never fails in the middle."""
    connection.exec_driver_sql("BEGIN" if connection.get_execution_options().get("reads") else "BEGIN IMMEDIATE")


def _selected() -> Any:
    """Returns the question for entries, with when each began and how often a driver was started again."""
    began_at = sql.func.min(starts.c.at).label("began_at")
    own = sql.func.count(sql.case((starts.c.slots > 0, 1))).label("starts")  # that of an adopted entry had no slots
    counted = sql.select(began_at, own, starts.c.entry).group_by(starts.c.entry).subquery()
    kept = [column for column in entries.c if column.name not in {"space", *SENT}]
    training = sql.func.coalesce(trainings.c.words, "").label("training")
    found = sql.select(*kept, counted.c.began_at, counted.c.starts, training)
    return found.outerjoin(counted, counted.c.entry == entries.c.id).outerjoin(
        trainings, trainings.c.entry == entries.c.id
    )


def _as_entry(row: Row[Any]) -> Entry:
    values = dict(row._mapping)
    return Entry(restarts=max(0, (values.pop("starts") or 0) - 1), **values)


def _refuse_ended(found: Entry) -> None:
    if not found.live:
        raise Refusal(f"entry {found.id}", f"{found.name} is {found.state}", "look at the queue")
