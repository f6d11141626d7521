"""Tests that the Parquet records survive kills, corrupt parts, resumed studies and missing values."""

import logging
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from krona_tune.record import parquet_reader, parquet_sink
from krona_tune.record.parquet_reader import TRIAL_KIND, read_reports, read_trials
from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.study.result import Status
from tests.record.damage import other_bytes, parts, table_in
from tests.record.events import ended, report, started

KILLED = """
import sys, time
from pathlib import Path
from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.study.result import Status
from tests.record.events import ended, report, started

sink = ParquetSink(Path(sys.argv[1]))
done = started(0)
sink.trial_started(done)
sink.reported(report(done, 0, 0.25))
sink.trial_ended(ended(done, Status.COMPLETED, [report(done, 0, 0.25)]))
number = 1
while True:
    trial = started(number)
    sink.trial_started(trial)
    sink.reported(report(trial, 0, 0.5))
    print(number, flush=True)
    number += 1
"""


def test_what_finds_no_room_is_written_before_what_comes_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trial, sink = started(1), ParquetSink(tmp_path)
    sink.trial_started(trial)
    with monkeypatch.context() as full:
        full.setattr("os.fsync", full_disk)
        for rung, score in enumerate((0.25, 0.5)):
            with pytest.raises(OSError, match="No space left"):
                sink.reported(report(trial, rung, score))
        assert read_reports(tmp_path) == []
        assert list((tmp_path / "parts").glob(".*")) == []  # no half-written file takes the remaining space
    sink.trial_ended(ended(trial, Status.COMPLETED, []))
    assert [each.score for each in read_reports(tmp_path)] == [0.25, 0.5]
    assert [each.status for each in read_trials(tmp_path)] == [Status.COMPLETED]


def test_what_found_no_room_is_written_when_the_study_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trial, sink = started(1), ParquetSink(tmp_path)
    with monkeypatch.context() as full:
        full.setattr("os.fsync", full_disk)
        with pytest.raises(OSError, match="No space left"):
            sink.trial_ended(ended(trial, Status.COMPLETED, []))
    sink.study_ended([])
    assert [each.status for each in read_trials(tmp_path)] == [Status.COMPLETED]


def full_disk(descriptor: int) -> None:
    raise OSError(28, "No space left on device")


def test_compaction_leaves_one_file_a_table_and_is_idempotent(tmp_path: Path) -> None:
    sink = ParquetSink(tmp_path)
    for number in range(3):
        trial = started(number)
        sink.trial_started(trial)
        sink.trial_ended(ended(trial, Status.COMPLETED, []))
    before = table_in(tmp_path, TRIAL_KIND)
    assert len(parts(tmp_path)) == 6
    for _ in range(2):
        sink.study_ended([])
        assert parts(tmp_path) == []
        assert pq.read_table(tmp_path / "trials.parquet").num_rows == 3
        assert table_in(tmp_path, TRIAL_KIND).equals(before)


def test_a_later_session_writes_after_the_parts_that_are_there(tmp_path: Path) -> None:
    trial = started(0)
    ParquetSink(tmp_path).trial_started(trial)
    ParquetSink(tmp_path).trial_ended(ended(trial, Status.COMPLETED, []))
    counters = [int(path.name.split("-")[1]) for path in parts(tmp_path)]
    assert counters == [1, 2]
    assert [each.status for each in read_trials(tmp_path)] == [Status.COMPLETED]


FILE_CALLS = ((os, "open"), (os, "fsync"), (Path, "replace"), (Path, "unlink"), (pq, "write_table"))
"""What a sink calls to change files."""


def before_each_file_call(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], None]) -> None:
    """Makes something happen before every call by which a sink changes files."""

    def watched(call: Callable[..., Any]) -> Callable[..., Any]:
        def calling(*given: Any, **named: Any) -> Any:
            happens()
            return call(*given, **named)

        return calling

    for owner, name in FILE_CALLS:
        monkeypatch.setattr(owner, name, watched(getattr(owner, name)))


