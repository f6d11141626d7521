"""Tests the picture of the factor shapes."""

from dataclasses import replace
from math import log2

import pytest

from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.record.records import read_records
from krona_tune.report.chart import Chart
from krona_tune.report.factor_shapes import draw_factor_shapes
from krona_tune.report.study_results import summaries
from krona_tune.report.task_charts import draw_charts
from krona_tune.study.folder import StudyFolder
from krona_tune.study.manifest import read_manifest
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
    recorded = read_records(study.results)
    [cola, *_] = summaries(recorded, read_manifest(study.manifest))
    [shapes] = [chart for chart in draw_charts(cola, recorded.of("cola"), None) if chart.name == "shapes"]
    assert [list(row) for row in shapes.figure.data[0].customdata] == [[[12, 16, 2, ""]], [[24, 16, 3, ", 4 terms"]]]
    assert shapes.caption.endswith("is written beside it, for each term.")
