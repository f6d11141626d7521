"""Defines a chart of the page, its style, and what a task's charts are drawn from."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, log10
from typing import Any

import plotly.graph_objects as go

from krona_tune.record.records import Records
from krona_tune.report.frame import factor_shape
from krona_tune.report.task_summary import RankedTrial, TaskSummary
from krona_tune.study.formatting import format_tick
from krona_tune.study.network import Network
from krona_tune.study.result import TrialResult

BLUE, ORANGE, GREEN, PURPLE, RED, GREY = "#3f83c8", "#d9792b", "#2f9e76", "#8f6bc4", "#c0513f", "#8a8f98"
YELLOW, TEAL, PINK = "#b8952f", "#3a9aa8", "#c46a9b"
SCALE = "Viridis"


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
            font={"color": GREY, "size": 13},
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
    """Returns a logarithmic axis, labelled at 1, 2 and 5 times the powers of ten; only at the powers if it spans many.

    It can show positive values only.
    """
    positive = [value for value in values if value > 0] or [1.0]
    low, high = floor(log10(min(positive))), floor(log10(max(positive)))
    digits = (1, 2, 5) if max(positive) <= 100 * min(positive) else (1,)
    ticks = [digit * 10.0**power for power in range(low, high + 2) for digit in digits]
    return {"type": "log", "tickvals": ticks, "ticktext": [format_tick(float(f"{tick:.1g}")) for tick in ticks]}


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
    """One task: its summary, its own records, and the network if the study has recorded it."""

    summary: TaskSummary
    recorded: Records
    network: Network | None = None


def hover(each: RankedTrial) -> str:
    """Returns what a trial's point says under the mouse."""
    params = each.trial.params
    lines = [
        f"<b>{each.score:.3f}</b> {each.trial.trial_id}",
        f"{params.get('method', '')} {each.trial.trainable_parameters:,} parameters".strip(),
    ]
    if shape := factor_shape(each.trial):
        lines.append(f"A {shape}" + (f", {params['terms']} terms" if params.get("terms", 1) > 1 else ""))
    lines += [f"{name} {params[name]:.3g}" for name in ("scale", "learning_rate") if name in params]
    lines += ["stable scaling"] if params.get("scaling") == "stable" else []
    return "<br>".join([*lines, *_origin(each.trial)])


def _origin(trial: TrialResult) -> list[str]:
    if not trial.proposed_by:
        return []
    expected = ""
    if trial.expected_score is not None and trial.expected_deviation is not None:
        expected = f", expected {trial.expected_score:.3f} ± {trial.expected_deviation:.3f}"
    return [f"proposed by {trial.proposed_by}{expected}"]
