"""Finds the point of a space that does most nearly what a point of another space does, on another backbone too."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import log, sqrt
from typing import Any

from krona_tune.adapters.method_table import shape_at
from krona_tune.adapters.placement import common_dimensions, sites
from krona_tune.backbones.geometry import Geometry
from krona_tune.kron.factors import FactorShape, effective_scale, first_step
from krona_tune.refusal import Refusal
from krona_tune.search.planning.space import Params, Space, adapter_of
from krona_tune.study.request.domain import MIDDLE, Choice, Domain, Fixed, Range, Value
from krona_tune.study.request.trial import SIZES, read_layers, read_roles

SCALE, RATE, BATCH = "scale", "learning_rate", "batch_size"
MOST_FASTER = sqrt(3)
"""Limits how many times greater a learning rate becomes where a training has fewer steps. Three times was good with a
third of the recorded steps, too, and worse with a ninth of them: `tests.benchmarks.curves.training_length`."""


@dataclass(frozen=True, kw_only=True)
class RateRule:
    """Says how a learning rate is carried from one space to another, beside what its shape and scale make of a step.

    `seen` is how many examples a training sees in the other space: with fewer steps than before, rates grow by the root
    of their ratio, to MOST_FASTER at most; None if that is not known. `by_depth`: where more layers of an
    encoder are adapted than before, a rate shrinks by their ratio; on a decoder that was no better
    (`tests.benchmarks.curves.adapted_layers`).
    """

    seen: float | None = None
    by_depth: bool = True


def nearest_point(
    space: Space, params: Params, geometry: Geometry, rule: RateRule | None = None, examples: float | None = None
) -> dict[str, Any] | None:
    """Returns the feasible point of the space that is nearest to `params`, a KronA adapter on the backbone `geometry`.

    `examples` is how many a training of `params` saw.

    Each knob gets the nearest value that it may have: layers by their share of the depth and their place, roles by
    those in common, the sizes of A as shares of the adapted maps. Then the scale keeps what the sum is multiplied by,
    and the learning rate how far the first step moves a map, as well as their domains allow. A knob that `params`
    lacks gets its first value, or the middle of its range. If such values do not fit together, the even draw is taken
    that differs least. None if the space lacks the method, searches no knob that `params` has, or if nothing fits.
    """
    method = str(params["method"])
    knobs = space.knobs.get(method, {})
    shared = {name: domain for name, domain in knobs.items() if name in params and not isinstance(domain, Fixed)}
    if not shared:
        return None
    near, rule = _Nearness(space.geometry, geometry), rule or RateRule()
    with suppress(Refusal, ValueError):
        point = {"method": method} | {name: near.nearest(name, domain, params) for name, domain in knobs.items()}
        sides = _dimensions(space.geometry, {**point, **dict.fromkeys(SIZES, 1)})
        before = first_shape(geometry, params)
        shares = {"a_out": before.a_out / before.d_out, "a_in": before.a_in / before.d_in}
        sizes = {name: share * sides[SIZES[name]] for name, share in shares.items()}
        wanted = {**params, **sizes}
        point |= {name: near.nearest(name, knobs[name], wanted) for name in SIZES if name in knobs}
        if not space.feasible(point):
            found = min(space.points_of(method), key=lambda drawn: near.between(shared, drawn, wanted))
            point = dict(found)
        after = first_shape(space.geometry, point)
        if SCALE in knobs:
            own = effective_scale(after, 1.0, adapter_of(point).scaling)
            wanted[SCALE] = effective_scale(before, params[SCALE], adapter_of(params).scaling) / own
            point[SCALE] = near.nearest(SCALE, knobs[SCALE], wanted)
        batch = float(point[BATCH])
        factor = _faster(examples / rule.seen * batch / params.get(BATCH, batch)) if examples and rule.seen else 1.0
        if rule.by_depth and space.geometry.is_encoder:
            factor *= min(1.0, _layers(geometry, params) / _layers(space.geometry, point))
        wanted[RATE] = params[RATE] * factor * step_of(before, params) / step_of(after, point)
        point[RATE] = near.nearest(RATE, knobs[RATE], wanted)
        return point
    return None


def _faster(fewer: float) -> float:
    """Returns how many times greater a learning rate is with so many times fewer steps."""
    return min(sqrt(max(fewer, 1.0)), MOST_FASTER)


def _layers(geometry: Geometry, params: Params) -> int:
    """Returns how many layers a point adapts; one that is used several times counts as often."""
    return geometry.uses * len({(site.stack, site.layer) for site in sites(geometry, adapter_of(params))})


def _dimensions(geometry: Geometry, params: Params) -> tuple[int, int]:
    """Returns (d_out, d_in), common to the maps that a point adapts. Raises a Refusal if it adapts none."""
    return common_dimensions(sites(geometry, adapter_of(params)))


def first_shape(geometry: Geometry, params: Params) -> FactorShape:
    """Returns the shape of a point's factors on the first map that it adapts."""
    adapter = adapter_of(params)
    return shape_at(sites(geometry, adapter)[0], adapter)


