"""The table of methods: where each goes, which knobs it reads, what it costs. Integers only, no torch."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from krona_tune.kron.factors import factor_shape
from krona_tune.refusal import Refusal, unknown
from krona_tune.study.geometry import Site
from krona_tune.study.trial import AdapterConfig


class Beside(StrEnum):
    """What a method's adapter stands beside."""

    MAPS = "maps"  # linear maps, chosen by role
    BLOCK = "block"  # the whole feed-forward block
    NOTHING = "nothing"  # no adapter: the task's head alone


@dataclass(frozen=True, kw_only=True)
class Method:
    """One method. `reads` are the adapter's knobs that matter to it; `cost` its parameters at one site."""

    name: str
    beside: Beside
    reads: frozenset[str]
    cost: Callable[[Site, AdapterConfig], int]
    merges: bool = False


def _krona_cost(site: Site, adapter: AdapterConfig) -> int:
    return factor_shape(site.d_out, site.d_in, adapter.a_out, adapter.a_in).parameters


_EVERYWHERE = frozenset({"method", "stacks", "layers", "layer_norms"})
_KRONECKER = _EVERYWHERE | {"scale", "a_out", "a_in"}

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(name="krona", beside=Beside.MAPS, reads=_KRONECKER | {"roles"}, cost=_krona_cost, merges=True),
        Method(name="krona_b", beside=Beside.BLOCK, reads=_KRONECKER, cost=_krona_cost),
        Method(
            name="krona_b_res",
            beside=Beside.BLOCK,
            reads=_KRONECKER,
            cost=lambda site, adapter: _krona_cost(site, adapter) + 1,
        ),
        Method(
            name="head_only",
            beside=Beside.NOTHING,
            reads=frozenset({"method", "layer_norms"}),
            cost=lambda site, adapter: 0,
        ),
    )
}


def method_named(name: str, place: str = "adapter: method") -> Method:
    """The row of a method. Raises a Refusal that suggests the nearest name."""
    if name not in METHODS:
        raise unknown(place, "method", name, METHODS)
    return METHODS[name]


def check_shape(site: Site, adapter: AdapterConfig) -> None:
    """Raises a Refusal where the adapter's shape does not divide the site's dimensions."""
    try:
        method_named(adapter.method).cost(site, adapter)
    except ValueError as error:
        raise Refusal("adapter", f"{error}", f"needed at {site.name}") from None
