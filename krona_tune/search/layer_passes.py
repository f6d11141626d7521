"""Counts the layers that trials' steps pass: none below an adapter is computed again where its outputs are stored."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from krona_tune.adapters.first_token_maps import left_out_of_last_layer
from krona_tune.adapters.method_table import method_named
from krona_tune.adapters.placement import OF_ADAPTED_LAYERS, frozen_layers, sites
from krona_tune.search.planning.space import Params, Space, adapter_of
from krona_tune.study.request.trial import dropout_acts_below

STATE_BYTES = 4
"""Bytes of a stored number in the widest precision that a worker may have."""


@dataclass(frozen=True, kw_only=True)
class LayerPasses:
    """The mean shares of a model's layers that a step of some points passes `forward` and `backward`.

    `spared` are the shares of both that the last layer's maps do not compute. `stored` has, by the share of the layers
    whose outputs are stored, the share of the points that read these.
    """

    forward: float
    backward: float
    stored: Mapping[float, float]
    spared: tuple[float, float] = (0.0, 0.0)

    @property
    def maps_forward(self) -> float:
        """Returns the share of the maps that are passed forward."""
        return self.forward - self.spared[0]

    @property
    def maps_backward(self) -> float:
        """Returns the share of the maps that are passed backward."""
        return self.backward - self.spared[1]


def layer_passes(space: Space, points: Sequence[Params], *, stores: bool, shortened: bool = False) -> LayerPasses:
    """Returns the passes of the points of a space: what is stored is not computed, and no gradient passes below the
    first adapter.

    Args:
        stores: whether what enters the layers above those that stay frozen is stored.
        shortened: whether the last layer computes the first token alone where the head reads no other.
    """
    geometry = space.geometry
    depth, adapters = sum(geometry.depths.values()), [adapter_of(point) for point in points]
    kept = [
        0
        if not stores or dropout_acts_below(point["dropout"], point["dropout_layers"])
        else frozen_layers(geometry, adapter)
        for point, adapter in zip(points, adapters, strict=True)
    ]
    lowest = [_lowest(space, point) for point in points]
    left_out = [left_out_of_last_layer(geometry, adapter.method) if shortened else 0.0 for adapter in adapters]

    def spared(below: Sequence[int]) -> float:
        return fmean(left * (layers < depth) for left, layers in zip(left_out, below, strict=True)) / depth

    return LayerPasses(
        forward=1 - fmean(kept) / depth,
        backward=1 - fmean(lowest) / depth,
        stored={layers / depth: count / len(kept) for layers, count in Counter(kept).items() if layers},
        spared=(spared(kept), spared(lowest)),
    )


@dataclass(frozen=True, kw_only=True)
class StudyPasses:
    """The passes of a study's points: of those that are `drawn`, of the `taught` ones, if there are any, and of the
    drawn point that passes the most."""

    drawn: LayerPasses
    most: LayerPasses
    taught: LayerPasses | None = None

    @classmethod
    def of(
        cls, space: Space, drawn: Sequence[Params], taught: Sequence[Params], *, stores: bool, shortened: bool = False
    ) -> "StudyPasses":
        """Returns the passes of both; see `layer_passes`."""

        def passes(points: Sequence[Params]) -> LayerPasses:
            return layer_passes(space, points, stores=stores, shortened=shortened)

        most = max((passes([point]) for point in drawn), key=lambda each: each.forward + each.backward)
        return cls(drawn=passes(drawn), most=most, taught=passes(taught) if taught else None)

    def filled(self, drawn: int, taught: int) -> float:
        """Returns how many passes through all layers compute what so many trials of each read, each depth once, on
        average."""
        first = self.taught.stored if self.taught else {}
        return sum(
            depth * (1 - (1 - self.drawn.stored.get(depth, 0.0)) ** drawn * (1 - first.get(depth, 0.0)) ** taught)
            for depth in {*self.drawn.stored, *first}
        )


def timed_points(space: Space, taught: Sequence[Params]) -> Sequence[Params]:
    """Returns the points whose steps are timed: the first taught one, which finals train again, and a usual one."""
    return (*taught[:1], usual_point(space))


def usual_point(space: Space) -> dict[str, Any]:
    """Returns a point whose steps cost about the mean: of many drawn, those that leave about as many layers frozen as
    the mean (of two numbers the smaller), and of these the one with the median number of parameters."""
    points = space.sample
    frozen = [frozen_layers(space.geometry, adapter_of(point)) for point in points]
    usual = min(sorted(set(frozen)), key=lambda layers: round(abs(layers - fmean(frozen)), 1))
    alike = sorted((p for p, layers in zip(points, frozen, strict=True) if layers == usual), key=space.parameters)
    return alike[len(alike) // 2]


def _lowest(space: Space, point: Params) -> int:
    """Returns how many layers are below the first that is trained, counted from the model's input."""
    geometry, adapter = space.geometry, adapter_of(point)
    if method_named(adapter.method).trains_of_model(adapter) not in OF_ADAPTED_LAYERS:
        return 0
    below, found = 0, []
    for stack, depth in geometry.depths.items():
        found += [below + site.layer for site in sites(geometry, adapter) if site.stack is stack]
        below += depth
    return min(found, default=below)
