"""Draws the knobs: what the study's model expects of each, and scale against learning rate."""

from collections.abc import Sequence
from itertools import groupby
from math import ceil, floor, log10

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from krona_tune.record.records import Effect
from krona_tune.report.chart import (
    BLUE,
    GREY,
    SCALE,
    Chart,
    Subject,
    colour_bar,
    empty_figure,
    hover,
    log_axis,
    with_alpha,
)
from krona_tune.study.formatting import format_name, format_tick

COLUMNS, HEIGHT = 3, 190
"""Plots in a row, and the height of one in pixels."""
WIDE = 8
"""A knob whose greatest value is this many times its least is drawn on a logarithmic axis."""


def effects(subject: Subject) -> Chart | None:
    """Draws a small plot for each searched knob; nothing if no model of the study has written its effects."""
    knobs = {knob: list(some) for knob, some in groupby(subject.recorded.effects, lambda effect: effect.knob)}
    if not knobs:
        return None
    rows = ceil(len(knobs) / COLUMNS)
    figure = make_subplots(rows, COLUMNS, subplot_titles=[format_name(knob) for knob in knobs], shared_yaxes="all")
    for place, some in enumerate(knobs.values()):
        row, column = place // COLUMNS + 1, place % COLUMNS + 1
        for trace in _traces(some):
            figure.add_trace(trace, row, column)
        numbers = [effect.number for effect in some if effect.number]
        if len(numbers) == len(some) and min(numbers) > 0 and max(numbers) >= WIDE * min(numbers):
            figure.update_xaxes(type="log", row=row, col=column)
    style = empty_figure("", "").layout
    figure.update_xaxes(gridcolor=style.xaxis.gridcolor, zeroline=False, exponentformat="power")
    figure.update_yaxes(gridcolor=style.yaxis.gridcolor, zeroline=False)
    figure.update_annotations(font_size=13)
    figure.update_layout(
        template="none", paper_bgcolor=style.paper_bgcolor, plot_bgcolor=style.plot_bgcolor, font=style.font,
        height=HEIGHT * rows + 60, margin={"l": 56, "r": 16, "t": 32, "b": 40}, showlegend=False,
    )  # fmt: skip
    return Chart(
        name="effects",
        title="What each knob does, as the study's model sees it",
        caption="The validation score that the model expects at the full budget, in the mean over the other knobs, and "
        "one deviation of that mean. Where a flat line fits into the band, nothing is known of the knob.",
        figure=figure,
    )


def _traces(some: Sequence[Effect]) -> list[go.Scatter]:
    """Returns a line with a band for numbers, or points with bars for names."""
    expected = [effect.expected for effect in some]
    if any(effect.number is None for effect in some):
        up = [effect.high - effect.expected for effect in some]
        down = [effect.expected - effect.low for effect in some]
        bars = {"type": "data", "array": up, "arrayminus": down, "symmetric": False, "thickness": 1.5}
        return [
            go.Scatter(
                x=[effect.value for effect in some], y=expected, mode="markers", error_y=bars,
                marker={"color": BLUE}, hovertemplate="%{x}: %{y:.3f}<extra></extra>",
            )
        ]  # fmt: skip
    numbers = [effect.number for effect in some]
    edge = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
    return [
        go.Scatter(x=numbers, y=[effect.low for effect in some], **edge),
        go.Scatter(
            x=numbers, y=[effect.high for effect in some], fill="tonexty", fillcolor=with_alpha(BLUE, 0.2), **edge
        ),
        go.Scatter(
            x=numbers, y=expected, mode="lines+markers", line={"color": BLUE},
            hovertemplate="%{x:.3g}: %{y:.3f}<extra></extra>",
        ),
    ]  # fmt: skip


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
