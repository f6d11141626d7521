"""Tests what the charts show, read from their figures."""

from dataclasses import replace

import pytest

from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.record.records import Records
from krona_tune.report.chart import Chart
from krona_tune.report.study_results import StudyResults, read_results
from krona_tune.report.task_charts import draw_charts
from krona_tune.study.folder import StudyFolder
from krona_tune.study.manifest import read_manifest
from krona_tune.study.result import Status
from tests.record.events import ended, report, started
from tests.report.many_trials import subject_of
from tests.study.final_rows import row


def test_every_chart_has_a_name_of_its_own(drawn: dict[str, Chart]) -> None:
    assert list(drawn) == ["parameters", "steps", "curves", "scale", "shapes"]


def test_each_ranked_trial_is_a_point_against_its_parameters(drawn: dict[str, Chart]) -> None:
    early, full, front, head = drawn["parameters"].figure.data
    assert sorted(zip(full.x, full.y, strict=True)) == [(2001, 0.6), (2002, 0.6)]
    assert sorted(early.y) == [0.1, 0.5]
    assert (list(front.x), list(front.y)) == ([2001], [0.6])
    assert (list(head.x), list(head.y)) == ([2000], [0.2])


def test_a_point_says_who_proposed_it_and_what_was_expected() -> None:
    known = (
        {"proposed_by": "study model", "expected_score": 0.68, "expected_deviation": 0.05},
        {"proposed_by": "TPE"},
        {},
    )
    trials = [row(f"{n:03d}", "search", 0.5 + n / 10, task="cola", **more) for n, more in enumerate(known)]
    of = subject_of(*trials)
    drawn = {chart.name: chart for chart in draw_charts(of.summary, of.recorded, None)}
    said = [text for trace in drawn["parameters"].figure.data for text in trace.text or ()]
    assert sum("proposed by study model, expected 0.680 ± 0.050" in text for text in said) == 1
    assert sum(text.endswith("proposed by TPE") for text in said) == 1
    assert sum("proposed" not in text for text in said) >= 1


def test_scale_and_learning_rate_are_coloured_by_score(drawn: dict[str, Chart]) -> None:
    trace, *lines = drawn["scale"].figure.data
    points = set(zip(trace.x, trace.y, trace.marker.color, strict=True))
    assert {(0.003, 1.5, 0.6), (1e-4, 3.5, 0.1)} <= points
    for line in lines:
        product = float(line.text[1])
        assert [x * y for x, y in zip(line.x, line.y, strict=True)] == pytest.approx([product, product])


def test_a_method_without_a_knob_is_in_no_chart_of_that_knob(study: StudyFolder) -> None:
    sink = ParquetSink(study.results)
    for number, more in ((7, {"method": "bitfit"}), (8, {"method": "lora", "scale": 9.5, "rank": 2})):
        trial = replace(started(number), params={"learning_rate": 0.07, **more})
        sink.trial_ended(ended(trial, Status.COMPLETED, [report(trial, 0, 0.55)]))
    results = read_results(study)
    recorded, [cola, *_] = results.recorded, results.tasks
    drawn = {chart.name: chart.figure for chart in draw_charts(cola, recorded.of("cola"), None)}
    scale, shapes = drawn["scale"].data[0], drawn["shapes"].data[0]
    assert (0.07, 9.5) in set(zip(scale.x, scale.y, strict=True))
    assert list(scale.x).count(0.07) == 1
    assert [list(row) for row in shapes.customdata] == [[[12, 16, 2, ""]], [[24, 16, 2, ""]]]


def test_a_task_without_records_has_no_charts(study: StudyFolder) -> None:
    mrpc = StudyResults(manifest=read_manifest(study.manifest), recorded=Records(), spec="").tasks[2]
    assert draw_charts(mrpc, Records(), None) == ()
