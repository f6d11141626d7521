"""Writes a small study with known numbers."""

from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.study.folder import StudyFolder
from krona_tune.study.result import Status
from tests.record.events import ended, manifest, report, started

OUTBURST = 'Traceback\n  File "x.py"\nValueError: <script>alert("x")</script> & </pre>'
"""An error text that is HTML."""


def write_small_study(folder: StudyFolder) -> StudyFolder:
    """Writes a study. CoLA: a baseline and five trials of different ends; RTE: a failure, no result; MRPC: nothing."""
    manifest("cola", "rte", "mrpc").write(folder.manifest)
    folder.spec.write_text("model: tiny\n", encoding="utf-8")
    sink = ParquetSink(folder.results)
    baseline = started(0, kind="baseline", method="head_only", a_out=1, a_in=1)
    plan = [
        (baseline, Status.COMPLETED, (0.1, 0.2)),
        (started(1), Status.COMPLETED, (0.3, 0.6)),
        (started(2, a_out=12), Status.COMPLETED, (0.4, 0.6)),
        (started(3, a_out=12, learning_rate=1e-4), Status.STOPPED_EARLY, (0.1,)),
        (started(4), Status.DIVERGED, (float("nan"),)),
        (started(0, "rte"), Status.FAILED, ()),
    ]
    for trial, status, scores in plan:
        reports = [report(trial, rung, score) for rung, score in enumerate(scores)]
        sink.trial_started(trial)
        for each in reports:
            sink.reported(each)
        sink.trial_ended(ended(trial, status, reports, error=OUTBURST if status is Status.FAILED else ""))
    cut = started(5)
    sink.trial_started(cut)
    sink.reported(report(cut, 0, 0.5))
    return folder
