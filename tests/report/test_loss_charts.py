"""Tests which training curves are drawn, and that one which explodes leaves the others readable."""

from dataclasses import replace
from math import inf, nan

from krona_tune.record.records import Records
from krona_tune.report.chart import Subject
from krona_tune.report.loss_charts import (
    MOST_BEST,
    MOST_DIVERGED,
    MOST_RUNNING,
    draw_running_losses,
    draw_training_loss,
)
from krona_tune.report.running_trials import RunningTrial
from krona_tune.report.task_summary import summarise
from krona_tune.study.kinds import TrialKind
from krona_tune.study.result import Curve, Report, Status, TrialResult, curve_columns
from krona_tune.study.standings import Standings
from tests.record.events import RUNGS, curve, ended, report, started
from tests.report.many_trials import FACTS

GOOD = curve(0.9, 0.5)


def ran(number: int, score: float, drawn: Curve = GOOD) -> tuple[TrialResult, list[Report]]:
    trial = started(number)
    reports = [replace(report(trial, 0, score), curve=drawn)]
    return ended(trial, Status.COMPLETED, reports), reports


def diverged(number: int, *losses: float) -> tuple[TrialResult, list[Report]]:
    return replace(ended(started(number), Status.DIVERGED, []), curve=curve(*losses)), []


def runs(trial: str, drawn: Curve = GOOD) -> RunningTrial:
    unknown = dict.fromkeys(("score", "expected_score", "expected_deviation"))
    known = {
        "task": "cola",
        "kind": "search",
        "share": 0.5,
        "rung": 0,
        "rungs": 3,
        "epoch_examples": 340,
        "knobs": {},
        "proposed_by": "",
    }
    return RunningTrial.model_validate({"trial": trial, **known, **unknown, **curve_columns(drawn)})


def subject(*trials: tuple[TrialResult, list[Report]], running: frozenset[str] = frozenset()) -> Subject:
    rows = tuple(row for row, _ in trials)
    recorded = Records(trials=rows, reports=tuple(each for _, own in trials for each in own), running=running)
    return Subject(summary=summarise("cola", Standings(rows), FACTS, running), recorded=recorded)


def test_the_best_the_running_and_those_that_diverged_are_lines_of_their_own() -> None:
    best = ran(1, 0.7, curve(0.8, 0.3, after=RUNGS[0], to=RUNGS[1]))
    row, reports = ran(4, 0.65, curve(0.7))
    running = replace(row, status=Status.INTERRUPTED, ended_at=None), reports
    chart = draw_training_loss(
        subject(best, ran(2, 0.6), diverged(3, 0.9, 4.0, nan), running, running=frozenset({"cola-0004"}))
    )
    assert chart is not None
    lines = {line.name: (list(line.x), list(line.y), set(line.text)) for line in chart.figure.data}
    assert lines["best"] == ([2.0, 3.0, None], [0.8, 0.3, None], {"cola-0001"})
    assert lines["diverged"] == ([0.3324, 0.6647, 1.0, None], [0.9, 4.0, None, None], {"cola-0003"})
    assert (lines["among the best"][2], lines["running"][2]) == ({"cola-0002"}, {"cola-0004"})


def test_the_best_of_a_shared_search_is_its_best_configuration() -> None:
    found = subject(ran(1, 0.7), ran(2, 0.6))
    rows = (*found.recorded.trials, replace(found.recorded.trials[1], task="rte"))
    shared = summarise("cola", Standings(rows, ("cola", "rte")), FACTS)
    chart = draw_training_loss(replace(found, summary=shared))
    assert chart is not None
    lines = {line.name: set(line.text) for line in chart.figure.data}
    assert lines == {"best": {"cola-0002"}, "among the best": {"cola-0001"}}


def test_a_full_training_is_no_line_among_those_of_the_search() -> None:
    """It has epochs of another size."""
    lost = diverged(3, 0.9, nan)
    chart = draw_training_loss(subject(ran(1, 0.7), (replace(lost[0], kind=TrialKind.FULL_TRAIN), lost[1])))
    assert chart is not None
    assert [line.name for line in chart.figure.data] == ["best"]


def test_of_many_trials_a_few_are_drawn() -> None:
    many = [ran(number, number / 100) for number in range(40)]
    bad = [diverged(number, 0.9, nan) for number in range(50, 70)]
    chart = draw_training_loss(subject(*many, *bad))
    assert chart is not None
    drawn = {line.name: set(line.text) for line in chart.figure.data}
    assert drawn["best"] | drawn["among the best"] == {f"cola-{number:04d}" for number in range(40 - MOST_BEST, 40)}
    assert drawn["diverged"] == {f"cola-{number:04d}" for number in range(70 - MOST_DIVERGED, 70)}
    running = [runs(f"cola-{number:03d}") for number in range(MOST_RUNNING + 3)]
    present = draw_running_losses(running)
    assert present is not None
    assert [line.name for line in present.figure.data] == [each.trial for each in running][:MOST_RUNNING]
    assert f"The first {MOST_RUNNING} of {MOST_RUNNING + 3} are drawn" in present.caption


def test_a_loss_that_explodes_ends_above_the_axis() -> None:
    calm = draw_training_loss(subject(ran(1, 0.7)))
    wild = draw_training_loss(subject(ran(1, 0.7), diverged(2, 1.1, 1e30, inf)))
    assert calm is not None
    assert wild is not None
    assert calm.figure.layout.yaxis.range is None
    assert wild.figure.layout.yaxis.range == (0.0, 2.0)


def test_records_without_curves_have_no_chart() -> None:
    assert draw_training_loss(subject(ran(1, 0.7, ()))) is None
    failed = (replace(ended(started(3), Status.FAILED, []), curve=GOOD), [])
    assert draw_training_loss(subject(failed)) is None, "one that failed is no line"
    assert draw_running_losses([runs("cola-0001", ())]) is None
    assert draw_running_losses([runs("cola-0001").model_copy(update={"epoch_examples": None})]) is None


def test_a_trial_that_is_named_like_html_is_text() -> None:
    drawn = draw_running_losses([runs("<b>x")])
    assert drawn is not None
    assert [line.name for line in drawn.figure.data] == ["&lt;b&gt;x"]
