"""Describes points by what they do, in numbers between 0 and 1 that mean the same on every task of a study."""

import random
from collections.abc import Mapping
from contextlib import suppress
from math import log, log2

import numpy as np
import numpy.typing as npt

from krona_tune.adapters.placement import count, sites
from krona_tune.backbones.geometry import Geometry
from krona_tune.kron.factors import factor_shape, first_step
from krona_tune.refusal import Refusal
from krona_tune.search.planning.space import Params, Space, adapter_of
from krona_tune.study.randomness import stream
from krona_tune.study.request.domain import Domain, Fixed
from krona_tune.study.request.trial import SIZES

REFERENCE = 300
"""How many even draws show the least and the greatest value of a coordinate."""
Array = npt.NDArray[np.float64]


def coordinates(space: Space, params: Params, geometry: Geometry | None = None) -> dict[str, float]:
    """Returns a feasible point's coordinates by name; a coordinate that is not named is 0.

    Numbers that are above 0 count by their logarithm, and names by one coordinate each, which is 1. In place of A's two
    sizes there are the parameters, the reachable rank, and how tall A is: shapes that do nearly the same are near each
    other. In addition there are the number of adapted maps and how far the first step moves a map's weight: the
    learning rate times the scale, and for a Kronecker product what its shape makes of that. Sizes are shares of the
    backbone's, so that they mean the same on another one.

    Args:
        geometry: the backbone of an earlier study's point; None for the space's own.

    Raises:
        Refusal: the sizes don't fit the backbone.
    """
    backbone = geometry or space.geometry
    adapter, method = adapter_of(params), str(params["method"])
    found = {f"method {method}": 1.0} if len(space.methods) > 1 else {}
    for name, domain in space.knobs[method].items():
        if not isinstance(domain, Fixed) and name not in SIZES and name in params:
            found |= _of_knob(name, params[name], domain)
    places = sites(backbone, adapter)
    if not places:
        return found
    counted = count(backbone, adapter, outputs=0)
    share = max(1, counted.adapter + counted.norms) / backbone.parameters
    found |= {"parameters": log2(share), "sites": log2(len(places) / len(backbone.sites))}
    scale = adapter.scale if "scale" in space.knobs[method] else 1.0
    if "a_out" in space.knobs[method]:
        shape = factor_shape(places[0].d_out, places[0].d_in, adapter.a_out, adapter.a_in, adapter.terms)
        rank = log(shape.max_rank) / log(min(shape.d_out, shape.d_in))
        found |= {"rank": rank, "tall": log2(adapter.a_out / adapter.a_in)}
        scale = first_step(shape, adapter.init, scale, adapter.scaling)
    return found | {"step": log2(params["learning_rate"] * scale)}


def _of_knob(name: str, value: object, domain: Domain) -> Mapping[str, float]:
    values = domain.ends()
    if isinstance(value, bool) or not isinstance(value, int | float):
        return {f"{name} {value}": 1.0}
    positive = all(isinstance(each, int | float) and each > 0 for each in values)
    return {name: log2(value) if positive else float(value)}


class Encoder:
    """Turns points of a space into rows of numbers between 0 and 1, which even draws whose sizes fit span."""

    def __init__(self, space: Space, seed: int) -> None:
        self._space = space
        rng = random.Random(stream(seed, "coordinates"))
        rows: list[dict[str, float]] = []
        for _ in range(REFERENCE):
            with suppress(Refusal):  # a limit on parameters is no matter here: few draws may be within it
                rows.append(coordinates(space, space.draw(rng)))
        self.names = sorted({name for row in rows for name in row})
        table = np.array([[row.get(name, 0.0) for name in self.names] for row in rows or [{}]])
        self._low: Array = table.min(axis=0)
        spread = table.max(axis=0) - self._low
        self._width = np.where(spread > 0, spread, 1.0)

    @property
    def width(self) -> int:
        """Returns the number of coordinates."""
        return len(self.names)

    def __call__(self, point: Params, geometry: Geometry | None = None) -> Array:
        """Returns (d,): the point's coordinates in the order of `names`; of an earlier study's point with the geometry
        of its backbone. Raises a Refusal if its sizes don't fit."""
        found = coordinates(self._space, point, geometry)
        encoded: Array = (np.array([found.get(name, 0.0) for name in self.names]) - self._low) / self._width
        return encoded
