"""Draws the finalists: how much the scores of seeds differ, on validation and on test."""

from collections.abc import Sequence

import plotly.graph_objects as go

from krona_tune.report.charts.chart import Chart
from krona_tune.report.charts.style import BLUE, GREY, ORANGE, empty_figure
from krona_tune.report.frame import factor_shape
from krona_tune.study.finals import Finalist, Finals

BESIDE = 0.14
"""How far validation is to the left of its configuration, and test to the right; 1 is the next configuration."""


def seeds_chart(finals: Finals, *, one_scale: bool = True) -> Chart | None:
    """Draws one dot per seed for each finalist and the head alone, with the means; None without finalists.

    `one_scale`: validation and test scores are of one kind; else only test is drawn.
    """
    everyone = [*finals.finalists, *([finals.head_only] if finals.head_only else [])]
    if not finals.finalists:
        return None
    figure = empty_figure("", "score")
    if one_scale:
        figure.add_trace(_dots("validation, a dot per seed", everyone, "score", -BESIDE, BLUE))
    figure.add_trace(_dots("test, a dot per seed", everyone, "test_score", BESIDE, ORANGE))
    if one_scale:
        validation = [each.validation.mean for each in everyone]
        figure.add_trace(_means("validation mean", validation, -BESIDE, {"visible": False}))
    figure.add_trace(_means("test mean and 95 % interval", [e.test.mean for e in everyone], BESIDE, _bars(everyone)))
    names = [configuration(each) for each in everyone]
    beside = ", validation left and test right of its name" if one_scale else " on test"
    figure.update_xaxes(tickvals=list(range(len(everyone))), ticktext=names, range=[-0.6, len(everyone) - 0.4])
    return Chart(
        name="seeds",
        title="The finalists, seed by seed",
        caption=f"Each configuration's scores under the same seeds{beside}. The bar "
        "is the bootstrap's 95 % interval of the test mean over seeds and test examples.",
        figure=figure,
    )


def configuration(each: Finalist) -> str:
    """Returns a name that fits below an axis: method, shape of A, and the searched trial."""
    shape = factor_shape(each.rows[0]).replace("x", "×")
    return "<br>".join(part for part in (f"{each.method} {shape}".strip(), each.of) if part)


def _dots(name: str, everyone: Sequence[Finalist], score: str, shift: float, colour: str) -> go.Scatter:
    points = [(place + shift, row) for place, each in enumerate(everyone) for row in each.rows]
    return go.Scatter(
        name=name,
        x=[x for x, _ in points],
        y=[getattr(row, score) for _, row in points],
        text=[f"{row.trial_id}, seed {row.seed}" for _, row in points],
        hovertemplate="%{text}: %{y:.3f}<extra></extra>",
        mode="markers",
        marker={"color": colour, "size": 9, "opacity": 0.75},
    )


def _means(name: str, means: Sequence[float], shift: float, bars: dict[str, object]) -> go.Scatter:
    return go.Scatter(
        name=name,
        x=[place + shift for place in range(len(means))],
        y=list(means),
        mode="markers",
        marker={"symbol": "line-ew-open", "color": GREY, "size": 22, "line": {"width": 2.5}},
        error_y={"color": GREY, "thickness": 1.5, **bars},
        showlegend=bars.get("visible", True) is True,
        hovertemplate="mean %{y:.3f}<extra></extra>",
    )


def _bars(everyone: Sequence[Finalist]) -> dict[str, object]:
    """Returns the interval's ends as distances from the mean; zeros if there is no interval."""
    ends = [each.test.interval or (each.test.mean, each.test.mean) for each in everyone]
    return {
        "type": "data",
        "symmetric": False,
        "array": [high - each.test.mean for each, (_, high) in zip(everyone, ends, strict=True)],
        "arrayminus": [each.test.mean - low for each, (low, _) in zip(everyone, ends, strict=True)],
    }
