"""Tests what a reader of the records does with damaged, unfinished and vanishing files."""

import logging
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from krona_tune.record.parquet_reader import read_reports, read_trials
from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.refusal import Refusal
from krona_tune.study.result import Status
from tests.record.damage import BYTES, TABLES, parts
from tests.record.events import ended, report, started


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


def test_a_file_that_was_set_aside_is_not_overwritten_by_the_next(tmp_path: Path) -> None:
    for content in (b"first", b"second", b"third"):
        (tmp_path / "reports.parquet").write_bytes(content)
        ParquetSink(tmp_path)
    kept = [tmp_path / f"reports.parquet.corrupt{more}" for more in ("", "-2", "-3")]
    assert [path.read_bytes() for path in kept] == [b"first", b"second", b"third"]
