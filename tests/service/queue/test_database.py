"""Tests the queue's file: what it keeps, what it refuses, and that nothing is half written."""

import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection, event, text
from sqlalchemy.engine import Engine

from krona_tune.refusal import Refusal
from krona_tune.service.queue import database
from krona_tune.service.queue.database import Database, UnavailableError, UnknownEntryError
from krona_tune.service.queue.database_schema import MIGRATIONS
from krona_tune.service.queue.entry import Submission


def submission(name: str = "first", priority: int = 1) -> Submission:
    return Submission(
        name=name, space="model: m\n", priority=priority, notify=("json://here",), tracking_uri="http://m"
    )


@pytest.fixture
def kept(tmp_path: Path) -> Database:
    return Database(tmp_path / "queue.db")


def test_what_is_submitted_is_kept(kept: Database, tmp_path: Path) -> None:
    entry = kept.add(submission(priority=3), "ann")
    assert (entry.id, entry.name, entry.person, entry.priority, entry.state) == (1, "first", "ann", 3, "queued")
    again = Database(tmp_path / "queue.db")
    assert again.live() == [entry]
    assert again.submission(1) == submission(priority=3)


def test_a_name_has_one_place(kept: Database) -> None:
    kept.add(submission(), "ann")
    with pytest.raises(Refusal, match="name: 'first' has a place in the queue; choose another name"):
        kept.add(submission(), "bo")
    kept.remove(1, "ann")
    assert kept.add(submission(), "bo").id == 2
    with pytest.raises(Refusal, match="another study named 'first' has a place"):
        kept.put_back(1)


def test_the_queue_is_not_endless(kept: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "MOST_QUEUED", 2)
    for name in ("a", "b"):
        kept.add(submission(name), "ann")
    with pytest.raises(Refusal, match="the queue: 2 studies have a place"):
        kept.add(submission("c"), "ann")


def test_an_entry_moves_ends_and_comes_back(kept: Database) -> None:
    kept.add(submission(), "ann")
    assert kept.move(1, 7).priority == 7
    start = kept.begin_start(1, 2, None)
    kept.note_handle(start.id, "77 1.5 first")
    assert (kept.entry(1).state, kept.last_starts()[1].handle) == ("running", "77 1.5 first")
    wanted = kept.remove(1, "bo")
    assert (wanted.state, wanted.removed_by) == ("running", "bo")
    kept.end(1, "removed", "bo removed it")
    assert (kept.live(), [entry.reason for entry in kept.ended()]) == ([], ["bo removed it"])
    for refused in (lambda: kept.move(1, 2), lambda: kept.remove(1, "ann")):
        with pytest.raises(Refusal, match="first is removed"):
            refused()
    back = kept.put_back(1)
    assert (back.state, back.removed_by, back.reason, back.restarts) == ("queued", "", "", 0)
    with pytest.raises(Refusal, match="has a place"):
        kept.put_back(1)
    with pytest.raises(UnknownEntryError, match="unknown entry '9'"):
        kept.entry(9)


def test_only_ends_that_were_faults_count(kept: Database) -> None:
    kept.add(submission(), "ann")
    for fault in (True, False, True):
        kept.begin_start(1, 1, None)
        kept.end_start(1, "it died", fault=fault)
    assert (kept.faults(1, 0.0), kept.faults(1, time.time() + 1)) == (2, 0)
    assert kept.entry(1).restarts == 2
    kept.end(1, "halted", "too often")
    kept.put_back(1)
    assert kept.faults(1, 0.0) == 0, "what is put back begins with a clean slate"


def test_the_first_driver_of_an_adopted_study_is_no_restart(kept: Database) -> None:
    kept.adopt(submission(), "ann", None)
    assert kept.last_starts()[1].ended_at is not None
    kept.begin_start(1, 1, None)
    assert kept.entry(1).restarts == 0
    kept.end_start(1, "it died", fault=True)
    kept.begin_start(1, 1, None)
    assert kept.entry(1).restarts == 1


def test_a_start_of_nothing_is_taken_back(kept: Database) -> None:
    kept.add(submission(), "ann")
    start = kept.begin_start(1, 1, None)
    kept.drop_start(start.id, "queued", "no process could be made")
    entry = kept.entry(1)
    assert (entry.state, entry.reason, entry.began_at, kept.last_starts()) == (
        "queued",
        "no process could be made",
        None,
        {},
    )
    kept.begin_start(1, 1, None)
    kept.end_start(1, "it died", fault=True)
    kept.drop_start(kept.begin_start(1, 1, None).id, "running", "not now")
    assert kept.entry(1).state == "running"


def test_changes_of_slots_are_kept_once_each(kept: Database) -> None:
    kept.add(submission(), "ann")
    for slots in (2, 2, 1, 1, 3):
        kept.give_slots({1: slots})
    kept.end(1, "finished", "")
    assert [(each.name, each.slots) for each in kept.changes(0.0)] == [
        ("first", 2),
        ("first", 1),
        ("first", 3),
        ("first", 0),
    ]
    assert kept.changes(time.time() + 1) == [], "who holds nothing is of no interest later"
    kept.put_back(1)
    kept.give_slots({1: 2})
    assert [each.slots for each in kept.changes(time.time() + 1)] == [2], "what held on from before is shown"


def test_a_queued_entry_that_is_removed_holds_no_slots_any_more(kept: Database) -> None:
    kept.add(submission("first"), "ann")
    kept.give_slots({1: 2})
    kept.remove(1, "bo")
    kept.give_slots({1: 3})
    assert (kept.entry(1).slots, [each.slots for each in kept.changes(0.0)]) == (0, [2, 0])


