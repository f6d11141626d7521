"""Holds the stub tasks' points (T5-base's space of Kronecker adapters) and the quantities that decide a score."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from krona_tune.adapters.placement import sites
from krona_tune.backbones.find_geometry import geometry
from krona_tune.search.planning.resolved_space import resolve
from krona_tune.search.planning.space import Space
from krona_tune.study.request.loader import build_spec, load_spec
from krona_tune.study.request.schedule import Schedule, make_schedule
from krona_tune.study.request.trial import AdapterConfig
from tests.backbone_folders import T5_BASE

ROOT = Path(__file__).resolve().parents[3]
WIDTH = 768
ROLES = (
    "query+value",
    "query+value+cross_query+cross_value",
    "query+key+value+output",
    "query+key+value+output+cross_query+cross_value",
)
LAYERS = ("all", "last 6", "every other")

Array = NDArray[np.float64]


@cache
def t5_space() -> Space:
    """Returns the space of `search_spaces/t5_base.yaml`, with several placements and no limit on parameters."""
    written = load_spec(ROOT / "search_spaces" / "t5_base.yaml").plain()
    written["adapter"] |= {"roles": list(ROLES), "layers": list(LAYERS)}
    del written["search"]["max_params"]
    return resolve(build_spec(written, "benchmark"), geometry(T5_BASE), "benchmark")


def rungs(reduction: int = 3) -> Schedule:
    """Returns the schedule: 20 epochs of 1,000 examples, judged first after 2."""
    return make_schedule(examples_per_epoch=1000, epochs=20, grace_epochs=2, reduction=reduction)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Points as arrays: base-10 logarithms of learning rate × scale and of scale, and quantities of their choices.

    `reach` is the logarithm of the reachable rank to base 768, `sites` the number of adapted maps.
    """

    product: Array
    scale: Array
    reach: Array
    size: Array
    leaning: Array
    sites: Array
    bonus: Array


def in_arrays(
    *,
    product: Array,
    scale: Array,
    a_out: NDArray[Any],
    a_in: NDArray[Any],
    places: list[tuple[str, str]],
    bonuses: Mapping[tuple[str, str], float],
    which: NDArray[Any] | None = None,
) -> Place:
    """Returns arrays (points,); the placement of each point is the `which`-th of `places`."""
    chosen = np.arange(len(product)) if which is None else which
    rank = np.minimum(a_out, a_in) * np.minimum(WIDTH // a_out, WIDTH // a_in)
    adapted = np.array([SITES[place] for place in places], dtype=float)[chosen]
    return Place(
        product=product,
        scale=scale,
        reach=np.log(rank) / np.log(WIDTH),
        size=np.log10(adapted * (a_out * a_in + WIDTH**2 / (a_out * a_in))),
        leaning=np.log10(a_out / a_in),
        sites=adapted,
        bonus=np.array([bonuses[place] for place in places])[chosen],
    )


def _sites() -> dict[tuple[str, str], int]:
    shape = geometry(T5_BASE)
    plain = AdapterConfig(method="krona")
    return {
        (roles, layers): len(sites(shape, plain.model_copy(update={"roles": roles, "layers": layers})))
        for roles in ROLES
        for layers in LAYERS
    }


SITES = _sites()
