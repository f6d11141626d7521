"""Tests that the Parquet records survive kills, corrupt parts, resumed studies and missing values."""

import logging
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from krona_tune.adapters.method_table import METHODS
from krona_tune.record import parquet_reader, parquet_sink
from krona_tune.record.parquet_reader import REPORT_KIND, TRIAL_KIND, Kind, read, read_reports, read_trials, refuse
from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.refusal import Refusal
from krona_tune.study.result import Status
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


def table_in(results: Path, kind: Kind[Any]) -> pa.Table:
    return kind.table(read(results, kind, refuse))


def parts(results: Path) -> list[Path]:
    return sorted((results / "parts").glob("*.parquet"))


@pytest.mark.parametrize("layer_norms", [False, True, "adapted"])
def test_every_field_comes_back_equal(tmp_path: Path, layer_norms: bool | str) -> None:
    trial = started(3, layers="first 4", layer_norms=layer_norms, dropout=0.125)
    reports = [report(trial, 0, 0.25), report(trial, 1, 0.5)]
    result = replace(ended(trial, Status.FAILED, reports, error="a\nb <c>"), checkpoint="x/y", adapter_parameters=11)
    sink = ParquetSink(tmp_path)
    for each in reports:
        sink.reported(each)
    sink.trial_ended(result)
    assert (read_trials(tmp_path), read_reports(tmp_path)) == ([result], reports)
    sink.study_ended([])
    assert (read_trials(tmp_path), read_reports(tmp_path)) == ([result], reports)
    assert read_trials(tmp_path)[0].params["layer_norms"] == layer_norms


@pytest.mark.parametrize("method", METHODS)
def test_a_method_comes_back_with_the_knobs_that_it_reads(tmp_path: Path, method: str) -> None:
    trial = started(3, method=method)
    read = {name: trial.params[name] for name in trial.params if name in METHODS[method].reads or name == "method"}
    written = {"dropout_layers": "all", "accumulation": 1, "gradient_checkpointing": False}  # an older study lacks them
    result = replace(
        ended(trial, Status.COMPLETED, []),
        params={**read, "learning_rate": 0.25, "dropout": 0.0, **written},
    )
    ParquetSink(tmp_path).trial_ended(result)
    assert read_trials(tmp_path) == [result]


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


def test_a_finalists_look_at_the_test_half_comes_back_equal(tmp_path: Path) -> None:
    trial = replace(started(2, kind="finalist"), of="cola-0001")
    seen = replace(
        ended(trial, Status.COMPLETED, [report(trial, 0, 0.5)]),
        test_score=0.375,
        test_examples=93,
        test_metrics={"matthews": 0.375},
        test_resampled=(0.25, 0.5, 0.375),
        test_note="no value for 1 of 4 draws",
    )
    plain = ended(started(1), Status.COMPLETED, [])
    sink = ParquetSink(tmp_path)
    sink.trial_ended(plain)
    sink.trial_ended(seen)
    assert read_trials(tmp_path) == [plain, seen]
    sink.study_ended([])
    assert read_trials(tmp_path) == [plain, seen]
    table = table_in(tmp_path, TRIAL_KIND)
    assert table["test_metric_matthews"].to_pylist() == [None, 0.375]
    assert table["test_score"].to_pylist() == [None, 0.375]


def test_a_draw_without_a_score_keeps_its_place(tmp_path: Path) -> None:
    sink = ParquetSink(tmp_path)
    sink.trial_ended(replace(ended(started(1), Status.COMPLETED, []), test_resampled=(0.25, math.nan, 0.375)))
    sink.study_ended([])
    assert str(read_trials(tmp_path)[0].test_resampled) == "(0.25, nan, 0.375)"


def test_records_of_before_there_were_finalists_are_read(tmp_path: Path) -> None:
    ParquetSink(tmp_path).trial_ended(ended(started(1), Status.COMPLETED, []))
    [part] = parts(tmp_path)
    later = ["of", "test_score", "test_examples", "test_resampled", "test_note"]
    pq.write_table(pq.read_table(part).drop_columns(later), part)
    assert read_trials(tmp_path) == [ended(started(1), Status.COMPLETED, [])]


def test_a_kronecker_adapter_of_before_there_were_sums_has_one_term(tmp_path: Path) -> None:
    ParquetSink(tmp_path).trial_ended(ended(started(1), Status.COMPLETED, []))
    [part] = parts(tmp_path)
    pq.write_table(pq.read_table(part).drop_columns(["terms", "scaling", "init"]), part)
    [row] = read_trials(tmp_path)
    assert row.params == {**started(1).params, "terms": 1, "scaling": "plain", "init": "krona"}


def test_a_parameter_that_may_be_none_comes_back_as_none(tmp_path: Path) -> None:
    trial = started(3)
    assert trial.params["dropout"] is None
    ParquetSink(tmp_path).trial_started(trial)
    assert read_trials(tmp_path)[0].params == trial.params


