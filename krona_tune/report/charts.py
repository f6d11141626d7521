"""One task's charts, each with a caption that says how to read it."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from krona_tune.report.analysis import RankedTrial, TaskSummary, pareto
from krona_tune.report.figure import BLUE, GREEN, GREY, ORANGE, SCALE, colour_bar, empty_figure, log_axis
from krona_tune.report.frame import Records, factor_shape
from krona_tune.study.result import Report, Status

SCORE = "validation score"


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A figure with its name, what it shows in words, and a caption."""

    name: str
    title: str
    caption: str
    figure: go.Figure


def charts(summary: TaskSummary, recorded: Records) -> tuple[Chart, ...]:
    """The task's charts, without those that would have nothing to compare. `recorded` are the task's own records."""
    drawn = (draw(summary, recorded) for draw in _CHARTS)
    return tuple(chart for chart in drawn if chart is not None)


def score_against_parameters(summary: TaskSummary, recorded: Records) -> Chart | None:
    if not summary.ranked:
        return None
    figure = empty_figure("trainable parameters", SCORE)
    early = [each for each in summary.ranked if each.trial.status is not Status.COMPLETED]
    full = [each for each in summary.ranked if each.trial.status is Status.COMPLETED]
    figure.add_trace(_points("stopped early or broken off", early, {"color": GREY, "opacity": 0.55, "size": 7}))
    figure.add_trace(_points("trained to the end", full, {"color": BLUE, "size": 9}))
    front = pareto(summary.ranked)
    figure.add_trace(
        go.Scatter(
            name="Pareto front",
            x=[each.trial.trainable_parameters for each in front],
            y=[each.score for each in front],
            mode="lines+markers",
            line={"color": ORANGE, "shape": "hv", "width": 2},
            marker={"symbol": "circle-open", "size": 13, "line": {"width": 2}},
            hoverinfo="skip",
        )
    )
    if summary.baseline is not None:
        figure.add_trace(
            go.Scatter(
                name="head only",
                x=[summary.baseline.trainable_parameters],
                y=[summary.baseline.score],
                mode="markers",
                marker={"color": GREEN, "symbol": "diamond", "size": 11},
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
        "as small. The dotted line is the constant answer.",
        figure=figure,
    )


def learning_curves(summary: TaskSummary, recorded: Records) -> Chart | None:
    curves: dict[str, list[Report]] = defaultdict(list)
    for report in recorded.reports:
        curves[report.trial_id].append(report)
    if not curves:
        return None
    best = summary.best.trial.trial_id if summary.best else ""
    whole = {each.trial.trial_id for each in summary.ranked if each.trial.status is Status.COMPLETED}
    baselines = {trial.trial_id for trial in recorded.trials if trial.kind == "baseline"}
    groups: dict[str, Callable[[str], bool]] = {
        "stopped early or broken off": lambda trial: trial != best and trial not in whole | baselines,
        "trained to the end": lambda trial: trial in whole - {best},
        "head only": lambda trial: trial in baselines,
        "best": lambda trial: trial == best,
    }
    figure = empty_figure("epochs", SCORE)
    for name, belongs in groups.items():
        chosen = [curve for trial, curve in curves.items() if belongs(trial)]
        if chosen:
            figure.add_trace(_curves(name, chosen, _LINES[name]))
    return Chart(
        name="curves",
        title="Learning curves",
        caption="One line a trial, a point at each rung. Dimmed lines were stopped early or broken off.",
        figure=figure,
    )


def scale_and_learning_rate(summary: TaskSummary, recorded: Records) -> Chart | None:
    chosen = [each for each in summary.ranked if {"scale", "learning_rate"} <= each.trial.params.keys()]
    if len({(each.trial.params["scale"], each.trial.params["learning_rate"]) for each in chosen}) < 2:
        return None
    figure = empty_figure("learning rate", "scale")
    figure.update_xaxes(log_axis([each.trial.params["learning_rate"] for each in chosen]))
    figure.update_yaxes(log_axis([each.trial.params["scale"] for each in chosen]))
    marker = {"color": [each.score for each in chosen], "colorscale": SCALE, "size": 13, "colorbar": colour_bar()}
    figure.add_trace(
        go.Scatter(
            x=[each.trial.params["learning_rate"] for each in chosen],
            y=[each.trial.params["scale"] for each in chosen],
            mode="markers",
            marker=marker,
            text=[_hover(each) for each in chosen],
            hovertemplate="%{text}<extra></extra>",
        )
    )
    return Chart(
        name="scale",
        title="Scale and learning rate",
        caption="Each point is a trial, coloured by its validation score.",
        figure=figure.update_layout(showlegend=False),
    )


def factor_shapes(summary: TaskSummary, recorded: Records) -> Chart | None:
    best: dict[tuple[int, int], RankedTrial] = {}
    tried: dict[tuple[int, int], int] = defaultdict(int)
    for each in summary.ranked:
        if factor_shape(each.trial):
            shape = (each.trial.params["a_out"], each.trial.params["a_in"])
            best.setdefault(shape, each)
            tried[shape] += 1
    if len(best) < 2:
        return None
    rows, columns = sorted({shape[0] for shape in best}), sorted({shape[1] for shape in best})
    cells = [[best.get((row, column)) for column in columns] for row in rows]
    figure = empty_figure("a_in", "a_out")
    figure.add_trace(
        go.Heatmap(
            x=[str(column) for column in columns],
            y=[str(row) for row in rows],
            z=[[cell.score if cell else None for cell in line] for line in cells],
            text=[[f"{cell.score:.3f}" if cell else "" for cell in line] for line in cells],
            customdata=[[tried[row, column] for column in columns] for row in rows],
            texttemplate="%{text}",
            hovertemplate="A %{y}×%{x}: best %{z:.3f} of %{customdata} trials<extra></extra>",
            hoverongaps=False,
            colorscale=SCALE,
            colorbar=colour_bar(),
            xgap=2,
            ygap=2,
        )
    )
    figure.update_xaxes(type="category").update_yaxes(type="category")
    return Chart(
        name="shapes",
        title="Factor shapes",
        caption="The best validation score of each shape of A; a shape that is not filled was not tried.",
        figure=figure,
    )


_CHARTS = (score_against_parameters, learning_curves, scale_and_learning_rate, factor_shapes)
_LINES = {
    "stopped early or broken off": {"color": GREY, "opacity": 0.35, "width": 1.2, "dash": "solid"},
    "trained to the end": {"color": BLUE, "opacity": 0.75, "width": 1.6, "dash": "solid"},
    "head only": {"color": GREEN, "opacity": 1.0, "width": 1.8, "dash": "dash"},
    "best": {"color": ORANGE, "opacity": 1.0, "width": 3.0, "dash": "solid"},
}


def _points(name: str, chosen: Sequence[RankedTrial], marker: dict[str, object]) -> go.Scatter:
    return go.Scatter(
        name=name,
        x=[each.trial.trainable_parameters for each in chosen],
        y=[each.score for each in chosen],
        mode="markers",
        marker=marker,
        text=[_hover(each) for each in chosen],
        hovertemplate="%{text}<extra></extra>",
    )


def _curves(name: str, curves: Sequence[Sequence[Report]], line: dict[str, object]) -> go.Scatter:
    """Many curves as one trace, a gap between them, so that the legend switches all of them."""
    points = [point for curve in curves for point in (*curve, None)]
    return go.Scatter(
        name=name,
        x=[point.epochs if point else None for point in points],
        y=[point.score if point else None for point in points],
        text=[point.trial_id if point else "" for point in points],
        hovertemplate="%{text}: %{y:.3f} after %{x:.3g} epochs<extra></extra>",
        mode="lines+markers",
        opacity=line["opacity"],
        line={key: line[key] for key in ("color", "width", "dash")},
        marker={"size": 5},
    )


def _hover(each: RankedTrial) -> str:
    params = each.trial.params
    lines = [f"<b>{each.score:.3f}</b> {each.trial.trial_id}", f"{each.trial.trainable_parameters:,} parameters"]
    if shape := factor_shape(each.trial):
        lines.append(f"A {shape}")
    lines += [f"{name} {params[name]:.3g}" for name in ("scale", "learning_rate") if name in params]
    return "<br>".join(lines)
