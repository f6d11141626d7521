"""Puts a study on machines that share a URI."""

from pathlib import Path

from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.record.storage import Storage
from krona_tune.study.folder import StudyFolder
from krona_tune.study.result import Status
from tests.record.events import ended, report, started


def on(machine: Path, uri: str) -> StudyFolder:
    """Returns the study's folder on a machine."""
    return Storage(folder=machine, uri=uri).study("first")


def recorded(folder: StudyFolder, trials: int) -> None:
    sink = ParquetSink(folder.results)
    for number in range(trials):
        trial = started(number)
        sink.trial_started(trial)
        sink.reported(report(trial, 0, 0.25 + number))
        if number < trials - 1:
            sink.trial_ended(ended(trial, Status.COMPLETED, [report(trial, 0, 0.25 + number)]))
