"""Draws all tasks in one picture: what won, with intervals, beside the head alone and the constant answer."""

from collections.abc import Sequence

import plotly.graph_objects as go

from krona_tune.report.charts.chart import Chart
from krona_tune.report.charts.style import BLUE, GREEN, GREY, ORANGE, empty_figure
from krona_tune.report.summary.task_summary import STANDARD_ERRORS, TaskSummary, together

ROW, AROUND, LOWEST = 54, 96, 360
"""The height of a task's row, of what is around the rows, and the lowest one beside another chart; in pixels."""


def overview_chart(tasks: Sequence[TaskSummary]) -> Chart | None:
    """Draws a row per task that has a result and fits on one axis with the others; None if none does."""
    scored = [each for each in together(tasks, "validation") if each.best is not None]
    if not scored:
        return None
    final = any(each.finals.winner and each.one_scale for each in scored)
    figure = empty_figure("score", "")
    figure.add_trace(_marks("constant", [each.constant_score for each in scored], 0.0, GREY, "line-ns-open"))
    figure.add_trace(_marks("head only", [each.baseline_score for each in scored], 0.14, GREEN, "diamond"))
    figure.add_trace(_best(scored))
    if final:
        heads = [each.finals.head_only.test.mean if each.finals.head_only else None for each in scored]
        figure.add_trace(_marks("head only on test", heads, -0.28, GREEN, "diamond-open"))
        figure.add_trace(_winners(scored))
    titles = [each.title for each in scored]
    figure.update_yaxes(tickvals=list(range(len(titles))), ticktext=titles, range=[len(titles) - 0.5, -0.5])
    apart = [each.title for each in tasks if each.best is not None and each not in scored]
    left_out = f" {', '.join(apart)} would not fit on this axis." if apart else ""
    seeds = "; orange is the winner's mean test score with its 95 % interval over seeds and examples" if final else ""
    return Chart(
        name="overview",
        title="What won, and by how much",
        caption=f"Each task's best validation score ± {STANDARD_ERRORS:g} rough standard errors{seeds}.{left_out}",
        figure=figure.update_layout(
            height=max(ROW * len(scored) + AROUND, LOWEST if len(scored) > 1 else 0), margin={"l": 72}
        ),
    )


def _marks(name: str, scores: Sequence[float | None], shift: float, colour: str, symbol: str) -> go.Scatter:
    return go.Scatter(
        name=name,
        x=list(scores),
        y=[place - shift for place in range(len(scores))],
        mode="markers",
        marker={"color": colour, "symbol": symbol, "size": 10, "line": {"width": 2, "color": colour}},
        hovertemplate=f"{name}: %{{x:.3f}}<extra></extra>",
    )


def _best(scored: Sequence[TaskSummary]) -> go.Scatter:
    best = [each.best for each in scored if each.best]
    return go.Scatter(
        name="best on validation",
        x=[each.score for each in best],
        y=[place - 0.14 for place in range(len(best))],
        mode="markers",
        marker={"color": BLUE, "size": 11},
        error_x={
            "type": "data",
            "array": [STANDARD_ERRORS * (each.standard_error or 0.0) for each in best],
            "color": BLUE,
            "thickness": 1.5,
        },
        hovertemplate="best on validation: %{x:.3f}<extra></extra>",
    )


def _winners(scored: Sequence[TaskSummary]) -> go.Scatter:
    won = [(place, each.finals.winner.test) for place, each in enumerate(scored) if each.finals.winner]
    ends = [test.interval or (test.mean, test.mean) for _, test in won]
    return go.Scatter(
        name="winner on test",
        x=[test.mean for _, test in won],
        y=[place + 0.28 for place, _ in won],
        mode="markers",
        marker={"color": ORANGE, "size": 11},
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [high - test.mean for (_, test), (_, high) in zip(won, ends, strict=True)],
            "arrayminus": [test.mean - low for (_, test), (low, _) in zip(won, ends, strict=True)],
            "color": ORANGE,
            "thickness": 1.5,
        },
        hovertemplate="winner on test: %{x:.3f}<extra></extra>",
    )
