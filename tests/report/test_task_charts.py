"""Tests what the charts show, read from their figures."""

from dataclasses import replace
from math import log2

import pytest

from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.record.records import Records, read_records
from krona_tune.report.chart import Chart, Subject, log_axis
from krona_tune.report.cost import DeviceRates, saved_by_stopping
from krona_tune.report.learning_curves import learning_curves
from krona_tune.report.score_charts import score_against_step_time
from krona_tune.report.study_charts import cost_chart
from krona_tune.report.study_results import summaries
from krona_tune.report.task_charts import charts
from krona_tune.report.task_summary import summarise
from krona_tune.study.devices import Devices
from krona_tune.study.folder import StudyFolder
from krona_tune.study.manifest import read_manifest
from krona_tune.study.result import Status, TrialResult
from tests.record.events import ended, manifest, report, started
from tests.study.final_rows import row


def subject(*trials: TrialResult) -> Subject:
    recorded = Records(trials=trials)
    return Subject(summary=summarise("cola", trials, None), recorded=recorded)


@pytest.fixture
def drawn(study: StudyFolder) -> dict[str, Chart]:
    recorded = read_records(study.results)
    [cola, *_] = summaries(recorded, read_manifest(study.manifest))
    return {chart.name: chart for chart in charts(cola, recorded.of("cola"))}


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
    of = subject(*trials)
    drawn = {chart.name: chart for chart in charts(of.summary, of.recorded)}
    said = [text for trace in drawn["parameters"].figure.data for text in trace.text or ()]
    assert sum("proposed by study model, expected 0.680 ± 0.050" in text for text in said) == 1
    assert sum(text.endswith("proposed by TPE") for text in said) == 1
    assert sum("proposed" not in text for text in said) >= 1


def test_curves_are_grouped_by_their_end_with_gaps_between(drawn: dict[str, Chart]) -> None:
    curves = {trace.name: trace for trace in drawn["curves"].figure.data}
    assert list(curves["best"].y) == [0.3, 0.6, None]
    assert list(curves["head only"].y) == [0.1, 0.2, None]
    assert list(curves["trained to the end"].y) == [0.4, 0.6, None]
    assert list(curves["best"].x) == [1.0, 3.0, None]
    assert list(curves["stopped by ASHA"].text) == ["cola-0003"]
    assert [line.x0 for line in drawn["curves"].figure.layout.shapes] == [1.0, 3.0, 9.0]
    dimmed = curves["not trained to the end"]
    assert dimmed.opacity < curves["trained to the end"].opacity
    assert set(dimmed.text) - {""} == {"cola-0003", "cola-0004", "cola-0005"}


def test_what_a_person_stopped_is_not_called_stopped_early() -> None:
    rows = [
        row(f"00{number}", "search", 0.5 + number / 10, task="cola", status=status, examples=1020, train_seconds=60.0)
        for number, status in enumerate((Status.COMPLETED, Status.STOPPED_EARLY, Status.STOPPED_BY_USER))
    ]
    recorded = Records(trials=tuple(rows), reports=tuple(report(each, 1, each.score or 0.0) for each in rows))
    facts = manifest("cola").tasks["cola"]
    summary = summarise("cola", rows, facts)
    curves = learning_curves(Subject(summary=summary, recorded=recorded))
    assert curves is not None
    ends = {trace.name: trace.text for trace in curves.figure.data if trace.name.startswith("stopped")}
    assert ends == {"stopped by ASHA": ("cola-001",), "stopped by a person": ("cola-002",)}
    assert "A plus is where a person stopped one" in curves.caption
    chart = cost_chart([summary], recorded, DeviceRates(unrecorded=Devices(kind="cpu", count=1)))
    assert chart is not None
    assert {trace.name: trace.x for trace in chart.figure.data} == {
        "trained to the end": (1.0,),
        "stopped early": (1.0,),
        "stopped by a person": (1.0,),
    }
    assert saved_by_stopping(summary, rows) == pytest.approx((3060 - 1020) / (2 * 3060))
    assert saved_by_stopping(summary, rows[2:]) is None


def test_scale_and_learning_rate_are_coloured_by_score(drawn: dict[str, Chart]) -> None:
    trace, *lines = drawn["scale"].figure.data
    points = set(zip(trace.x, trace.y, trace.marker.color, strict=True))
    assert {(0.003, 1.5, 0.6), (1e-4, 3.5, 0.1)} <= points
    for line in lines:
        product = float(line.text[1])
        assert [x * y for x, y in zip(line.x, line.y, strict=True)] == pytest.approx([product, product])


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
    [shapes] = [chart for chart in charts(cola, recorded.of("cola")) if chart.name == "shapes"]
    assert [list(row) for row in shapes.figure.data[0].customdata] == [[[12, 16, 2, ""]], [[24, 16, 3, ", 4 terms"]]]
    assert shapes.caption.endswith("is written at its end, for each term.")


def test_a_method_without_a_knob_is_in_no_chart_of_that_knob(study: StudyFolder) -> None:
    sink = ParquetSink(study.results)
    for number, more in ((7, {"method": "bitfit"}), (8, {"method": "lora", "scale": 9.5, "rank": 2})):
        trial = replace(started(number), params={"learning_rate": 0.07, **more})
        sink.trial_ended(ended(trial, Status.COMPLETED, [report(trial, 0, 0.55)]))
    recorded = read_records(study.results)
    [cola, *_] = summaries(recorded, read_manifest(study.manifest))
    drawn = {chart.name: chart.figure for chart in charts(cola, recorded.of("cola"))}
    scale, shapes = drawn["scale"].data[0], drawn["shapes"].data[0]
    assert (0.07, 9.5) in set(zip(scale.x, scale.y, strict=True))
    assert list(scale.x).count(0.07) == 1
    assert [list(row) for row in shapes.customdata] == [[[12, 16, 2, ""]], [[24, 16, 2, ""]]]


def test_a_task_without_records_has_no_charts(study: StudyFolder) -> None:
    mrpc = summaries(Records(), read_manifest(study.manifest))[2]
    assert charts(mrpc, Records()) == ()


def test_a_logarithmic_axis_is_labelled_in_words_that_people_write() -> None:
    axis = log_axis([0.003, 0.2])
    labels = dict(zip(axis["tickvals"], axis["ticktext"], strict=True))
    assert (axis["type"], labels[0.001], labels[0.05]) == ("log", "0.001", "0.05")
    assert "20k" in log_axis([1500, 30_000])["ticktext"]
    assert log_axis([0])["type"] == "log"


def test_score_against_training_time_has_a_front_of_its_own() -> None:
    fast, slow, worse = (
        row(f"{number:03d}", "search", score, task="cola", number=number, train_seconds=seconds, examples=500)
        for number, (score, seconds) in enumerate([(0.5, 1.0), (0.75, 4.0), (0.625, 5.0)])
    )
    untimed = row("003", "search", 0.9, task="cola", number=3)
    chart = score_against_step_time(subject(fast, slow, worse, untimed))
    assert chart is not None
    trials, front = chart.figure.data
    assert sorted(trials.x) == [2.0, 8.0, 10.0]
    assert list(front.x) == [2.0, 8.0]
    assert score_against_step_time(subject(fast, untimed)) is None
