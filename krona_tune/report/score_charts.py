"""Draws the score against its cost: trainable parameters, of a task and in the average of tasks, or training time."""

from collections.abc import Sequence

import plotly.graph_objects as go

from krona_tune.report.chart import (
    LEGEND,
    SCORE,
    Chart,
    Colour,
    Subject,
    empty_figure,
    log_axis,
    pareto_line,
    points,
    trial_points,
    with_alpha,
)
from krona_tune.report.study_results import average, together
from krona_tune.report.task_summary import RankedTrial, TaskSummary, pareto
from krona_tune.study.result import Status
from krona_tune.study.standings import Front, average_front, front_of

PARAMETERS = "trainable parameters"


def draw_score_against_parameters(subject: Subject) -> Chart | None:
    """Draws each trial's score against its size, and the front; None if no trial is ranked."""
    summary = subject.summary
    if not summary.ranked:
        return None
    figure = empty_figure(PARAMETERS, SCORE)
    early = [each for each in summary.ranked if each.trial.status is not Status.COMPLETED]
    full = [each for each in summary.ranked if each.trial.status is Status.COMPLETED]
    figure.add_trace(trial_points("not trained to the end", early, _size, {"opacity": 0.55, "size": 7}))
    figure.add_trace(trial_points("trained to the end", full, _size, {"size": 9}))
    front = pareto(summary.ranked)
    errors = [each.standard_error or 0.0 for each in front]
    bars = {"type": "data", "array": errors, "color": with_alpha(Colour.ORANGE, 0.6), "thickness": 1.2, "width": 4}
    figure.add_trace(pareto_line(front, _size, 13, bars))
    if summary.baseline is not None:
        head = [(summary.baseline.trainable_parameters, summary.baseline.score)]
        said = "head only: %{y:.4g}, %{x:,} parameters"
        figure.add_trace(
            points("head only", head, {"color": LEGEND["head only"], "symbol": "diamond", "size": 11}, said)
        )
    if summary.constant_score is not None:
        figure.add_hline(summary.constant_score, line={"color": LEGEND["constant"], "dash": "dot", "width": 1})
    trials = [each.trial for each in summary.ranked] + ([summary.baseline] if summary.baseline else [])
    figure.update_xaxes(log_axis([trial.trainable_parameters for trial in trials]))
    return Chart(
        name="parameters",
        title="Score against trainable parameters",
        caption="Few parameters and a high score are better: the trials on the orange line are beaten by none that is "
        "as small; their bars are one standard error. The dotted line is the constant answer.",
        figure=figure,
    )


def _size(each: RankedTrial) -> float:
    return each.trial.trainable_parameters


def task_front(summary: TaskSummary) -> Front:
    """Returns (parameters, score) of the trials that none beats with as few."""
    return tuple(each.trial.point for each in pareto(summary.ranked))


def draw_average(tasks: Sequence[TaskSummary], shared: Front | None = None) -> Chart | None:
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
    figure.add_trace(front_line("average of the tasks", front, Colour.ORANGE))
    for name, score in (("head only", mean.baseline), ("constant", mean.constant)):
        if score is not None:
            figure.add_hline(score, line={"color": LEGEND[name], "dash": "dot", "width": 1.5}, annotation_text=name)
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
        hovertemplate=f"{name}: %{{y:.4g}} with at most %{{x:,}} parameters<extra></extra>",
    )


def draw_score_against_step_time(subject: Subject) -> Chart | None:
    """Returns None for fewer than two trials with a known time."""
    timed = [each for each in subject.summary.ranked if _milliseconds(each) > 0]
    if len(timed) < 2:
        return None
    front = front_of(timed, lambda each: (_milliseconds(each), each.score))
    figure = empty_figure("training time an example, ms", SCORE)
    marker = {"size": 8, "opacity": 0.7}
    figure.add_trace(trial_points("trials", timed, _milliseconds, marker, "ms an example"))
    figure.add_trace(pareto_line(front, _milliseconds, 12))
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
