"""Draws score against the training time per example, because an adapter may be small and slow."""

import plotly.graph_objects as go

from krona_tune.report.charts.chart import SCORE, Chart, Subject, hover
from krona_tune.report.charts.style import BLUE, ORANGE, empty_figure
from krona_tune.report.summary.task_summary import RankedTrial
from krona_tune.study.standings import front_of


def score_against_step_time(subject: Subject) -> Chart | None:
    """Returns None for fewer than two trials with a known time."""
    timed = [each for each in subject.summary.ranked if _milliseconds(each) > 0]
    if len(timed) < 2:
        return None
    front = front_of(timed, lambda each: (_milliseconds(each), each.score))
    figure = empty_figure("training time an example, ms", SCORE)
    figure.add_trace(
        go.Scatter(
            name="trials",
            x=[_milliseconds(each) for each in timed],
            y=[each.score for each in timed],
            mode="markers",
            marker={"color": BLUE, "size": 8, "opacity": 0.7},
            text=[f"{hover(each)}<br>{_milliseconds(each):.3g} ms an example" for each in timed],
            hovertemplate="%{text}<extra></extra>",
        )
    )
    figure.add_trace(
        go.Scatter(
            name="Pareto front",
            x=[_milliseconds(each) for each in front],
            y=[each.score for each in front],
            mode="lines+markers",
            line={"color": ORANGE, "shape": "hv", "width": 2},
            marker={"symbol": "circle-open", "size": 12, "line": {"width": 2}},
            hoverinfo="skip",
        )
    )
    return Chart(
        name="steps",
        title="Score against training time",
        caption="A short step and a high score are better. Trials that shared a device measured each other's load too, "
        "so read differences of a tenth as none.",
        figure=figure,
    )


def _milliseconds(each: RankedTrial) -> float:
    """Returns the training time per example; 0.0 if it is not known."""
    seen = each.trial.own_examples
    return 1000 * each.trial.train_seconds / seen if seen else 0.0
