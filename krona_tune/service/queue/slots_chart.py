"""Draws which study had how many slots of the queue, and when."""

from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from math import ceil

import pandas as pd
import plotly.graph_objects as go

from krona_tune.report.chart import COLOURS, Chart, Colour, empty_figure, with_alpha
from krona_tune.service.queue.entry import SlotChange

DAY = 86_400.0
"""The longest time that is drawn, in seconds."""
MOST_MOMENTS = 400
"""The drawn time is divided into so many parts; of the changes in one part the last one counts."""
LONGEST_LABEL = 32
MOST_TICKS = 6
DATE_BELOW = 68
"""The margin that the hour, the date and the title of the axis take; in pixels."""


def draw_slots(changes: Sequence[SlotChange], now: float) -> Chart | None:
    """Draws an area for each study, one on top of the other, until `now` (seconds since the epoch).

    Returns None for fewer than two changes, or if no study had a slot.
    """
    if len(changes) < 2:
        return None
    levels = _with_others(_levels(changes, now))
    if levels.empty:
        return None
    moments = [datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") for at in levels.index]
    figure = empty_figure("time (UTC)", "slots")
    for name, colour in zip(levels.columns, (*COLOURS, Colour.GREY), strict=False):
        figure.add_trace(_area(_label(name), moments, [int(slots) for slots in levels[name]], colour))
    figure.update_yaxes(dtick=max(1, ceil(levels.sum(axis="columns").max() / MOST_TICKS)), rangemode="tozero")
    figure.update_layout(legend_traceorder="normal", margin={"b": DATE_BELOW})
    figure.update_xaxes(type="date", range=[moments[0], moments[-1]])
    return Chart(
        name="slots",
        title="Slots over the last day",
        caption="How many trials the queue let each study run at once. The areas lie on top of each other, so the "
        "upper edge is all that was shared out.",
        figure=figure,
    )


def _levels(changes: Sequence[SlotChange], now: float) -> pd.DataFrame:
    """Returns how many slots each study had from each moment on: a row for a moment, a column for a study that had one;
    the last row is `now`."""
    frame = pd.DataFrame([each.model_dump() for each in changes]).sort_values("at", kind="stable")
    begin = max(frame["at"].iloc[0], now - DAY)
    part = max(now - begin, 1.0) / MOST_MOMENTS
    frame["at"] = begin + (frame["at"] - begin).clip(lower=0) // part * part
    levels = frame.groupby(["at", "name"], sort=False)["slots"].last().unstack("name").sort_index().ffill().fillna(0)
    levels.loc[max(now, levels.index[-1])] = levels.iloc[-1]
    return levels.loc[:, levels.any()]


def _with_others(levels: pd.DataFrame) -> pd.DataFrame:
    """Returns the studies that had the most, one for each colour, in their order, and then the sum of the others."""
    if len(levels.columns) <= len(COLOURS):
        return levels
    seconds = pd.Series(levels.index, index=levels.index).diff().shift(-1, fill_value=0)
    most = levels.mul(seconds, axis="index").sum().nlargest(len(COLOURS)).index
    shown = levels.loc[:, levels.columns.isin(most)]
    others = levels.loc[:, ~levels.columns.isin(most)]
    return shown.assign(**{f"{len(others.columns)} others": others.sum(axis="columns")})


def _label(name: str) -> str:
    """Returns a name that plotly shows as it is; a long one is cut."""
    return escape(name if len(name) <= LONGEST_LABEL else f"{name[: LONGEST_LABEL - 1]}…")


def _area(label: str, moments: Sequence[str], slots: Sequence[int], colour: str) -> go.Scatter:
    return go.Scatter(
        name=label,
        x=moments,
        y=slots,
        mode="lines",
        stackgroup="slots",
        line={"shape": "hv", "width": 1, "color": colour},
        fillcolor=with_alpha(colour, 0.55),
        hovertemplate="%{fullData.name}: %{y} from %{x|%H:%M:%S} on<extra></extra>",
    )
