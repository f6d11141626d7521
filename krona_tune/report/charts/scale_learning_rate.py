"""Draws scale against learning rate: two knobs that partly do the same under Adam."""

from collections.abc import Sequence
from math import ceil, floor, log10

import plotly.graph_objects as go

from krona_tune.report.charts.chart import Chart, Subject, hover
from krona_tune.report.charts.style import GREY, SCALE, colour_bar, empty_figure, log_axis
from krona_tune.study.formatting import format_tick

MARGIN = 0.12
"""How far the axes extend beyond the outermost trial, in powers of ten."""


def scale_and_learning_rate(subject: Subject) -> Chart | None:
    chosen = [each for each in subject.summary.ranked if {"scale", "learning_rate"} <= each.trial.params.keys()]
    rates = [each.trial.params["learning_rate"] for each in chosen]
    scales = [each.trial.params["scale"] for each in chosen]
    if len(set(zip(scales, rates, strict=True))) < 2:
        return None
    figure = empty_figure("learning rate", "scale")
    figure.update_xaxes(log_axis(rates), range=_range(rates))
    figure.update_yaxes(log_axis(scales), range=_range(scales))
    marker = {"color": [each.score for each in chosen], "colorscale": SCALE, "size": 12, "colorbar": colour_bar()}
    figure.add_trace(
        go.Scatter(
            x=rates,
            y=scales,
            mode="markers",
            marker=marker,
            text=[f"{hover(each)}<br>product {s * r:.2g}" for each, s, r in zip(chosen, scales, rates, strict=True)],
            hovertemplate="%{text}<extra></extra>",
        )
    )
    figure.add_traces([_line(product, rates, scales) for product in _products(rates, scales)])
    return Chart(
        name="scale",
        title="Scale and learning rate",
        caption="Each point is a trial, coloured by its validation score. Along a dashed line the product of scale and "
        "learning rate is the same: where the colours follow the lines, one knob stands in for the other.",
        figure=figure.update_layout(showlegend=False),
    )


def _range(values: Sequence[float]) -> list[float]:
    return [log10(min(values)) - MARGIN, log10(max(values)) + MARGIN]


def _products(rates: Sequence[float], scales: Sequence[float]) -> list[float]:
    """Returns round products that cross the picture: powers of ten, with 3 between them."""
    low, high = log10(min(rates) * min(scales)), log10(max(rates) * max(scales))
    steps = range(floor(2 * low), ceil(2 * high) + 1)
    round_ones = [float(f"{10 ** (step / 2):.1g}") for step in steps]
    return [product for product in round_ones if low - MARGIN < log10(product) < high + MARGIN]


def _line(product: float, rates: Sequence[float], scales: Sequence[float]) -> go.Scatter:
    """Draws a product's line across the whole picture, with the product written at its lower end."""
    (left, right), (bottom, top) = _range(rates), _range(scales)
    ends = (max(left, log10(product) - top), min(right, log10(product) - bottom))
    return go.Scatter(
        x=[10**end for end in ends],
        y=[product / 10**end for end in ends],
        mode="lines+text",
        text=["", format_tick(product)],
        textposition="top left",
        textfont={"size": 11, "color": GREY},
        line={"color": GREY, "dash": "dash", "width": 1},
        opacity=0.6,
        hoverinfo="skip",
    )
