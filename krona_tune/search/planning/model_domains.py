"""Finds the domains of adapters and training that follow from a model alone: its sizes, roles and depth."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import chain, product
from math import ceil
from typing import Any

from krona_tune.adapters.placement import MAPS, common_dimensions, sites
from krona_tune.backbones.geometry import Geometry, Role, Site
from krona_tune.kron.factors import factor_shape
from krona_tune.refusal import Refusal
from krona_tune.study.request.domain import Choice, Divisors
from krona_tune.study.request.trial import AdapterConfig, read_roles

ROLES = (("query", "value"), ("query", "key", "value", "output"))
"""The roles that are offered together, as far as the model has them; those of cross-attention join theirs."""
WIDEST_A, NARROWEST_A = (2, 48), (8, 96)
"""The largest and the smallest size of A, as the width over these: of its rows, then of its columns."""
TERMS = (1, 2, 4)
LEARNING_RATES = (3e-4, 3e-2)
"""Holds nine of ten of the best tenth of the points of every learned task among the recorded curves, widened."""
FIRST_GUESS = 3.5e-3
"""The median learning rate of those points."""


def placed(geometry: Geometry, given: Sequence[str] = ()) -> dict[str, Any]:
    """Returns the domains of adapters and training on a model; where a person has named the maps, nothing is placed.

    Args:
        given: the roles that a person gave in place of those that are offered.
    """
    roles = list(given) or _roles(geometry)
    where = {} if _named(geometry) else {"roles": roles, "layers": _layers(geometry, roles)}
    maps = _maps(geometry, roles)
    d_out, d_in = common_dimensions(maps)
    rows, columns = _divisors(d_out, *WIDEST_A), _divisors(d_in, *NARROWEST_A)
    low, high = LEARNING_RATES
    return {
        "adapter": {
            "method": "krona",
            "a_out": rows.plain(),
            "a_in": columns.plain(),
            "terms": [each for each in TERMS if each <= _most_terms(maps, rows.of(d_out), columns.of(d_in))],
            "scale": [1, 2, 4],
            **where,
        },
        "training": {"learning_rate": {"low": low, "high": high, "log": True}, "batch_size": 32, "dropout": 0.0},
    }


def why_placed(geometry: Geometry, given: Sequence[str], adapter: Mapping[str, Any]) -> dict[str, str]:
    """Returns why `placed` chose what it chose, by dotted key; `adapter` are its domains of the adapter."""
    d_out, d_in = common_dimensions(_maps(geometry, given or _roles(geometry)))
    stacks = sorted(geometry.depths.items(), key=lambda each: each[1])
    joint = ", and as many of " if stacks[0][1] < stacks[-1][1] else " and "
    depth = joint.join(f"{depth} {stack} layers" for stack, depth in stacks)
    several = len(adapter.get("layers", ())) > 1
    return {
        "adapter.a_out": f"divisors of {d_out} and {d_in}, common to all adapted maps",
        **({"adapter.layers": f"all, and the last half and third where they differ, of {depth}"} if several else {}),
        "training.learning_rate": f"holds nine of ten of the best adapters recorded on four tasks, widened; "
        f"half of them are below {FIRST_GUESS:g}",
    }


def _named(geometry: Geometry) -> bool:
    """Returns whether a person has named the maps that carry adapters."""
    return any(site.role is Role.NAMED for site in geometry.sites)


def _maps(geometry: Geometry, roles: Iterable[str]) -> list[Site]:
    """Returns the maps that may carry an adapter: named ones, else those of the roles; all if the model has none."""
    asked = {Role.NAMED} if _named(geometry) else MAPS.intersection(chain.from_iterable(map(read_roles, roles)))
    found = [site for site in geometry.sites if site.role in asked]
    return found or [site for site in geometry.sites if site.role in MAPS]


def _divisors(dimension: int, least: int, most: int) -> Divisors:
    """Returns the divisors between a width over `most` and over `least`, or all if none but 1 is there."""
    within = Divisors(low=max(1, dimension // most), high=max(1, dimension // least))
    return within if set(within.of(dimension).values) - {1} else Divisors()


def _most_terms(maps: Iterable[Site], rows: Choice, columns: Choice) -> int:
    """Returns how many terms some offered shape of A needs to reach every matrix."""
    sizes = {(site.d_out, site.d_in) for site in maps}
    shapes = product(map(int, rows.values), map(int, columns.values))
    return max(min(factor_shape(*each, *shape).max_terms for each in sizes) for shape in shapes)


def _roles(geometry: Geometry) -> list[str]:
    there = {site.role for site in geometry.sites} & MAPS
    offered = []
    for roles in ROLES:
        both = chain.from_iterable((role, f"cross_{role}") for role in roles)
        offered.append("+".join(role for role in both if role in there))
    return list(dict.fromkeys(filter(None, offered))) or ["+".join(sorted(there))]


def _layers(geometry: Geometry, roles: Sequence[str]) -> list[str]:
    """Returns all, the last half and the last third of the layers, as far as they differ and each holds a site."""
    depth = min(geometry.depths.values())
    parts = [count for count in dict.fromkeys((ceil(depth / 2), ceil(depth / 3))) if count < depth]
    return ["all", *(f"last {count}" for count in parts if all(_holds(geometry, r, count) for r in roles))]


def _holds(geometry: Geometry, roles: str, count: int) -> bool:
    with suppress(Refusal):
        return bool(sites(geometry, AdapterConfig(roles=roles, layers=f"last {count}")))
    return False
