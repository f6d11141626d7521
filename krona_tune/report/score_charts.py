"""Draws score against trainable parameters: one task's trials and their Pareto front, and the front of the average."""

from collections.abc import Sequence

import plotly.graph_objects as go

from krona_tune.report.chart import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    SCORE,
    Chart,
    Subject,
    empty_figure,
    hover,
    log_axis,
    with_alpha,
)
from krona_tune.report.study_results import average, together
from krona_tune.report.task_summary import RankedTrial, TaskSummary, pareto
from krona_tune.study.result import Status
from krona_tune.study.standings import Front, average_front

PARAMETERS = "trainable parameters"


def score_against_parameters(subject: Subject) -> Chart | None:
    summary = subject.summary
    if not summary.ranked:
        return None
    figure = empty_figure(PARAMETERS, SCORE)
    early = [each for each in summary.ranked if each.trial.status is not Status.COMPLETED]
    full = [each for each in summary.ranked if each.trial.status is Status.COMPLETED]
    figure.add_trace(_points("not trained to the end", early, {"color": GREY, "opacity": 0.55, "size": 7}))
    figure.add_trace(_points("trained to the end", full, {"color": BLUE, "size": 9}))
    figure.add_trace(_front("Pareto front", pareto(summary.ranked)))
    if summary.baseline is not None:
        figure.add_trace(
            go.Scatter(
                name="head only",
                x=[summary.baseline.trainable_parameters],
                y=[summary.baseline.score],
                mode="markers",
                marker={"color": GREEN, "symbol": "diamond", "size": 11},
                hovertemplate="head only: %{y:.3f}, %{x:,} parameters<extra></extra>",
            )
        )
    if summary.constant_score is not None:
        figure.add_hline(summary.constant_score, line={"color": GREY, "dash": "dot", "width": 1})
    trials = [each.trial for each in summary.ranked] + ([summary.baseline] if summary.baseline else [])
    figure.update_xaxes(log_axis([trial.trainable_parameters for trial in trials]))
    return Chart(
        name="parameters",
        title="Score against trainable parameters",
        caption="Few parameters and a high score are better: the trials on the orange line are beaten by none that is "
        "as small; their bars are one standard error. The dotted line is the constant answer.",
        figure=figure,
    )


def task_front(summary: TaskSummary) -> Front:
    return tuple(each.trial.point for each in pareto(summary.ranked))


def average_chart(tasks: Sequence[TaskSummary], shared: Front | None = None) -> Chart | None:
    """Draws the front of the average over the averaged tasks with a result; None for fewer than two of them.

    `shared` is the front of configurations that all tasks share, if they do; it is drawn only if all are averaged.
    """
    meant = together(tasks, "validation")
    scored = [each for each in meant if each.ranked]
    front = average_front([task_front(each) for each in scored]) if shared is None else shared
    mean = average(scored)
    if len(scored) < 2 or not front or mean is None or (shared is not None and len(meant) < len(tasks)):
        return None
    figure = empty_figure(PARAMETERS + ", at most, a task", "mean " + SCORE)
    figure.add_trace(front_line("average of the tasks", front, ORANGE))
    for name, score, colour in (("head only", mean.baseline, GREEN), ("constant", mean.constant, GREY)):
        if score is not None:
            figure.add_hline(score, line={"color": colour, "dash": "dot", "width": 1.5}, annotation_text=name)
    figure.update_xaxes(log_axis([size for size, _ in front]))
    return Chart(
        name="average",
        title="The average against trainable parameters",
        caption=f"At each size the mean over {len(scored)} tasks of the best validation score with at most that many "
        f"trainable parameters{'' if shared is None else ', of one configuration for all'}. The dotted lines are the "
        "same mean for the head alone and for constant answers.",
        figure=figure.update_layout(showlegend=False),
    )


def front_line(name: str, front: Front, colour: str) -> go.Scatter:
    """Draws a front as steps: the score that a size allows holds until a greater size allows more."""
    return go.Scatter(
        name=name,
        x=[size for size, _ in front],
        y=[score for _, score in front],
        mode="lines+markers",
        line={"color": colour, "shape": "hv", "width": 2},
        marker={"size": 7},
        hovertemplate=f"{name}: %{{y:.3f}} with at most %{{x:,}} parameters<extra></extra>",
    )


def _front(name: str, front: Sequence[RankedTrial]) -> go.Scatter:
    errors = [each.standard_error or 0.0 for each in front]
    return go.Scatter(
        name=name,
        x=[each.trial.trainable_parameters for each in front],
        y=[each.score for each in front],
        mode="lines+markers",
        line={"color": ORANGE, "shape": "hv", "width": 2},
        marker={"symbol": "circle-open", "size": 13, "line": {"width": 2}},
        error_y={"type": "data", "array": errors, "color": with_alpha(ORANGE, 0.6), "thickness": 1.2, "width": 4},
        hoverinfo="skip",
    )


def _points(name: str, chosen: Sequence[RankedTrial], marker: dict[str, object]) -> go.Scatter:
    return go.Scatter(
        name=name,
        x=[each.trial.trainable_parameters for each in chosen],
        y=[each.score for each in chosen],
        mode="markers",
        marker=marker,
        text=[hover(each) for each in chosen],
        hovertemplate="%{text}<extra></extra>",
    )
