"""Draws the knobs: what the study's model expects of each, scale against learning rate, and which knobs mattered.

That is told by PED-ANOVA importances from Optuna, compared with what chance gives.
"""

import warnings
from collections.abc import Callable, Sequence
from itertools import groupby
from math import ceil, floor, log10
from random import Random
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from krona_tune.record.records import Effect
from krona_tune.report.chart import (
    SCALE,
    Chart,
    Colour,
    Range,
    Subject,
    colour_bar,
    empty_figure,
    hover,
    log_axis,
    points,
    product_ends,
    product_line,
    with_alpha,
)
from krona_tune.study.formatting import format_name, format_tick
from krona_tune.study.randomness import stream

COLUMNS, HEIGHT = 3, 190
"""Plots in a row, and the height of one in pixels."""
WIDE = 8
"""A knob whose greatest value is this many times its least is drawn on a logarithmic axis."""


def draw_effects(subject: Subject) -> Chart | None:
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
        places = [(effect.value, effect.expected) for effect in some]
        return [points(None, places, {"color": Colour.BLUE}, "%{x}: %{y:.4g}", bars=("error_y", bars))]
    numbers = [effect.number for effect in some]
    band = with_alpha(Colour.BLUE, 0.2)
    edge = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
    return [
        go.Scatter(x=numbers, y=[effect.low for effect in some], **edge),
        go.Scatter(x=numbers, y=[effect.high for effect in some], fill="tonexty", fillcolor=band, **edge),
        go.Scatter(
            x=numbers, y=expected, mode="lines+markers", line={"color": Colour.BLUE},
            hovertemplate="%{x:.3g}: %{y:.4g}<extra></extra>",
        ),
    ]  # fmt: skip


MARGIN = 0.12
"""How far the axes extend beyond the outermost trial, in powers of ten."""


def draw_scale_and_learning_rate(subject: Subject) -> Chart | None:
    """Draws each trial's score at its learning rate and scale; None for fewer than two different pairs."""
    chosen = [each for each in subject.summary.ranked if {"scale", "learning_rate"} <= each.trial.params.keys()]
    rates = [each.trial.params["learning_rate"] for each in chosen]
    scales = [each.trial.params["scale"] for each in chosen]
    if len(set(zip(scales, rates, strict=True))) < 2:
        return None
    figure = empty_figure("learning rate", "scale")
    figure.update_xaxes(log_axis(rates), range=_range(rates))
    figure.update_yaxes(log_axis(scales), range=_range(scales))
    marker = {"color": [each.score for each in chosen], "colorscale": SCALE, "size": 12, "colorbar": colour_bar()}
    text = [f"{hover(each)}<br>product {s * r:.2g}" for each, s, r in zip(chosen, scales, rates, strict=True)]
    figure.add_trace(points(None, list(zip(rates, scales, strict=True)), marker, text=text))
    figure.add_traces([_line(product, rates, scales) for product in _products(rates, scales)])
    return Chart(
        name="scale",
        title="Scale and learning rate",
        caption="Each point is a trial, coloured by its validation score. Along a dashed line the product of scale and "
        "learning rate is the same: where the colours follow the lines, one knob stands in for the other.",
        figure=figure.update_layout(showlegend=False),
    )


def _range(values: Sequence[float]) -> Range:
    return log10(min(values)) - MARGIN, log10(max(values)) + MARGIN


def _products(rates: Sequence[float], scales: Sequence[float]) -> list[float]:
    """Returns round products that cross the picture: powers of ten, with 3 between them."""
    low, high = log10(min(rates) * min(scales)), log10(max(rates) * max(scales))
    steps = range(floor(2 * low), ceil(2 * high) + 1)
    round_ones = [float(f"{10 ** (step / 2):.1g}") for step in steps]
    return [product for product in round_ones if low - MARGIN < log10(product) < high + MARGIN]


def _line(product: float, rates: Sequence[float], scales: Sequence[float]) -> go.Scatter:
    """Draws a product's line across the whole picture, with the product written at its lower end."""
    ends = product_ends(log10(product), _range(rates), _range(scales))
    return product_line([10**end for end in ends], [product / 10**end for end in ends], format_tick(product), 0.6)