def test_an_older_file_is_brought_to_this_format(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    Database(path).add(submission(), "ann")

    def add_column(connection: Connection) -> None:
        connection.execute(text("ALTER TABLE entries ADD COLUMN note TEXT DEFAULT 'none'"))

    newer = Database(path, (*MIGRATIONS, add_column))
    assert [entry.name for entry in newer.live()] == ["first"]
    known = len(MIGRATIONS)
    assert _format(path) == known + 1
    with pytest.raises(Refusal, match=rf"newer krona_tune \(format {known + 1}, this version reads {known}\)"):
        Database(path)
    assert Database(path, (*MIGRATIONS, add_column)).live(), "a step that was done was done again"


def test_a_file_without_full_trainings_gets_a_place_for_them(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    Database(path, MIGRATIONS[:1])
    kept = Database(path)
    assert kept.add(submission(), "ann").training == ""
    assert kept.add_training(submission("second"), "ann", ["--task", "a b"]).training == "--task 'a b'"
    assert [entry.training for entry in kept.live()] == ["", "--task 'a b'"]


def test_a_step_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    Database(path).add(submission(), "ann")

    def half(connection: Connection) -> None:
        connection.execute(text("DELETE FROM entries"))
        raise RuntimeError("the machine fails")

    with pytest.raises(RuntimeError, match="fails"):
        Database(path, (*MIGRATIONS, half))
    assert [entry.name for entry in Database(path).live()] == ["first"]


def test_what_is_no_such_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(Refusal, match=r"queue\.db: the queue can't be kept: file is not a database"):
        Database(path)


def test_a_locked_file_is_waited_for_and_then_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.3)
    path = tmp_path / "queue.db"
    kept = Database(path)
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(UnavailableError, match="database is locked; try again"):
        kept.add(submission(), "ann")
    monkeypatch.setattr(database, "BUSY_SECONDS", 60)
    threading.Timer(0.1, other.rollback).start()
    assert Database(path).add(submission(), "ann").id == 1, "a short lock was not waited for"


def test_a_full_disk_is_refused_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    kept = Database(path)
    kept.add(submission(), "ann")
    with closing(sqlite3.connect(path)) as looking:
        [pages] = looking.execute("PRAGMA page_count").fetchone()

    def fill(connection: sqlite3.Connection, _: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages}")

    event.listen(Engine, "connect", fill)
    try:
        with pytest.raises(UnavailableError, match="database or disk is full"):
            kept.add(submission("second").model_copy(update={"space": "x" * 100_000}), "ann")
    finally:
        event.remove(Engine, "connect", fill)
    assert [entry.name for entry in Database(path).live()] == ["first"]


@pytest.mark.parametrize(
    ("column", "value", "field"),
    [
        ("state", "flying", "state"),
        ("name", "../../evil", "name"),
        ("name", "queue.db", "name"),
        ("name", "", "name"),
        ("priority", "99", "priority"),
        ("slots", "-1", "slots"),
        ("submitted_at", "yesterday", "submitted_at"),
        ("submitted_at", "9e999", "submitted_at"),
        ("ended_at", "1e300", "ended_at"),
    ],
)
def test_a_row_that_makes_no_sense_is_left_out_and_told_of(
    kept: Database, tmp_path: Path, column: str, value: str, field: str
) -> None:
    for name in ("first", "second"):
        kept.add(submission(name), "ann")
    assert kept.problem == ""
    with closing(sqlite3.connect(tmp_path / "queue.db")) as other, other:
        other.execute(f"UPDATE entries SET {column} = ? WHERE id = 1", (value,))
    assert [entry.name for entry in (*kept.live(), *kept.ended())] == ["second"]
    assert kept.problem == f"{tmp_path}/queue.db: what it says of entry 1 ({field}) makes no sense"
    for asked in (lambda: kept.remove(1, "ann"), lambda: kept.put_back(1)):
        with pytest.raises(Refusal, match=f"entry 1: what the queue's file says of entry 1 .{field}. makes no sense"):
            asked()


def test_of_a_row_that_was_mended_in_part_what_is_left_is_told(kept: Database, tmp_path: Path) -> None:
    kept.add(submission(), "ann")
    for column, value in {"state": "flying", "submitted_at": "yesterday"}.items():
        with closing(sqlite3.connect(tmp_path / "queue.db")) as other, other:
            other.execute("UPDATE entries SET state = 'queued' WHERE id = 1")
            other.execute(f"UPDATE entries SET {column} = ? WHERE id = 1", (value,))
        assert kept.live() == kept.ended() == []
        assert kept.problem.endswith(f"entry 1 ({column}) makes no sense")


@pytest.mark.parametrize(("at", "slots"), [("5", "'many'"), ("1e300", "3"), ("5", "-3")])
def test_a_change_of_slots_that_makes_no_sense_is_left_out(kept: Database, tmp_path: Path, at: str, slots: str) -> None:
    kept.add(submission(), "ann")
    kept.give_slots({1: 2})
    with closing(sqlite3.connect(tmp_path / "queue.db")) as other, other:
        other.execute(f"INSERT INTO changes (entry, at, slots) VALUES (1, {at}, {slots})")
    assert [each.slots for each in kept.changes(0.0)] == [2]


def _format(path: Path) -> int:
    with sqlite3.connect(path) as opened:
        return int(opened.execute("PRAGMA user_version").fetchone()[0])