def test_types_do_not_depend_on_what_came_first(tmp_path: Path) -> None:
    empty = table_in(tmp_path, TRIAL_KIND).schema
    sink = ParquetSink(tmp_path)
    sink.trial_started(started(0, scale=2))
    assert table_in(tmp_path, TRIAL_KIND).schema == empty
    assert (empty.field("score").type, empty.field("scale").type) == (pa.float64(), pa.float64())
    assert (empty.field("a_out").type, empty.field("dropout").type) == (pa.int64(), pa.float64())
    assert (empty.field("rung").type, empty.field("layer_norms").type) == (pa.int64(), pa.string())


def test_trials_with_different_metrics_share_a_table(tmp_path: Path) -> None:
    sink = ParquetSink(tmp_path)
    first, second = started(0), started(1, "rte")
    sink.reported(report(first, 0, 0.5))
    sink.reported(replace(report(second, 0, 0.75), metrics={"accuracy": 0.75}))
    sink.study_ended([])
    assert [each.metrics for each in read_reports(tmp_path)] == [{"matthews": 0.5}, {"accuracy": 0.75}]
    assert table_in(tmp_path, REPORT_KIND)["metric_accuracy"].to_pylist() == [None, 0.75]


def test_trials_are_ordered_by_their_start_and_reports_by_rung(tmp_path: Path) -> None:
    sink = ParquetSink(tmp_path)
    late, early = started(9), started(2)
    sink.trial_started(late)
    sink.trial_started(early)
    sink.reported(report(late, 1, 0.5))
    sink.reported(report(late, 0, 0.25))
    assert [each.number for each in read_trials(tmp_path)] == [2, 9]
    assert [each.rung for each in read_reports(tmp_path)] == [0, 1]


def test_the_last_report_of_a_rung_wins(tmp_path: Path) -> None:
    trial = started(0)
    sink = ParquetSink(tmp_path)
    sink.reported(report(trial, 0, 0.75))
    sink.study_ended([])
    ParquetSink(tmp_path).reported(report(trial, 0, 0.5))
    assert [each.score for each in read_reports(tmp_path)] == [0.5]


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
    monkeypatch.setattr(parquet_reader, "_ATTEMPTS", 1)
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


def empty(path: Path) -> None:
    path.write_bytes(b"")


def only_its_first_bytes(path: Path) -> None:
    path.write_bytes(b"PAR1")


def other_bytes(path: Path) -> None:
    path.write_bytes(b"nothing of the kind" * 9)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def column_twice(path: Path) -> None:
    table = pq.read_table(path)
    pq.write_table(table.append_column("seed", table["seed"]), path)


def not_utf8(path: Path) -> None:
    table = pq.read_table(path)
    bad = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe")])
    pq.write_table(table.set_column(table.column_names.index("error"), "error", bad), path)


def unknown_status(path: Path) -> None:
    table = pq.read_table(path)
    pq.write_table(table.set_column(table.column_names.index("status"), "status", pa.array(["sleeping"])), path)


def unknown_kind(path: Path) -> None:
    table = pq.read_table(path)
    pq.write_table(table.set_column(table.column_names.index("kind"), "kind", pa.array(["serch"])), path)


def no_number(path: Path) -> None:
    table = pq.read_table(path)
    pq.write_table(table.set_column(table.column_names.index("score"), "score", pa.array(["high"])), path)


def no_id(path: Path) -> None:
    pq.write_table(pq.read_table(path).drop_columns(["trial_id"]), path)


def no_method(path: Path) -> None:
    pq.write_table(pq.read_table(path).drop_columns(["method"]), path)


def lists(path: Path) -> None:
    table = pq.read_table(path)
    pq.write_table(table.append_column("shape", pa.array([[1]])), path)


def another_table(path: Path) -> None:
    pq.write_table(pa.table({"x": [1, 2]}), path)


BYTES = (empty, only_its_first_bytes, other_bytes, cut, a_folder, a_pipe)
TABLES = (column_twice, not_utf8, unknown_status, unknown_kind, no_number, no_id, no_method, lists, another_table)