def step_of(shape: FactorShape, params: Params) -> float:
    """Returns how far a first step moves a map at learning rate 1."""
    adapter = adapter_of(params)
    return first_step(shape, adapter.init, adapter.scale, adapter.scaling)


class _Nearness:
    """Says how near values of a knob are to each other on two backbones: 0 if they mean the same."""

    def __init__(self, own: Geometry, other: Geometry) -> None:
        self._depths = own.depths[own.first_stack], other.depths[other.first_stack]

    def nearest(self, name: str, domain: Domain, wanted: Mapping[str, Any]) -> Value:
        """Returns the value of a domain that is nearest to the one of that name in `wanted`."""
        match domain:
            case Range() if isinstance(wanted.get(name), int | float):
                return _within(domain, wanted[name])
            case Choice(values) if name in wanted:
                return min(values, key=lambda value: self.distance(name, value, wanted[name]))
            case Range():
                return domain.at(MIDDLE)
        return domain.ends()[0]

    def between(self, knobs: Mapping[str, Domain], point: Params, wanted: Mapping[str, Any]) -> float:
        """Returns the sum of the distances of a point's knobs from the wanted values."""
        return sum(self.distance(name, point[name], wanted[name]) for name in knobs)

    def distance(self, name: str, own: Value, other: Any) -> float:
        """Returns the distance of the space's own value from one of the other backbone."""
        with suppress(Refusal):
            if name == "roles":
                ours, theirs = read_roles(str(own)), read_roles(str(other))
                return 1 - len(ours & theirs) / len(ours | theirs)
            if name == "layers":
                return _apart(str(own), str(other), *self._depths)
        if own == other:
            return 0.0
        if isinstance(own, bool | str) or isinstance(other, bool | str):
            return 1.0
        return abs(log(own / other)) if own > 0 and other > 0 else abs(own - other)


def _apart(own: str, other: str, own_depth: int, other_depth: int) -> float:
    """Returns how far two texts of layers are apart: in their share of the depth, and in where their middle is."""
    ours, theirs = read_layers(own, own_depth), read_layers(other, other_depth)
    share = abs(len(ours) / own_depth - len(theirs) / other_depth)
    middle = abs(sum(ours) / len(ours) / own_depth - sum(theirs) / len(theirs) / other_depth)
    return share + middle


def _within(domain: Range, wanted: float) -> Value:
    """Returns the value of a range that is nearest to a number."""
    inside = min(max(float(wanted), domain.low), domain.last)
    if domain.step is None and not domain.whole:
        return inside
    step = domain.step or 1
    found = domain.equal_value(domain.low + round((inside - domain.low) / step) * step)
    return domain.last if found is None else found
