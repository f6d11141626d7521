"""Draws what the study's model expects of each knob, with a band of one deviation."""

from collections.abc import Sequence
from itertools import groupby
from math import ceil

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from krona_tune.record.records import Effect
from krona_tune.report.charts.chart import Chart, Subject
from krona_tune.report.charts.style import BLUE, empty_figure, with_alpha
from krona_tune.study.formatting import format_name

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
