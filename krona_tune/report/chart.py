"""Defines a chart of the page, its style, and what a task's charts are drawn from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import floor, log10
from typing import Any

import plotly.graph_objects as go

from krona_tune.record.records import Records
from krona_tune.report.record_frames import shape_word
from krona_tune.report.task_summary import RankedTrial, TaskSummary
from krona_tune.study.backbone_outline import BackboneOutline
from krona_tune.study.finals import Spread
from krona_tune.study.formatting import format_score, format_tick
from krona_tune.study.kinds import TrialKind
from krona_tune.study.result import TrialResult
from krona_tune.study.study_state import RUNNING


class Colour:
    """The colours of marks and lines."""

    BLUE, ORANGE, GREEN, PURPLE, RED, GREY = "#3f83c8", "#d9792b", "#2f9e76", "#8f6bc4", "#c0513f", "#8a8f98"
    YELLOW, TEAL, PINK = "#b8952f", "#3a9aa8", "#c46a9b"


COLOURS = (
    Colour.BLUE, Colour.ORANGE, Colour.GREEN, Colour.PURPLE, Colour.YELLOW, Colour.TEAL, Colour.RED, Colour.PINK,
)  # fmt: skip
"""One for each line or area of a chart, in their order."""
KIND_COLOURS = {
    TrialKind.REPEAT: Colour.YELLOW,
    TrialKind.FINALIST: Colour.ORANGE,
    TrialKind.FULL_TRAIN: Colour.TEAL,
    TrialKind.FULL_DATA: Colour.TEAL,
    TrialKind.BASELINE: Colour.GREEN,
}
"""The colour of each kind of trial that a legend calls by its words."""
LEGEND = {
    "trained to the end": Colour.BLUE,
    "stopped early": Colour.GREY,
    "stopped by a person": Colour.PINK,
    "without a regular end": Colour.RED,
    **{kind.facts.words: colour for kind, colour in KIND_COLOURS.items()},
    RUNNING: Colour.PURPLE,
    "not trained to the end": Colour.GREY,
    "diverged": Colour.RED,
    "among the best": Colour.BLUE,
    "best": Colour.ORANGE,
    "best on validation": Colour.BLUE,
    "winner on test": Colour.ORANGE,
    "head only on test": Colour.GREEN,
    "constant": Colour.GREY,
}
"""The colour of what a legend names, in every chart; what is stacked is so in this order."""
BESIDE = 0.14
"""The distance of a mark to the middle of its row or column, where the next one is at 1."""
LABELLED: Sequence[Sequence[float]] = (
    (1,),
    (1, 2, 5),
    range(1, 10),
    [half / 2 for half in range(2, 20)],
    [tenth / 10 for tenth in range(10, 100)],
)
"""The multiples of the powers of ten that a logarithmic axis may be labelled at, the fewest first."""
SCALE = "Viridis"
Range = tuple[float, float]
"""The ends of an axis, from low to high."""


def empty_figure(x_title: str, y_title: str) -> go.Figure:
    """Returns axes with titles on a transparent background; all sizes are in pixels."""
    axis = {"gridcolor": "rgba(128,128,128,0.22)", "linecolor": "rgba(128,128,128,0.5)", "zeroline": False}
    return go.Figure(
        layout=go.Layout(
            template="none",
            height=360,
            margin={"l": 64, "r": 16, "t": 12, "b": 48},
            paper_bgcolor="rgba(0,0,0,0)",
            plot_bgcolor="rgba(0,0,0,0)",
            font={"color": Colour.GREY, "size": 13},
            xaxis={**axis, "title": {"text": x_title, "font": {"size": 13}, "standoff": 12}},
            yaxis={**axis, "title": {"text": y_title, "font": {"size": 13}, "standoff": 12}},
            legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
            hoverlabel={"align": "left"},
        )
    )


def with_alpha(colour: str, alpha: float) -> str:
    """Returns a colour such as `#3f83c8` with the opacity `alpha`, from 0 to 1."""
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha:g})"


def colour_bar() -> dict[str, object]:
    return {"title": {"text": "score", "font": {"size": 13}}, "thickness": 12, "outlinewidth": 0}


def log_axis(values: Sequence[float]) -> dict[str, Any]:
    """Returns a logarithmic axis, labelled at 1, 2 and 5 times the powers of ten; only at the powers if it spans many,
    and at more places if fewer than two of them are between its ends.

    It can show positive values only.
    """
    positive = [value for value in values if value > 0] or [1.0]
    low, high = min(positive), max(positive)
    ticks = list[float]()
    for digits in LABELLED[high <= 100 * low :]:
        ticks = [digit * 10.0**power for power in range(floor(log10(low)), floor(log10(high)) + 2) for digit in digits]
        if low == high or sum(low <= tick <= high for tick in ticks) > 1:
            break
    return {"type": "log", "tickvals": ticks, "ticktext": [format_tick(float(f"{tick:.2g}")) for tick in ticks]}


def points(
    name: str | None,
    where: Sequence[tuple[Any, Any]],
    marker: dict[str, Any],
    hover: str = "%{text}",
    text: Sequence[str] | None = None,
    bars: tuple[str, dict[str, Any]] | None = None,
) -> go.Scatter:
    """Draws a mark at each place (x, y).

    Args:
        hover: what a mark says under the mouse, as a template of plotly.
        text: the text of each mark.
        bars: `error_x` or `error_y`, and the error bars.
    """
    return go.Scatter(
        name=name,
        x=[x for x, _ in where],
        y=[y for _, y in where],
        text=text,
        mode="markers",
        marker=marker,
        hovertemplate=f"{hover}<extra></extra>",
        **dict([bars] if bars else []),
    )


def uneven_bars(spreads: Sequence[Spread]) -> dict[str, Any]:
    """Returns error bars from each mean to the ends of its interval; of no length where there is none."""
    ends = [each.interval or (each.mean, each.mean) for each in spreads]
    return {
        "type": "data",
        "symmetric": False,
        "array": [high - each.mean for each, (_, high) in zip(spreads, ends, strict=True)],
        "arrayminus": [each.mean - low for each, (low, _) in zip(spreads, ends, strict=True)],
        "thickness": 1.5,
    }


def trial_points(
    name: str,
    chosen: Sequence[RankedTrial],
    x: Callable[[RankedTrial], float],
    marker: dict[str, Any],
    unit: str = "",
) -> go.Scatter:
    """Draws trials by their score, in the colour of their name; a trial's point says what it is, and its `x` if that
    has a unit."""
    more = [f"<br>{x(each):.3g} {unit}" if unit else "" for each in chosen]
    text = [hover(each) + said for each, said in zip(chosen, more, strict=True)]
    return points(
        name, [(x(each), each.score) for each in chosen], {"color": LEGEND.get(name, Colour.BLUE), **marker}, text=text
    )


def pareto_line(
    front: Sequence[RankedTrial], x: Callable[[RankedTrial], float], size: int, bars: dict[str, Any] | None = None
) -> go.Scatter:
    """Draws a Pareto front of trials as steps, with a ring of `size` pixels around each of them."""
    return go.Scatter(
        name="Pareto front",
        x=[x(each) for each in front],
        y=[each.score for each in front],
        mode="lines+markers",
        line={"color": Colour.ORANGE, "shape": "hv", "width": 2},
        marker={"symbol": "circle-open", "size": size, "line": {"width": 2}},
        error_y=bars,
        hoverinfo="skip",
    )


def product_ends(product: float, x_range: Range, y_range: Range) -> tuple[float, float]:
    """Returns between which x the line x + y = `product` crosses a picture; all of them are logarithms."""
    (left, right), (bottom, top) = x_range, y_range
    return max(left, product - top), min(right, product - bottom)


def product_line(x: Sequence[float], y: Sequence[float], text: str, opacity: float | None = None) -> go.Scatter:
    """Draws a dashed line of equal products, with the text at its lower end."""
    return go.Scatter(
        x=x,
        y=y,
        mode="lines+text",
        text=["", text],
        textposition="top left",
        textfont={"size": 11, "color": Colour.GREY},
        line={"color": Colour.GREY, "dash": "dash", "width": 1},
        opacity=opacity,
        hoverinfo="skip",
    )


SCORE = "validation score"


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A figure with its name, its title and a caption."""

    name: str
    title: str
    caption: str
    figure: go.Figure


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One task: its summary, its own records, and its backbone if the study has recorded it."""

    summary: TaskSummary
    recorded: Records
    backbone: BackboneOutline | None = None


def hover(each: RankedTrial) -> str:
    """Returns what a trial's point says under the mouse."""
    params = each.trial.params
    lines = [
        f"<b>{format_score(each.score)}</b> {each.trial.trial_id}",
        f"{params.get('method', '')} {each.trial.trainable_parameters:,} parameters".strip(),
    ]
    if shape := shape_word(each.trial):
        lines.append(f"A {shape}" + (f", {params['terms']} terms" if params.get("terms", 1) > 1 else ""))
    lines += [f"{name} {params[name]:.3g}" for name in ("scale", "learning_rate") if name in params]
    lines += ["stable scaling"] if params.get("scaling") == "stable" else []
    return "<br>".join([*lines, *_origin(each.trial)])


def _origin(trial: TrialResult) -> list[str]:
    if not trial.proposed_by:
        return []
    expected = ""
    if trial.expected_score is not None and trial.expected_deviation is not None:
        expected = f", expected {format_score(trial.expected_score)} ± {format_score(trial.expected_deviation)}"
    return [f"proposed by {trial.proposed_by}{expected}"]
