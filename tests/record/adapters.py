"""Writes folders of studies with a working adapter, and their records."""

from pathlib import Path

from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.record.sink import Sink
from krona_tune.study.folder import StudyFolder
from krona_tune.study.result import Status
from tests.record.events import RUNGS, ended, manifest, report, started
from tests.train.exported_adapters import adapter_folder, backbone_folder

STATUSES = (Status.COMPLETED, Status.STOPPED_EARLY, Status.FAILED, Status.INTERRUPTED)
SCORES = {f"cola-{number:04d}": {RUNGS[0]: 0.1 * number, RUNGS[1]: 0.2 * number} for number in range(len(STATUSES))}
"""What a store must hold after `happen`: each trial's scores by the number of examples."""
RUN_STATUSES = {"cola-0000": "FINISHED", "cola-0001": "FINISHED", "cola-0002": "FAILED", "cola-0003": "KILLED"}


def happen(sink: Sink, numbers: range = range(len(STATUSES))) -> None:
    """Sends a sink trials that end in every way."""
    for number in numbers:
        trial, status = started(number), STATUSES[number]
        reports = [report(trial, rung, score) for rung, score in enumerate(SCORES[trial.trial_id].values())]
        sink.trial_started(trial)
        for each in reports:
            sink.reported(each)
        if status is not Status.INTERRUPTED:
            sink.trial_ended(ended(trial, status, reports))


def study_folder(storage: Path, *, records: bool = True) -> StudyFolder:
    """Writes a finished study of two tasks, with an adapter of cola on a tiny BERT."""
    folder = StudyFolder(storage / "first-study")
    folder.root.mkdir(parents=True)
    folder.spec.write_text("model: tiny\n", encoding="utf-8")
    folder.page.write_text("<p>page</p>", encoding="utf-8")
    manifest("cola", "rte", synthetic=True).write(folder.manifest)
    adapter_folder(backbone_folder("bert", storage / "backbone"), folder.adapter("cola"), "cola")
    if records:
        sink = ParquetSink(folder.results)
        happen(sink)
        sink.study_ended([])
    return folder
