"""Tests whose learning curves are drawn, and how they end."""

import pytest

from krona_tune.record.records import Records, read_records
from krona_tune.report.chart import Chart, Subject
from krona_tune.report.cost import DeviceRates, saved_by_stopping
from krona_tune.report.learning_curves import draw_learning_curves
from krona_tune.report.study_charts import draw_cost
from krona_tune.report.task_summary import summarise
from krona_tune.study.devices import Devices
from krona_tune.study.result import Status
from krona_tune.study.standings import Standings
from tests.record.events import manifest, report
from tests.report.conftest import Empty
from tests.report.finalists import SEARCHED, final_rows, page
from tests.study.final_rows import row


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
    summary = summarise("cola", Standings(rows), facts)
    curves = draw_learning_curves(Subject(summary=summary, recorded=recorded))
    assert curves is not None
    ends = {trace.name: trace.text for trace in curves.figure.data if trace.name.startswith("stopped")}
    assert ends == {"stopped by ASHA": ("cola-001",), "stopped by a person": ("cola-002",)}
    assert "A plus is where a person stopped one" in curves.caption
    chart = draw_cost([summary], recorded, DeviceRates(unrecorded=Devices(kind="cpu", count=1)))
    assert chart is not None
    assert {trace.name: trace.x for trace in chart.figure.data} == {
        "trained to the end": (1.0,),
        "stopped early": (1.0,),
        "stopped by a person": (1.0,),
    }
    assert saved_by_stopping(summary, rows) == pytest.approx((3060 - 1020) / (2 * 3060))
    assert saved_by_stopping(summary, rows[2:]) is None


def test_finalists_draw_no_learning_curves_and_do_not_rank_in_the_search(empty: Empty) -> None:
    folder = empty("rte")
    page(folder, [SEARCHED, *final_rows()])
    summary = summarise("rte", Standings(read_records(folder.results).trials), None)
    assert [each.trial.trial_id for each in summary.ranked] == ["rte-000"]
    assert summary.finals.winner is not None
