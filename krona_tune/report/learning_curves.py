"""Draws learning curves with the rungs."""

from collections.abc import Iterable, Mapping, Sequence

import plotly.graph_objects as go

from krona_tune.report.chart import LEGEND, SCORE, Chart, Colour, Subject, empty_figure, points
from krona_tune.study.kinds import FIRST_TRAINED, TrialKind
from krona_tune.study.result import Report, Status, grouped

Curves = Mapping[str, list[Report]]

_LINES = {
    "not trained to the end": {"opacity": 0.35, "width": 1.2, "dash": "solid"},
    "trained to the end": {"opacity": 0.75, "width": 1.6, "dash": "solid"},
    "head only": {"opacity": 1.0, "width": 1.8, "dash": "dash"},
    "best": {"opacity": 1.0, "width": 3.0, "dash": "solid"},
}

STOPS = {
    Status.STOPPED_EARLY: (
        "stopped by ASHA",
        "x-thin",
        " A cross is where ASHA, which compares trials at each rung, stopped one.",
    ),
    Status.STOPPED_BY_USER: ("stopped by a person", "cross-thin", " A plus is where a person stopped one."),
}
"""Who stops trials: the name in the legend, the mark, and the sentence for a task with such trials."""
CROWD = 60
"""More lines than this are drawn thin."""


def draw_learning_curves(subject: Subject) -> Chart | None:
    """Draws the scores of the search's trials against their epochs; None if no trial has reported one."""
    curves = _curves_of_the_search(subject)
    if not curves:
        return None
    summary, trials = subject.summary, subject.recorded.trials
    best = summary.best.trial.trial_id if summary.best else ""
    whole = {each.trial.trial_id for each in summary.ranked if each.trial.status is Status.COMPLETED}
    baselines = {trial.trial_id for trial in trials if trial.kind == TrialKind.BASELINE}
    group = dict.fromkeys(curves, "not trained to the end") | dict.fromkeys(whole, "trained to the end")
    group |= dict.fromkeys(baselines, "head only") | {best: "best"}
    figure = empty_figure("epochs", SCORE)
    for name, line in _LINES.items():
        if chosen := [curve for trial, curve in curves.items() if group[trial] == name]:
            figure.add_trace(_lines(name, chosen, line))
    stopped = ""
    for status, (name, mark, sentence) in STOPS.items():
        such = [trial.trial_id for trial in trials if trial.status is status]
        if ends := [curves[trial][-1] for trial in such if trial in curves]:
            places, ids = [(end.epochs, end.score) for end in ends], [end.trial_id for end in ends]
            marker = {"symbol": mark, "size": 8, "line": {"width": 1.5, "color": Colour.GREY}}
            figure.add_trace(points(name, places, marker, "%{text} was stopped at %{y:.4g}", ids))
            stopped += sentence
    for number, epochs in enumerate(_rungs(subject), start=1):
        figure.add_vline(
            epochs, line={"color": Colour.GREY, "dash": "dot", "width": 1}, annotation_text=f"rung {number}"
        )
    return Chart(
        name="curves",
        title="Learning curves",
        caption=f"One line per trial of the search, a point at each report, rungs dotted.{stopped}",
        figure=figure.update_layout(margin={"t": 28}, legend={"y": 1.08}),
    )


def _curves_of_the_search(subject: Subject) -> Curves:
    again = {trial.trial_id for trial in subject.recorded.trials if trial.kind not in FIRST_TRAINED}
    searched = (report for report in subject.recorded.reports if report.trial_id not in again)
    return grouped(searched, lambda report: report.trial_id)


def _rungs(subject: Subject) -> Iterable[float]:
    """Returns the task's rungs in epochs."""
    facts = subject.summary.facts
    return [rung / facts.train_examples for rung in facts.rungs] if facts and facts.train_examples else []


def _lines(name: str, curves: Sequence[Sequence[Report]], line: dict[str, object]) -> go.Scatter:
    """Draws many curves as one trace, with a gap between them, so that the legend switches all of them."""
    crowded = len(curves) > CROWD
    points = [point for curve in curves for point in (*curve, None)]
    return go.Scatter(
        name=name,
        x=[point.epochs if point else None for point in points],
        y=[point.score if point else None for point in points],
        text=[point.trial_id if point else "" for point in points],
        hovertemplate="%{text}: %{y:.4g} after %{x:.3g} epochs<extra></extra>",
        mode="lines+markers",
        opacity=line["opacity"],
        line={"color": LEGEND[name], "width": 0.8 if crowded else line["width"], "dash": line["dash"]},
        marker={"size": 3 if crowded else 5},
    )
