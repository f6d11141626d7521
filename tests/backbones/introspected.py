"""Looks at the tiny models, and sorts the maps that were found."""

from functools import cache

from krona_tune.backbones.geometry import Geometry, Role, Stack
from krona_tune.backbones.introspect import introspect
from tests.models import CONFIGS


@cache
def of(name: str) -> Geometry:
    model_type, values = CONFIGS[name]
    return introspect({"model_type": model_type, **values}, name)


def found(shape: Geometry, stack: Stack, layer: int) -> dict[Role, set[str]]:
    names: dict[Role, set[str]] = {}
    for site in shape.sites:
        if (site.stack, site.layer) == (stack, layer) and site.role is not Role.FEED_FORWARD:
            names.setdefault(site.role, set()).add(site.name.removeprefix(f"{site.layer_name}."))
    return names
