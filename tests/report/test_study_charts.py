"""Tests the charts of a whole study."""

from dataclasses import replace

import pytest

from krona_tune.record.records import Records
from krona_tune.report.chart import KIND_COLOURS, Chart, Colour, Subject
from krona_tune.report.cost import DeviceRates
from krona_tune.report.finals_chart import draw_seeds
from krona_tune.report.score_charts import draw_average
from krona_tune.report.study_charts import draw_cost, draw_overview
from krona_tune.report.study_page import write_report
from krona_tune.report.study_results import read_results
from krona_tune.report.task_summary import summarise
from krona_tune.study.devices import Devices
from krona_tune.study.folder import StudyFolder
from krona_tune.study.kinds import TrialKind
from krona_tune.study.result import TrialResult
from krona_tune.study.standings import Standings
from tests.record.events import manifest
from tests.report.finalists import final_rows
from tests.report.pages import NEGATED, read, write_scores
from tests.study.final_rows import repeats, row


def test_accuracies_and_negated_scores_are_on_no_common_axis(folder: StudyFolder) -> None:
    write_scores(folder, {"wiki": -12.3, "mrpc": 0.7, "sst2": 0.9}, wiki=NEGATED)
    charts = read(write_report(folder)).text
    assert "WIKI would not fit on this axis" in charts
    tasks = read_results(folder).tasks
    overview, average = draw_overview(tasks), draw_average(tasks)
    assert overview is not None
    assert average is not None
    assert list(overview.figure.layout.yaxis.ticktext) == ["MRPC", "SST2"]
    assert list(average.figure.data[0].y) == [pytest.approx(0.8)]


def test_each_task_has_a_bar_of_its_time_of_its_own_whatever_its_title() -> None:
    facts, titles = manifest("cola", "rte", "mrpc").tasks, {"cola": "5", "rte": "5", "mrpc": "<pos>"}
    rows = {task: [row("000", "search", 0.5, task=task, train_seconds=60.0)] for task in facts}
    tasks = [
        summarise(task, Standings(rows[task]), facts[task].model_copy(update={"title": titles[task]})) for task in facts
    ]
    recorded = Records(trials=tuple(each for own in rows.values() for each in own), reports=())
    chart = draw_cost(tasks, recorded, DeviceRates(unrecorded=Devices(kind="cpu", count=1)))
    assert chart is not None
    axis = chart.figure.layout.yaxis
    assert list(axis.ticktext) == ["5", "5", "&lt;pos&gt;"]  # of a tag that it does not know Plotly shows nothing
    assert axis.range[0] > axis.range[1], "the first is at the top"
    for bars in chart.figure.data:
        assert list(bars.y) == list(axis.tickvals) == [0, 1, 2]
        assert list(bars.customdata) == list(axis.ticktext)


def test_each_kind_of_trial_that_a_legend_names_has_a_colour() -> None:
    assert KIND_COLOURS.keys() == {kind for kind in TrialKind if kind.facts.words}


def test_a_kind_of_trial_without_a_colour_is_drawn_in_grey(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = replace(TrialKind.REPEAT.facts, words="further trials")
    monkeypatch.setattr(TrialKind.REPEAT, "facts", facts)
    rows = [row("000-s1", "repeat", 0.5, train_seconds=60.0)]
    recorded = Records(trials=tuple(rows), reports=())
    chart = draw_cost(
        [summarise("rte", Standings(rows), None)], recorded, DeviceRates(unrecorded=Devices(kind="cpu", count=1))
    )
    assert chart is not None
    assert [(bars.name, bars.marker.color) for bars in chart.figure.data] == [("further trials", Colour.GREY)]


def seeds_of(rows: list[TrialResult], **facts: bool) -> Chart | None:
    """Draws the seeds of the finals of RTE."""
    summary = summarise("rte", Standings(rows), manifest("rte").tasks["rte"].model_copy(update=facts))
    return draw_seeds(Subject(summary=summary, recorded=Records(trials=(), reports=()), backbone=None))


def test_the_seeds_of_a_task_compared_by_loss_are_drawn_on_test_alone() -> None:
    chart = seeds_of(final_rows(), compared_by_loss=True)
    assert chart is not None
    assert [trace.name for trace in chart.figure.data] == ["test, a dot per seed", "test mean and 95 % interval"]


def test_the_seeds_chart_has_a_dot_a_seed_and_the_tests_interval() -> None:
    chart = seeds_of(final_rows())
    assert chart is not None
    validation, test, _, means = chart.figure.data
    assert list(validation.y[:2]) == [0.66, 0.7]
    assert list(test.y) == [0.58, 0.62, 0.57, 0.63, 0.381, 0.419, 0.45, 0.45]
    assert means.y[0] == pytest.approx(0.6)
    assert (means.error_y.array[0], means.error_y.arrayminus[0]) == pytest.approx((0.270, 0.348), abs=1e-3)
    names = ["krona 16×24<br>rte-000", "lora<br>rte-001", "krona<br>rte-002", "head_only<br>rte-head-0"]
    assert list(chart.figure.layout.xaxis.ticktext) == names
    assert "under the same seeds" in chart.caption
    more = seeds_of([*final_rows(), *repeats("rte-000", (0.6,) * 3, (0.6,) * 3)[2:]])
    assert more is not None
    assert "under the same seeds" not in more.caption, "one of them has a seed more"
    assert seeds_of([]) is None
