"""Draws training curves: those of a task's best trials, of trials that run and of some that diverged."""

from collections.abc import Mapping, Sequence
from html import escape
from math import isfinite
from statistics import median
from typing import Any

import plotly.graph_objects as go

from krona_tune.report.chart import COLOURS, LEGEND, Chart, Subject, empty_figure
from krona_tune.report.running_trials import RunningTrial
from krona_tune.study.kinds import FULL_TRAININGS
from krona_tune.study.result import CurvePoint, Status, curve_of

MOST_BEST, MOST_DIVERGED, MOST_RUNNING = 10, 5, len(COLOURS)
"""How many curves of each kind a chart has at most."""
ABOVE_FIRST = 2.0
"""The axis ends at so many times the median of the curves' first losses, if some loss is larger."""
_LINES: Mapping[str, dict[str, Any]] = {
    "among the best": {"opacity": 0.6, "line": {"width": 1.2}},
    "diverged": {"opacity": 0.9, "line": {"width": 1.4, "dash": "dot"}},
    "running": {"opacity": 0.9, "line": {"width": 1.4}},
    "best": {"opacity": 1.0, "line": {"width": 3.0}},
}


def draw_training_loss(subject: Subject) -> Chart | None:
    """Draws the loss of some trials by epochs; None if none of those that it shows has a curve."""
    facts, chosen = subject.summary.facts, _chosen(subject)
    if not chosen or not facts or not facts.train_examples:
        return None
    drawn = {name: [each for each in group.items() if each[1]] for name, group in chosen.items()}
    if not any(drawn.values()):
        return None
    figure = _axes([curve for group in drawn.values() for _, curve in group])
    for name, group in drawn.items():
        if group:
            trace = _line(name, group, facts.train_examples, _LINES[name])
            figure.add_trace(trace.update(line_color=LEGEND[name]))
    kinds = f"the {MOST_BEST} best trials, up to {MOST_RUNNING} that run, and the last {MOST_DIVERGED} that diverged"
    return Chart(
        name="losses",
        title="Training loss",
        caption=f"The mean loss of the last few batches: {kinds}.",
        figure=figure,
    )


def _chosen(subject: Subject) -> dict[str, dict[str, Sequence[CurvePoint]]]:
    """Returns the curves that are drawn, by kind; nothing if no trial has one."""
    curves, trials = subject.recorded.training_curves(), subject.recorded.trials
    if not any(curves.values()):
        return {}
    best = subject.summary.best.trial.trial_id if subject.summary.best else ""
    others = [each.trial.trial_id for each in subject.summary.ranked[:MOST_BEST] if each.trial.trial_id != best]
    counted = [trial for trial in trials if trial.kind not in FULL_TRAININGS]  # whose epochs have another size
    running = [trial.trial_id for trial in counted if trial.trial_id in subject.recorded.running]
    diverged = [trial.trial_id for trial in counted if trial.status is Status.DIVERGED]
    named = {
        "among the best": [trial for trial in others if trial not in running],
        "diverged": diverged[-MOST_DIVERGED:],
        "running": [trial for trial in running if trial != best][-MOST_RUNNING:],
        "best": [best],
    }
    return {name: {trial: curves.get(trial, ()) for trial in group} for name, group in named.items()}


def draw_running_losses(running: Sequence[RunningTrial]) -> Chart | None:
    """Draws the loss of the first MOST_RUNNING trials that run now and have a point, a colour each; None if none has.

    A trial is left out if nobody knows how many examples an epoch has.
    """
    epochs = {each.trial: each.epoch_examples for each in running if each.epoch_examples}
    known = {each.trial: curve_of(vars(each)) for each in running if each.curve_examples and each.trial in epochs}
    if not known:
        return None
    shown = list(known.items())[:MOST_RUNNING]
    figure = _axes([curve for _, curve in shown])
    for (trial, curve), colour in zip(shown, COLOURS, strict=False):
        style = {"opacity": 1.0, "line": {"color": colour, "width": 2}}
        figure.add_trace(_line(trial, [(trial, curve)], epochs[trial], style))
    left_out = f" The first {MOST_RUNNING} of {len(known)} are drawn." if len(known) > MOST_RUNNING else ""
    return Chart(
        name="running",
        title="Training loss of what runs",
        caption=f"The mean loss of the last few batches, a line for each trial.{left_out}",
        figure=figure.update_layout(showlegend=True),
    )


def _axes(curves: Sequence[Sequence[CurvePoint]]) -> go.Figure:
    """Returns axes on which a loss that explodes leaves the others readable."""
    figure = empty_figure("epochs", "training loss")
    losses = [point.loss for curve in curves for point in curve if isfinite(point.loss)]
    firsts = [curve[0].loss for curve in curves if isfinite(curve[0].loss)]
    if losses and max(losses) > (top := ABOVE_FIRST * median(firsts or losses)) > 0:
        figure.update_yaxes(range=[min(0.0, *losses), top])
    return figure


def _line(
    name: str, curves: Sequence[tuple[str, Sequence[CurvePoint]]], examples_per_epoch: float, style: dict[str, Any]
) -> go.Scatter:
    """Draws curves as one trace, with a gap between them, so that the legend switches all of them."""
    alone = [trial for trial, _ in curves] == [name]
    points = [(escape(trial), point) for trial, curve in curves for point in (*curve, None)]
    return go.Scatter(
        name=escape(name),
        x=[_short(point.examples / examples_per_epoch) if point else None for _, point in points],
        y=[_short(point.loss) if point and isfinite(point.loss) else None for _, point in points],
        customdata=[_short(point.learning_rate) if point else None for _, point in points],
        text=None if alone else [trial for trial, _ in points],
        hovertemplate=f"%{{{'fullData.name' if alone else 'text'}}}: %{{y:.4g}} after %{{x:.3g}} epochs, "
        "learning rate %{customdata:.2g}<extra></extra>",
        mode="lines",
        **style,
    )


def _short(value: float) -> float:
    """Returns a number with the four digits that a chart can show, because a page is sent again and again."""
    return float(f"{value:.4g}")