def event(sink: ParquetSink, number: int) -> None:
    """Records the event of a number: of each trial its start, its report, then its end."""
    trial, turn = started(number // 3), number % 3
    reports = [report(trial, 0, 0.25)]
    if turn == 0:
        sink.trial_started(trial)
    elif turn == 1:
        sink.reported(*reports)
    else:
        sink.trial_ended(ended(trial, Status.COMPLETED, reports))


def recorded(results: Path) -> list[str]:
    """Returns what a reader finds: each trial's status, and that it has reported."""
    found = [f"{row.trial_id} {row.status}" for row in read_trials(results)]
    return sorted([*found, *(f"{each.trial_id} reported" for each in read_reports(results))])


def after(events: int) -> list[str]:
    """Returns what a reader has to find after so many events."""
    found = {}
    for number in range(events):
        trial = started(number // 3).trial_id
        if number % 3 == 1:
            found[f"{trial} reported"] = "reported"
        else:
            found[trial] = "completed" if number % 3 else "interrupted"
    return sorted(f"{name.split()[0]} {said}" for name, said in found.items())


EVENTS = 7


@pytest.fixture
def early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes a sink compact a table at its fourth part, and saves the waiting for a disk."""
    monkeypatch.setattr(os, "fsync", lambda file: None)
    monkeypatch.setattr(parquet_sink, "MOST_PARTS", 4)


def test_a_running_study_has_few_files_and_all_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda file: None)
    sink, most = ParquetSink(tmp_path), 0
    for number in range(100):
        event(sink, number)
        most = max(most, len(list(tmp_path.rglob("*.parquet"))))
    assert most <= 2 * (parquet_sink.MOST_PARTS + 1)
    assert recorded(tmp_path) == after(100)


def test_parts_are_as_few_as_one_to_many_rows(tmp_path: Path, early: None) -> None:
    """A larger table is compacted less often: an event then costs the same."""
    sink, compacted = ParquetSink(tmp_path), tmp_path / "reports.parquet"
    rows = []
    for number in range(26):
        sink.reported(report(started(number), 0, 0.25))
        if compacted.exists() and (found := pq.read_metadata(compacted).num_rows) not in rows:
            rows.append(found)
    assert rows == [4, 8, 12, 16, 20, 25]


@pytest.mark.slow
def test_a_writer_that_is_killed_at_any_step_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, early: None
) -> None:
    """A reader looks before every call that changes a file, and a driver goes on with what is there then."""
    results, done, left = tmp_path / "results", 0, []
    sink = ParquetSink(results)

    def read_and_keep() -> None:
        assert recorded(results) in (after(done), after(done + 1))
        left.append((done, Path(shutil.copytree(results, tmp_path / str(len(left))))))

    with monkeypatch.context() as watched:
        before_each_file_call(watched, read_and_keep)
        for done in range(EVENTS):
            event(sink, done)
        sink.study_ended([])
    assert len(left) > 6 * EVENTS
    for ended_by_then, killed in left:
        goes_on = ParquetSink(killed)
        assert list(killed.rglob("*.tmp")) == []
        event(goes_on, ended_by_then)
        assert recorded(killed) == after(ended_by_then + 1)


@pytest.mark.parametrize("pace", [1, 2, 3])
def test_a_reader_that_is_slow_finds_all_that_was_there_when_it_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, early: None, pace: int
) -> None:
    """Before a reader opens its next file, the writer writes some events more, and compacts meanwhile; to read again
    would not help, as there is always another compaction."""
    monkeypatch.setattr(parquet_reader, "ATTEMPTS", 1)
    read_file = pq.ParquetFile
    for begun in range(1, EVENTS):
        results = tmp_path / str(begun)
        sink, done = ParquetSink(results), begun
        for number in range(begun):
            event(sink, number)

        def open_late(path: Path, sink: ParquetSink = sink) -> pq.ParquetFile:
            nonlocal done
            for _ in range(pace):
                event(sink, done)
                done += 1
            return read_file(path)

        with monkeypatch.context() as slow:
            slow.setattr(pq, "ParquetFile", open_late)
            rows = {row.trial_id: row.status for row in read_trials(results)}
        for trial, status in (each.split() for each in after(begun)):
            assert status == "reported" or rows[trial] in (status, Status.COMPLETED)


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), pa.ArrowInvalid("no room")], ids=["disk", "Arrow"]
)
def test_a_table_that_can_not_be_compacted_keeps_its_parts_and_is_compacted_later(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    early: None,
    error: Exception,
) -> None:
    sink, moved = ParquetSink(tmp_path), Path.replace

    def no_room(path: Path, target: Path) -> Path:
        if target.name == "reports.parquet":
            raise error
        return moved(path, target)

    with monkeypatch.context() as full, caplog.at_level(logging.WARNING):
        full.setattr(Path, "replace", no_room)
        for number in range(9):
            sink.reported(report(started(number), 0, 0.25))
    assert len(re.findall("reports.parquet can't be compacted now: .*[nN]o (space left|room)", caplog.text)) == 2
    assert (len(parts(tmp_path)), len(read_reports(tmp_path))) == (9, 9)
    for number in range(9, 12):
        sink.reported(report(started(number), 0, 0.25))
    assert (len(parts(tmp_path)), len(read_reports(tmp_path))) == (0, 12)


def test_many_parts_of_an_earlier_driver_are_compacted_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(2):  # each by its own driver
        ParquetSink(tmp_path).reported(report(started(number), 0, 0.25))
    assert len(parts(tmp_path)) == 2
    monkeypatch.setattr(parquet_sink, "MOST_PARTS", 2)
    ParquetSink(tmp_path)
    assert (parts(tmp_path), len(read_reports(tmp_path))) == ([], 2)


def test_a_kill_while_compacting_loses_and_ages_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = ParquetSink(tmp_path)
    trial = started(0)
    sink.trial_started(trial)
    sink.trial_ended(ended(trial, Status.COMPLETED, []))
    removed = Path.unlink

    def unlink_once(path: Path, missing_ok: bool = False) -> None:
        removed(path, missing_ok)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "unlink", unlink_once)
    with pytest.raises(KeyboardInterrupt):
        sink.study_ended([])
    monkeypatch.undo()
    assert len(parts(tmp_path)) == 1
    assert [each.status for each in read_trials(tmp_path)] == [Status.COMPLETED]
    ParquetSink(tmp_path).study_ended([])
    assert [each.status for each in read_trials(tmp_path)] == [Status.COMPLETED]


def test_what_is_damaged_while_the_study_runs_is_written_again_at_its_end(tmp_path: Path) -> None:
    sink = ParquetSink(tmp_path)
    sink.trial_started(started(0))
    sink.study_ended([])
    sink.trial_started(started(1))
    other_bytes(tmp_path / "trials.parquet")
    sink.study_ended([])
    assert [each.number for each in read_trials(tmp_path)] == [0, 1]


def test_a_killed_process_leaves_interrupted_rows_and_its_reports(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        while int(child.stdout.readline()) < 5:
            pass
        child.send_signal(signal.SIGKILL)
        printed = child.stdout.read().split()
    announced = max((int(line) for line in printed), default=5)
    trials, reports = read_trials(tmp_path), read_reports(tmp_path)
    assert trials[0].status is Status.COMPLETED
    assert {each.status for each in trials[1:]} == {Status.INTERRUPTED}
    assert [each.number for each in trials] == list(range(len(trials)))
    assert len(trials) > announced
    assert {each.trial_id for each in reports} >= {each.trial_id for each in trials[: announced + 1]}
    assert not list(tmp_path.rglob("*.corrupt"))
