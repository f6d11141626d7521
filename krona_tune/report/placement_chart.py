"""Draws placement in a picture of the backbone: which sites the winner adapts, and how often good trials do."""

from collections import Counter
from collections.abc import Iterable, Mapping
from math import ceil
from typing import Any

from pydantic import ValidationError

from krona_tune.adapters.placement import sites
from krona_tune.backbones.geometry import Geometry, Stack
from krona_tune.refusal import Refusal
from krona_tune.report.chart import Chart, Colour, Subject, empty_figure, points, with_alpha
from krona_tune.report.task_summary import RankedTrial
from krona_tune.study.backbone_outline import BackboneOutline, layer_roles
from krona_tune.study.formatting import format_name
from krona_tune.study.request.trial import AdapterConfig
from krona_tune.study.result import TrialResult

GOOD = 0.25
"""The share of the ranked trials that counts as good."""

TINT = 0.4
"""The opacity of a site that all good trials adapt but the winner does not."""

Place = tuple[Stack, int, str]
"""A stack, a layer and a role."""

Where = tuple[tuple[str, Any], ...]
DECIDING = ("method", "roles", "stacks", "layers")
"""The knobs that decide where an adapter is."""


def draw_placement(subject: Subject) -> Chart | None:
    """Draws the sites that the winner or the best trial adapts; None if there are none or the backbone is not known."""
    backbone, ranked, shown = subject.backbone, subject.summary.ranked, subject.summary.winner
    if backbone is None or not ranked or shown is None:
        return None
    geometry = backbone.bare()
    winner = places_of(shown, geometry)
    if not winner:
        return None
    good = ranked[: max(1, ceil(GOOD * len(ranked)))]
    in_good, in_all = _counted(good, geometry), _counted(ranked, geometry)
    figure = empty_figure("layer", "")
    names = [str(role) for role in max((layer_roles(stack, backbone.depths) for stack in backbone.depths), key=len)]
    every = _everywhere(backbone)
    colours = [
        Colour.BLUE if place in winner else with_alpha(Colour.BLUE, TINT * in_good[place] / len(good))
        for place in every
    ]
    text = [_place_text(place, in_good[place], len(good), in_all[place], len(ranked)) for place in every]
    squares = {"symbol": "square", "size": 20, "color": colours, "line": {"color": Colour.BLUE, "width": 1}}
    places = [(_at(backbone, stack, layer), names.index(role)) for stack, layer, role in every]
    figure.add_trace(points(None, places, squares, text=text))
    figure.update_xaxes(_layers(backbone)).update_yaxes(_roles(names))
    for stack in backbone.depths:
        middle = _at(backbone, stack, (backbone.depths[stack] - 1) / 2)
        figure.add_annotation(text=str(stack), x=middle, y=1.0, yref="paper", yanchor="bottom", showarrow=False)
    return Chart(
        name="placement",
        title="Placement",
        caption=f"The backbone, a column per layer and a row per role. The filled sites are those that "
        f"{'the winner' if subject.summary.finals.winner else 'the best trial'} adapts; the others are tinted "
        f"by how many of the best {len(good)} of {len(ranked)} trials adapt them.",
        figure=figure.update_layout(showlegend=False, margin={"l": 128, "t": 28}),
    )


def places_of(trial: TrialResult, geometry: Geometry) -> frozenset[Place]:
    """Returns the sites that a trial adapts; empty for a method that has none, such as full fine-tuning."""
    return _places(_where(trial), geometry)


def _where(trial: TrialResult) -> Where:
    return tuple((name, trial.params[name]) for name in DECIDING if name in trial.params)


def _places(where: Where, geometry: Geometry) -> frozenset[Place]:
    try:
        found = sites(geometry, AdapterConfig.model_validate(dict(where)))
    except (Refusal, ValidationError):
        return frozenset()
    return frozenset((site.stack, site.layer, str(site.role)) for site in found)


def _counted(ranked: Iterable[RankedTrial], geometry: Geometry) -> Mapping[Place, int]:
    """Counts how many of the trials adapt each site."""
    counts: Counter[Place] = Counter()
    for where, number in Counter(_where(each.trial) for each in ranked).items():
        counts.update(dict.fromkeys(_places(where, geometry), number))
    return counts


def _everywhere(backbone: BackboneOutline) -> list[Place]:
    return [
        (stack, layer, str(role))
        for stack, depth in backbone.depths.items()
        for layer in range(depth)
        for role in layer_roles(stack, backbone.depths)
    ]


def _at(backbone: BackboneOutline, stack: Stack, layer: float) -> float:
    """Returns the position of a layer on the axis: the decoder begins one place after the encoder."""
    return layer + (
        backbone.depths[Stack.ENCODER] + 1 if stack is Stack.DECODER and Stack.ENCODER in backbone.depths else 0
    )


def _place_text(place: Place, good: int, of_good: int, every: int, of_all: int) -> str:
    stack, layer, role = place
    return f"{stack} layer {layer}, {format_name(role)}<br>in {good} of the best {of_good}, in {every} of all {of_all}"


def _layers(backbone: BackboneOutline) -> dict[str, object]:
    every = [(stack, layer) for stack, depth in backbone.depths.items() for layer in range(depth)]
    return {
        "tickvals": [_at(backbone, stack, layer) for stack, layer in every],
        "ticktext": [str(layer) for _, layer in every],
        "showgrid": False,
    }


def _roles(names: list[str]) -> dict[str, object]:
    return {
        "tickvals": list(range(len(names))),
        "ticktext": [format_name(name) for name in names],
        "range": [len(names) - 0.4, -0.6],
        "showgrid": False,
    }
