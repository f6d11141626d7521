"""Tests what is told of a trial that runs now."""

from dataclasses import replace

import pytest

from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.record.records import read_records
from krona_tune.report.present import trials_under_way
from krona_tune.study.folder import StudyFolder
from tests.record.events import RUNGS, manifest, report, started


@pytest.mark.parametrize(
    ("evaluated", "reached"),
    [((), 0), ((170,), 0), ((170, 340), 1), ((340, 680, 1020, 1360), 2), (RUNGS, 3)],
)
def test_a_trial_that_is_evaluated_between_its_rungs_has_reached_no_more_than_there_are(
    folder: StudyFolder, evaluated: tuple[int, ...], reached: int
) -> None:
    trial, facts, sink = started(7), manifest("cola"), ParquetSink(folder.results)
    sink.trial_started(trial)
    for number, examples in enumerate(evaluated):
        sink.reported(replace(report(trial, 0, 0.5), rung=number, examples=examples))
    recorded = replace(read_records(folder.results), running=frozenset({trial.trial_id}))
    [running] = trials_under_way(folder, facts, recorded)
    assert (running.rung, running.rungs) == (reached, len(RUNGS))
