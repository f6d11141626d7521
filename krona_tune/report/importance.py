"""Shows which knobs mattered: PED-ANOVA importances from Optuna, compared with what chance gives."""

import warnings
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import plotly.graph_objects as go

from krona_tune.report.chart import BLUE, GREY, ORANGE, Chart, Subject, empty_figure
from krona_tune.study.randomness import stream

FEWEST = 12
"""With fewer scored trials no importances are shown."""

TOP = 0.25
"""PED-ANOVA measures how differently a knob is set in this share of the best trials than in all of them."""

SHUFFLES = 20
FEW_VALUES = 12
"""A number with no more values than this is treated as a choice among them."""


def importance(subject: Subject) -> Chart | None:
    ranked = subject.summary.ranked
    knobs = searched_knobs([each.trial.params for each in ranked])
    if len(ranked) < FEWEST or not knobs or subject.recorded.effects:  # the model's effects say more
        return None
    scores = [each.score for each in ranked]
    found, *by_chance = importances(knobs, [scores, *_shuffled(scores)])
    chance = {name: sorted(each[name] for each in by_chance)[int(0.95 * SHUFFLES) - 1] for name in knobs}
    names = sorted(knobs, key=lambda name: found[name])
    figure = empty_figure("importance (PED-ANOVA)", "")
    figure.add_trace(_bars(names, found, chance))
    figure.add_trace(_ticks(names, chance))
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
        warnings.filterwarnings("ignore", message=".*to achieve low `target` values")
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
        marker={"color": [BLUE if found[name] > chance[name] else GREY for name in names]},
        hovertemplate="%{y}: %{x:.2g}<extra></extra>",
    )


def _ticks(names: Sequence[str], chance: dict[str, float]) -> go.Scatter:
    return go.Scatter(
        name="chance, once in twenty",
        x=[chance[name] for name in names],
        y=list(names),
        mode="markers",
        marker={"symbol": "line-ns-open", "color": ORANGE, "size": 18, "line": {"width": 2.5}},
        hovertemplate="chance: %{x:.2g}<extra></extra>",
    )
