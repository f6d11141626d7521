"""Draws the finals of a task: how much its finalists differ by their seeds."""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from krona_tune.report.chart import BESIDE, Chart, Colour, Subject, empty_figure, points, uneven_bars
from krona_tune.report.record_frames import shape_word
from krona_tune.study.finals import Finalist


def draw_seeds(subject: Subject) -> Chart | None:
    """Draws one dot per seed for each finalist and the head alone, with the means; None without finalists.

    Only test is drawn where validation and test scores are not of one kind.
    """
    finals, one_scale = subject.summary.finals, subject.summary.one_scale
    everyone = finals.everyone
    if not finals.finalists:
        return None
    figure = empty_figure("", "score")
    if one_scale:
        figure.add_trace(_dots("validation, a dot per seed", everyone, "score", -BESIDE, Colour.BLUE))
    figure.add_trace(_dots("test, a dot per seed", everyone, "test_score", BESIDE, Colour.ORANGE))
    if one_scale:
        validation = [each.validation.mean for each in everyone]
        figure.add_trace(_means("validation mean", validation, -BESIDE, {"visible": False}))
    test = [each.test for each in everyone]
    figure.add_trace(_means("test mean and 95 % interval", [each.mean for each in test], BESIDE, uneven_bars(test)))
    names = [_axis_name(each) for each in everyone]
    beside = ", validation left and test right of its name" if one_scale else " on test"
    figure.update_xaxes(tickvals=list(range(len(everyone))), ticktext=names, range=[-0.6, len(everyone) - 0.4])
    alike = len({frozenset(each.test_by_seed()) for each in everyone}) == 1
    under = "under the same seeds" if alike else "by seed"
    return Chart(
        name="seeds",
        title="The finalists, seed by seed",
        caption=f"Each configuration's scores {under}{beside}. The bar "
        "is the 95 % interval of the test mean over seeds and test examples.",
        figure=figure,
    )


def _axis_name(each: Finalist) -> str:
    """Returns a name that fits below an axis: method, shape of A, and the searched trial."""
    shape = shape_word(each.rows[0]).replace("x", "×")
    return "<br>".join(part for part in (f"{each.method} {shape}".strip(), each.of) if part)


def _dots(name: str, everyone: Sequence[Finalist], score: str, shift: float, colour: str) -> go.Scatter:
    rows = [(place + shift, row) for place, each in enumerate(everyone) for row in each.rows]
    text = [f"{row.trial_id}, seed {row.seed}" for _, row in rows]
    marker = {"color": colour, "size": 9, "opacity": 0.75}
    return points(name, [(x, getattr(row, score)) for x, row in rows], marker, "%{text}: %{y:.4g}", text)


def _means(name: str, means: Sequence[float], shift: float, bars: dict[str, Any]) -> go.Scatter:
    places = [(place + shift, mean) for place, mean in enumerate(means)]
    marker = {"symbol": "line-ew-open", "color": Colour.GREY, "size": 22, "line": {"width": 2.5}}
    error = ("error_y", {"color": Colour.GREY, "thickness": 1.5, **bars})
    return points(name, places, marker, "mean %{y:.4g}", bars=error).update(showlegend="visible" not in bars)
