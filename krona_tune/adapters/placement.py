"""Which sites of a backbone an adapter stands at, and how many parameters that trains. No torch."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import gcd

from krona_tune.adapters.methods import Beside, check_shape, method_named
from krona_tune.refusal import Refusal
from krona_tune.study.geometry import Geometry, Role, Site
from krona_tune.study.placement import layers
from krona_tune.study.trial import AdapterConfig


@dataclass(frozen=True, kw_only=True)
class ParameterCount:
    """What a trial trains, exactly. `percent` is of the backbone's own parameters and counts adapters and norms."""

    adapter: int
    norms: int
    head: int
    backbone: int

    @property
    def trainable(self) -> int:
        return self.adapter + self.norms + self.head

    @property
    def percent(self) -> float:
        return 100 * (self.adapter + self.norms) / self.backbone


def sites(geometry: Geometry, adapter: AdapterConfig) -> tuple[Site, ...]:
    """The sites that carry the adapter, in the backbone's order.

    Raises:
        Refusal: no site is left, or the layers asked for are not there.
    """
    beside = method_named(adapter.method).beside
    if beside is Beside.NOTHING:
        return ()
    roles = {Role.FEED_FORWARD} if beside is Beside.BLOCK else adapter.role_set - {Role.FEED_FORWARD}
    chosen = {
        stack: set(layers(adapter.layers, depth))
        for stack, depth in geometry.depths.items()
        if stack in adapter.stack_set
    }
    found = tuple(s for s in geometry.sites if s.role in roles and s.layer in chosen.get(s.stack, ()))
    if not found:
        where = f"roles {adapter.roles}, stacks {adapter.stacks}, layers {adapter.layers}"
        there = sorted({str(site.role) for site in geometry.sites} - {Role.FEED_FORWARD})
        raise Refusal(
            "adapter",
            f"{where}: no such site in this {geometry.model_type}",
            f"its roles are {', '.join(there)}; its stacks {', '.join(geometry.depths)}",
        )
    return found


def count(geometry: Geometry, adapter: AdapterConfig, outputs: int) -> ParameterCount:
    """The exact number of parameters that a trial trains on a task with that many outputs.

    Raises:
        Refusal: the adapter fits no site, or its shape does not divide a site's dimensions.
    """
    method = method_named(adapter.method)
    places = sites(geometry, adapter)
    for site in places:
        check_shape(site, adapter)
    return ParameterCount(
        adapter=sum(method.cost(site, adapter) for site in places),
        norms=geometry.norms if adapter.layer_norms else 0,
        head=geometry.head_parameters(outputs),
        backbone=geometry.parameters,
    )


def common_dimensions(places: Iterable[Site]) -> tuple[int, int]:
    """The greatest (d_out, d_in) whose divisors divide every site's dimensions."""
    d_out, d_in = 0, 0
    for site in places:
        d_out, d_in = gcd(d_out, site.d_out), gcd(d_in, site.d_in)
    return d_out, d_in
