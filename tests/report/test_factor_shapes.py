"""Tests the picture of the factor shapes."""

from dataclasses import replace
from math import log2

import pytest

from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.report.chart import Chart, Subject
from krona_tune.report.factor_shapes import draw_factor_shapes
from krona_tune.report.study_results import read_results
from krona_tune.report.task_charts import draw_charts
from krona_tune.study.folder import StudyFolder
from krona_tune.study.proposer import Proposer
from krona_tune.study.result import Status
from tests.record.events import ended, report, started
from tests.report.many_trials import BERT, subject


def test_a_known_width_turns_equal_products_into_parameters() -> None:
    chart = draw_factor_shapes(subject(200, BERT))
    assert chart is not None
    trace, *lines = chart.figure.data
    products = [2 ** (line.x[1] + line.y[1]) for line in lines]
    told = [float(line.text[1].replace(",", "")) for line in lines]
    assert told == pytest.approx([product + 384 * 384 / product for product in products])
    assert list(chart.figure.layout.xaxis.ticktext) == ["8", "12", "16", "24", "32", "48"]
    assert len(lines) <= 9
    assert len(trace.x) == 6


def test_a_factor_shape_shows_the_best_of_its_trials(drawn: dict[str, Chart]) -> None:
    trace, *lines = drawn["shapes"].figure.data
    assert (list(trace.y), list(trace.x)) == ([log2(12), log2(24)], [4.0])
    assert [list(row) for row in trace.z] == [[0.6], [0.6]]
    assert [list(row) for row in trace.customdata] == [[[12, 16, 2, ""]], [[24, 16, 2, ""]]]
    assert [line.text[1] for line in lines] == ["192", "384"]
    assert [sum(line.x) + sum(line.y) for line in lines] == pytest.approx([2 * log2(192), 2 * log2(384)])


def test_the_terms_of_a_sum_are_said_beside_its_shape(study: StudyFolder) -> None:
    sink = ParquetSink(study.results)
    trial = replace(started(7), params={"method": "krona", "a_out": 24, "a_in": 16, "terms": 4, "learning_rate": 0.07})
    sink.trial_ended(ended(trial, Status.COMPLETED, [report(trial, 0, 0.95)]))
    results = read_results(study)
    recorded, [cola, *_] = results.recorded, results.tasks
    [shapes] = [chart for chart in draw_charts(cola, recorded.of("cola"), None) if chart.name == "shapes"]
    assert [list(row) for row in shapes.figure.data[0].customdata] == [[[12, 16, 2, ""]], [[24, 16, 3, ", 4 terms"]]]
    assert shapes.caption.endswith("is written beside it, for each term.")


def test_a_better_trial_that_was_stopped_is_shown_before_a_taught_one_that_finished(study: StudyFolder) -> None:
    sink = ParquetSink(study.results)
    for number, score, status in ((7, 0.6, Status.COMPLETED), (8, 0.72, Status.STOPPED_EARLY)):
        known = {"method": "krona", "a_out": 32, "a_in": 8, "learning_rate": 0.07}
        trial = replace(started(number), params=known, proposed_by=Proposer.RECORDED_CURVES if number == 7 else "TPE")
        sink.trial_ended(ended(trial, status, [report(trial, 0, score)]))
    results = read_results(study)
    recorded, [cola, *_] = results.recorded, results.tasks
    chart = draw_factor_shapes(Subject(summary=cola, recorded=recorded.of("cola")))
    assert chart is not None
    [best] = [float(cell) for row in chart.figure.data[0].z for cell in row if cell is not None and cell > 0.7]
    assert best == 0.72
