"""Names the default configuration of a space: what a person takes who does not search."""

import random
from typing import Any

from krona_tune.search.planning.space import Space
from krona_tune.search.planning.teaching import Teaching
from krona_tune.study.request.domain import MIDDLE, Divisors, Domain, Fixed, Value

DRAWS = 500
"""How many points are tried, ever further from the centre, until one fits."""


def default_point(space: Space, taught: Teaching | None = None) -> dict[str, Any] | None:
    """Returns the default configuration; None if no drawn point fits.

    It is the first point that the recorded curves teach, or the space's centre: the middle of each range and the middle
    one of several values. If these do not fit together, points are drawn around the centre, the nearest first, and then
    anywhere.
    """
    if taught:
        return dict(taught.points[0])
    rng = random.Random(0)
    for drawn in range(DRAWS):
        reach = drawn / DRAWS

        def value(label: str, domain: Domain) -> Value:
            assert not isinstance(domain, Divisors), "a space has the divisors of its own maps"
            if isinstance(domain, Fixed):
                return domain.value
            return domain.at(MIDDLE + reach * (rng.random() - MIDDLE))  # noqa: B023

        point = space.point(value)
        if space.feasible(point):
            return point
    return space.draw_where(space.feasible, rng)