@pytest.fixture(params=[*BYTES, *TABLES], ids=lambda damage: damage.__name__)
def broken(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Damages one of two trials' parts and returns it."""
    sink = ParquetSink(tmp_path)
    sink.trial_started(started(0))
    sink.trial_started(started(1))
    path = parts(tmp_path)[0]
    request.param(path)
    return path


def names_below(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


def test_a_reader_refuses_what_it_cannot_read_and_renames_nothing(broken: Path, tmp_path: Path) -> None:
    before = names_below(tmp_path)
    with pytest.raises(
        Refusal, match=f"{broken.name}: can't be read .*; resume the study: its driver renames the file"
    ):
        read_trials(tmp_path)
    assert names_below(tmp_path) == before


def test_a_reader_may_go_on_without_what_it_cannot_read(broken: Path, tmp_path: Path) -> None:
    without: list[Path] = []
    assert [each.number for each in read_trials(tmp_path, lambda path, refusal: without.append(path))] == [1]
    assert without == [broken]


def test_the_driver_sets_aside_what_it_cannot_read_and_uses_the_rest(
    broken: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        sink = ParquetSink(tmp_path)
    assert sink.unreadable == [broken]
    assert broken.with_name(broken.name + ".corrupt").exists()
    assert f"{broken} can't be read" in caplog.text
    assert [each.number for each in read_trials(tmp_path)] == [1]
    sink.study_ended([])
    assert [each.number for each in read_trials(tmp_path)] == [1]


def test_what_is_damaged_while_the_study_runs_is_written_again_at_its_end(tmp_path: Path) -> None:
    sink = ParquetSink(tmp_path)
    sink.trial_started(started(0))
    sink.study_ended([])
    sink.trial_started(started(1))
    other_bytes(tmp_path / "trials.parquet")
    sink.study_ended([])
    assert [each.number for each in read_trials(tmp_path)] == [0, 1]


def test_a_file_that_was_set_aside_is_not_overwritten_by_the_next(tmp_path: Path) -> None:
    for content in (b"first", b"second", b"third"):
        (tmp_path / "reports.parquet").write_bytes(content)
        ParquetSink(tmp_path)
    kept = [tmp_path / f"reports.parquet.corrupt{more}" for more in ("", "-2", "-3")]
    assert [path.read_bytes() for path in kept] == [b"first", b"second", b"third"]


@pytest.mark.parametrize("error", [pa.ArrowMemoryError("malloc failed"), OSError(5, "Input/output error")])
def test_what_is_no_fault_of_the_file_is_not_taken_for_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    ParquetSink(tmp_path).trial_started(started(0))
    before = names_below(tmp_path)

    def failing(path: Path) -> None:
        raise error

    with monkeypatch.context() as no_memory:
        no_memory.setattr(pq, "ParquetFile", failing)
        for use in (lambda: read_trials(tmp_path, lambda path, refusal: None), lambda: ParquetSink(tmp_path)):
            with pytest.raises(Refusal, match="can't be read now"):
                use()
    assert names_below(tmp_path) == before
    assert [each.number for each in read_trials(tmp_path)] == [0]


@pytest.mark.parametrize("place", ["results", "results/parts"])
def test_records_in_what_is_no_folder_are_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text("a file", encoding="utf-8")
    with pytest.raises(Refusal, match="is no folder"):
        read_trials(tmp_path / "results")
    with pytest.raises(Refusal, match="no records can be kept here"):
        ParquetSink(tmp_path / "results")


def test_an_unfinished_file_is_not_read_and_swept_away(tmp_path: Path) -> None:
    ParquetSink(tmp_path).trial_started(started(0))
    unfinished = tmp_path / "parts" / ".trials-000000002-abc.parquet.tmp"
    unfinished.write_bytes(b"PAR1")
    assert len(read_trials(tmp_path)) == 1
    ParquetSink(tmp_path)
    assert not unfinished.exists()


def test_a_reader_is_not_fooled_by_a_compaction_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first part is read; then its trial ends and all parts are compacted before the second is read."""
    sink = ParquetSink(tmp_path)
    trial = started(0)
    sink.trial_started(trial)
    sink.trial_started(started(1))
    read_file = pq.ParquetFile
    opened: list[Path] = []

    def open_late(path: Path) -> pq.ParquetFile:
        opened.append(path)
        if len(opened) == 2:
            sink.trial_ended(ended(trial, Status.COMPLETED, []))
            sink.study_ended([])
        return read_file(path)

    monkeypatch.setattr(pq, "ParquetFile", open_late)
    assert [each.status for each in read_trials(tmp_path)] == [Status.COMPLETED, Status.INTERRUPTED]


def test_nothing_recorded_reads_as_nothing(tmp_path: Path) -> None:
    assert (read_trials(tmp_path / "none"), read_reports(tmp_path / "none")) == ([], [])


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


def test_reading_needs_neither_torch_nor_ray_nor_mlflow() -> None:
    heavy = (
        "import sys, krona_tune.record.parquet_sink as _; print(sorted({'torch', 'ray', 'mlflow'} & set(sys.modules)))"
    )
    output = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"


def test_a_field_of_peft_may_be_a_word_for_one_method_and_a_number_for_another(tmp_path: Path) -> None:
    sink, expected = ParquetSink(tmp_path), []
    for number, value in enumerate((True, "gaussian", 3, 0.5)):
        trial = started(number, method="peft:LoRA", peft_init_lora_weights=value)
        expected.append(ended(trial, Status.COMPLETED, []))
        sink.trial_ended(expected[-1])
    assert read_trials(tmp_path) == expected
    sink.study_ended([])
    assert read_trials(tmp_path) == expected
    assert [row.params["peft_init_lora_weights"] for row in read_trials(tmp_path)] == [True, "gaussian", 3, 0.5]
