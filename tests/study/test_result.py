"""Tests what a trial's row says of its end, and how far a report brings it."""

import json
from dataclasses import replace
from math import nan

import pytest

from krona_tune.study.result import Report, Status
from tests.record.events import RUNGS, curve, report, started


@pytest.mark.parametrize("status", Status)
def test_a_trial_has_ended_unless_it_is_interrupted(status: Status) -> None:
    assert replace(started(3), status=status).ended is (status != "interrupted")


def test_a_report_brings_the_row_as_far_as_it_is_and_leaves_the_seconds_to_the_clock() -> None:
    begun = replace(started(3), train_seconds=7.0, evaluation_seconds=5.0, peak_memory_bytes=2_000_000)
    row = begun.with_report(report(begun, 1, 0.25))
    assert (row.rung, row.examples, row.epochs, row.score, row.metrics) == (1, RUNGS[1], 3.0, 0.25, {"matthews": 0.25})
    assert (row.busy_seconds, row.peak_memory_bytes, row.status) == (12.0, 2_000_000, Status.INTERRUPTED)
    assert row.with_report(replace(report(begun, 2, nan), peak_memory_bytes=3_000_000)).peak_memory_bytes == 3_000_000
    assert row.with_report(report(begun, 2, nan)).score is None


def test_a_report_crosses_json_whole_and_one_of_before_there_were_curves_has_none() -> None:
    told = replace(report(started(3), 1, 0.25), curve=curve(0.5, 0.25))
    plain = json.loads(json.dumps(told.to_dict()))
    assert Report.from_dict(plain) == told
    del plain["curve"]
    assert Report.from_dict(plain) == replace(told, curve=())


@pytest.mark.parametrize(("rung", "copied"), [(0, 0), (1, 340)])
def test_a_clone_has_copied_nothing_if_it_reports_the_first_rung(rung: int, copied: int) -> None:
    clone = replace(started(3), copied_examples=340)
    assert clone.with_report(report(clone, rung, 0.5)).copied_examples == copied
