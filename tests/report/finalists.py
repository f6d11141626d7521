"""Makes up finalists, a search of known sizes and a head, and the page that they have."""

from dataclasses import replace

from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.report.study_page import write_report
from krona_tune.study.folder import StudyFolder
from krona_tune.study.result import TrialResult
from tests.report.pages import Page, read
from tests.study.final_rows import repeats, row

KNOBS = {"method": "krona", "a_out": 16, "a_in": 24, "scale": 4.0}


SEARCHED = row("000", "search", 0.7, params=KNOBS)


HEAD = row("head-0", "baseline", 0.5, params={"method": "head_only"}, trainable_percent=0.0)


LORA = row("001", "search", 0.6, params={"method": "lora", "rank": 2}, trainable_percent=0.2)


def final_rows(task: str = "rte", shift: float = 0.0) -> list[TrialResult]:
    """Returns a winner of .60 on test, a second that is tied with it, a third that is not, and a head of .45."""
    krona = repeats("000", (0.66, 0.7), (0.58 + shift, 0.62 + shift), task=task, test_resampled=(0.5, 0.75))
    return [
        *(replace(each, params=KNOBS, of=f"{task}-000") for each in krona),
        *repeats(f"{task}-001", (0.6, 0.6), (0.57, 0.63), task=task, method="lora"),
        *repeats(f"{task}-002", (0.5, 0.5), (0.381, 0.419), task=task),
        *repeats(f"{task}-head-0", (0.5, 0.5), (0.45, 0.45), task=task, method="head_only"),
    ]


def page(folder: StudyFolder, rows: list[TrialResult]) -> Page:
    sink = ParquetSink(folder.results)
    for each in rows:
        sink.trial_ended(each)
    return read(write_report(folder))


def sized(task: str, *points: tuple[int, float]) -> list[TrialResult]:
    return [
        row(f"{number:03d}", "search", score, task=task, number=number, trainable_parameters=size)
        for number, (size, score) in enumerate(points)
    ]