FEWEST = 12
"""With fewer scored trials no importances are shown."""

TOP = 0.25
"""PED-ANOVA measures how differently a knob is set in this share of the best trials than in all of them."""

SHUFFLES = 20
FEW_VALUES = 12
"""A number with no more values than this is treated as a choice among them."""


def draw_importance(subject: Subject) -> Chart | None:
    """Draws how much each knob mattered, and what chance gives; None for fewer than FEWEST scores or equal ones."""
    ranked = subject.summary.ranked
    knobs = searched_knobs([each.trial.params for each in ranked])
    scores = [each.score for each in ranked]
    if len(ranked) < FEWEST or not knobs or len(set(scores)) == 1:
        return None
    if subject.recorded.effects:  # the model's effects say more
        return None
    found, *by_chance = importances(knobs, [scores, *_shuffled(scores)])
    chance = {name: sorted(each[name] for each in by_chance)[int(0.95 * SHUFFLES) - 1] for name in knobs}
    names = sorted(knobs, key=lambda name: found[name])
    figure = empty_figure("importance (PED-ANOVA)", "")
    figure.add_trace(_bars(names, found, chance))
    ticks = {"symbol": "line-ns-open", "color": Colour.ORANGE, "size": 18, "line": {"width": 2.5}}
    places = [(chance[name], name) for name in names]
    figure.add_trace(points("chance, once in twenty", places, ticks, "chance: %{x:.2g}"))
    figure.update_xaxes(rangemode="tozero").update_yaxes(showgrid=False)
    return Chart(
        name="importance",
        title="Which knobs mattered",
        caption=f"How differently a knob is set in the best quarter of {len(ranked)} trials than in all of them. The "
        "mark is what scores shuffled at random reach once in twenty times: a grey bar that ends before it means "
        "nothing. Scores of trials that were stopped count as they stood.",
        figure=figure.update_layout(margin={"l": 128}),
    )


def searched_knobs(params: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    """Returns the values, trial by trial, of each knob that every trial has and that differs between them."""
    shared = [name for name in (params[0] if params else {}) if all(name in each for each in params)]
    values = {name: [each[name] for each in params] for name in shared}
    return {name: taken for name, taken in values.items() if len(set(taken)) > 1}


def importances(knobs: dict[str, list[Any]], scorings: Sequence[Sequence[float]]) -> list[dict[str, float]]:
    """Returns for each scoring each knob's importance, not normalised, from an in-memory Optuna study of the trials."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="minimize")
    distributions = {name: _distribution(values) for name, values in knobs.items()}
    rows = [dict(zip(knobs, values, strict=True)) for values in zip(*knobs.values(), strict=True)]
    trials = [optuna.trial.create_trial(params=row, distributions=distributions, value=0.0) for row in rows]
    study.add_trials(trials)
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=TOP)
    with warnings.catch_warnings():
        for message in (".*to achieve low `target` values", ".*quantiles select the same set"):
            warnings.filterwarnings("ignore", message=message)
        return [dict(evaluator.evaluate(study, target=_losses(scores))) for scores in scorings]


def _losses(scores: Sequence[float]) -> Callable[[Any], float]:
    """Returns a trial's negated score by its number, because PED-ANOVA takes a lower target for a better one."""
    return lambda trial: -scores[trial.number]


def _shuffled(scores: list[float]) -> list[list[float]]:
    random = Random(stream(0, "importance"))
    return [random.sample(scores, len(scores)) for _ in range(SHUFFLES)]


def _distribution(values: Sequence[Any]) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    different = list(dict.fromkeys(values))
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in different)
    if not numbers or len(different) <= FEW_VALUES:
        return CategoricalDistribution(different)
    return FloatDistribution(min(different), max(different), log=min(different) > 0)


def _bars(names: Sequence[str], found: dict[str, float], chance: dict[str, float]) -> go.Bar:
    return go.Bar(
        name="importance",
        showlegend=False,
        orientation="h",
        x=[found[name] for name in names],
        y=list(names),
        marker={"color": [Colour.BLUE if found[name] > chance[name] else Colour.GREY for name in names]},
        hovertemplate="%{y}: %{x:.2g}<extra></extra>",
    )
