"""Tests that a trial without a known end has the progress of its reports, whatever its row says."""

from dataclasses import replace
from math import inf, isnan, nan
from pathlib import Path

import pytest

from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.record.records import Records, as_far_as_reported, read_records
from krona_tune.study.result import Report, Status, TrialResult


def row(**more: object) -> TrialResult:
    plain = TrialResult(
        trial_id="rte-003", task="rte", kind="search", number=3, seed=5, fingerprint="f", params={"method": "krona"}
    )
    return replace(plain, **more)  # type: ignore[arg-type]


def report(rung: int, train_seconds: float, evaluation_seconds: float, peak: int) -> Report:
    return Report(
        trial_id="rte-003",
        task="rte",
        rung=rung,
        examples=40 * (rung + 1),
        epochs=rung + 1.0,
        step=5 * (rung + 1),
        score=0.5 + 0.1 * rung,
        metrics={"accuracy": 0.5 + 0.1 * rung},
        train_loss=0.7,
        train_seconds=train_seconds,
        evaluation_seconds=evaluation_seconds,
        peak_memory_bytes=peak,
    )


REPORTS = [report(0, 10, 1, 700), report(1, 20, 2, 900), report(2, 40, 3, 800)]


def test_the_row_of_a_killed_driver_has_the_seconds_and_the_score_of_all_its_reports() -> None:
    found = as_far_as_reported(row(), REPORTS)
    assert (found.train_seconds, found.evaluation_seconds, found.peak_memory_bytes) == (70, 6, 900)
    assert (found.rung, found.score, found.examples) == (2, 0.7, 120)
    assert found.status is Status.INTERRUPTED


def test_a_row_that_was_taken_up_once_before_is_counted_from_its_reports_too() -> None:
    taken_up = row(rung=0, score=0.5, examples=40, train_seconds=10, evaluation_seconds=1, peak_memory_bytes=700)
    assert as_far_as_reported(taken_up, REPORTS).train_seconds == 70


def test_the_row_of_a_killed_driver_counts_each_second_on_the_devices_of_its_start() -> None:
    moved = row(rung=0, examples=40, train_seconds=10, evaluation_seconds=1, device="cpu", devices=4, device_seconds=11)
    assert as_far_as_reported(moved, REPORTS).device_seconds == 11 + 4 * (20 + 2 + 40 + 3)


def test_a_clones_copied_examples_are_known_from_its_first_report() -> None:
    clone = row(copied_examples=40)
    assert as_far_as_reported(clone, REPORTS[1:]).own_examples == 120 - 40
    assert as_far_as_reported(clone, REPORTS).own_examples == 120


def test_a_row_that_has_ended_stays_as_it_is() -> None:
    ended = row(status=Status.STOPPED_EARLY, rung=1, score=0.6, train_seconds=30)
    assert as_far_as_reported(ended, REPORTS) is ended


def test_reports_that_were_lost_take_nothing_from_a_row() -> None:
    known = row(rung=2, score=0.7, train_seconds=70, evaluation_seconds=6)
    assert as_far_as_reported(known, REPORTS[:1]) is known
    assert as_far_as_reported(known, [REPORTS[2]]).train_seconds == 70


def test_a_study_is_read_with_its_trials_as_far_as_they_came(tmp_path: Path) -> None:
    assert read_records(tmp_path / "results") == Records()
    sink = ParquetSink(tmp_path / "results")
    sink.trial_started(row(started_at=5.0))
    for each in REPORTS:
        sink.reported(each)
    found = read_records(tmp_path / "results")
    assert (found.trials[0].train_seconds, found.reports) == (70, tuple(REPORTS))


@pytest.mark.parametrize("score", [nan, inf, -inf])
def test_a_score_that_is_no_number_makes_a_trial_of_an_earlier_version_one_that_diverged(
    tmp_path: Path, score: float
) -> None:
    sink = ParquetSink(tmp_path / "results")
    last = replace(REPORTS[2], score=score, metrics={"accuracy": score})
    statuses = [Status.COMPLETED, Status.STOPPED_EARLY, Status.INTERRUPTED, Status.FAILED, Status.COMPLETED]
    for number, status in enumerate(statuses):
        held = None if number % 2 or isnan(score) else score
        sink.trial_ended(row(trial_id=f"rte-{number:03d}", number=number, status=status, score=held, rung=2))
    sink.trial_ended(row(trial_id="all", number=9, kind="full_data", status=Status.COMPLETED, rung=2))
    sink.trial_started(row(trial_id="killed", number=10))
    sink.reported(replace(last, trial_id="killed"))
    found = read_records(tmp_path / "results").trials
    assert {each.score for each in found} == {None}
    assert [str(each.status) for each in found] == [
        "diverged", "diverged", "interrupted", "failed", "diverged", "completed", "interrupted",
    ]  # fmt: skip
    assert "no finite number" in found[0].error
    assert found[3].error == ""
