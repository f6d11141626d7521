"""Draws learning curves with the rungs, and score against the training time per example."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

import plotly.graph_objects as go

from krona_tune.report.chart import BLUE, GREEN, GREY, ORANGE, SCORE, Chart, Subject, empty_figure, hover
from krona_tune.report.task_summary import RankedTrial
from krona_tune.study.kinds import FIRST_TRAINED, TrialKind
from krona_tune.study.result import Report, Status
from krona_tune.study.standings import front_of

Curves = dict[str, list[Report]]

_LINES = {
    "not trained to the end": {"color": GREY, "opacity": 0.35, "width": 1.2, "dash": "solid"},
    "trained to the end": {"color": BLUE, "opacity": 0.75, "width": 1.6, "dash": "solid"},
    "head only": {"color": GREEN, "opacity": 1.0, "width": 1.8, "dash": "dash"},
    "best": {"color": ORANGE, "opacity": 1.0, "width": 3.0, "dash": "solid"},
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


def learning_curves(subject: Subject) -> Chart | None:
    curves = _curves_of_the_search(subject)
    if not curves:
        return None
    summary, trials = subject.summary, subject.recorded.trials
    best = summary.best.trial.trial_id if summary.best else ""
    whole = {each.trial.trial_id for each in summary.ranked if each.trial.status is Status.COMPLETED}
    baselines = {trial.trial_id for trial in trials if trial.kind == TrialKind.BASELINE}
    groups: dict[str, Callable[[str], bool]] = {
        "not trained to the end": lambda trial: trial != best and trial not in whole | baselines,
        "trained to the end": lambda trial: trial in whole - {best},
        "head only": lambda trial: trial in baselines,
        "best": lambda trial: trial == best,
    }
    figure = empty_figure("epochs", SCORE)
    for name, belongs in groups.items():
        chosen = [curve for trial, curve in curves.items() if belongs(trial)]
        if chosen:
            figure.add_trace(_lines(name, chosen, _LINES[name]))
    stopped = ""
    for status, (name, mark, sentence) in STOPS.items():
        such = [trial.trial_id for trial in trials if trial.status is status]
        if ends := [curves[trial][-1] for trial in such if trial in curves]:
            figure.add_trace(_ends(name, mark, ends))
            stopped += sentence
    for number, epochs in enumerate(_rungs(subject), start=1):
        figure.add_vline(epochs, line={"color": GREY, "dash": "dot", "width": 1}, annotation_text=f"rung {number}")
    return Chart(
        name="curves",
        title="Learning curves",
        caption=f"One line per trial of the search, a point at each report, rungs dotted.{stopped}",
        figure=figure.update_layout(margin={"t": 28}, legend={"y": 1.08}),
    )


def _curves_of_the_search(subject: Subject) -> Curves:
    again = {trial.trial_id for trial in subject.recorded.trials if trial.kind not in FIRST_TRAINED}
    curves: Curves = defaultdict(list)
    for report in subject.recorded.reports:
        if report.trial_id not in again:
            curves[report.trial_id].append(report)
    return curves


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
        hovertemplate="%{text}: %{y:.3f} after %{x:.3g} epochs<extra></extra>",
        mode="lines+markers",
        opacity=line["opacity"],
        line={**{key: line[key] for key in ("color", "width", "dash")}, **({"width": 0.8} if crowded else {})},
        marker={"size": 3 if crowded else 5},
    )


def _ends(name: str, mark: str, ends: Sequence[Report]) -> go.Scatter:
    return go.Scatter(
        name=name,
        x=[end.epochs for end in ends],
        y=[end.score for end in ends],
        text=[end.trial_id for end in ends],
        hovertemplate="%{text} was stopped at %{y:.3f}<extra></extra>",
        mode="markers",
        marker={"symbol": mark, "size": 8, "line": {"width": 1.5, "color": GREY}},
    )


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
