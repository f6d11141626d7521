"""Holds the table of methods: where each is placed, which knobs it reads, what it costs. Integers only, no torch.

Of the package peft, which needs torch, every method `peft:NAME` is a row too; only what is asked of it loads peft.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import isqrt

from krona_tune.backbones.geometry import Site
from krona_tune.kron.factors import FactorShape, divisors, factor_shape
from krona_tune.refusal import Refusal, unknown
from krona_tune.study.request.trial import PEFT, AdapterConfig


def lokr_sides(dimension: int, decompose_factor: int) -> tuple[int, int]:
    """Returns one side of the first and the second factor; their product is `dimension`.

    A decompose factor that divides the dimension is used as it is; else the largest divisor up to it and up to the
    square root of the dimension. -1 means as square as possible.
    """
    if decompose_factor > 0 and dimension % decompose_factor == 0:
        return decompose_factor, dimension // decompose_factor
    limit = isqrt(dimension) if decompose_factor == -1 else min(decompose_factor, isqrt(dimension))
    first = max(size for size in divisors(dimension) if size <= limit)
    return first, dimension // first


def lokr_cost(d_out: int, d_in: int, rank: int, decompose_factor: int) -> int:
    """Counts the parameters at a weight (d_out, d_in): a full first factor, a second one full or of low rank."""
    (out_first, out_second), (in_first, in_second) = (lokr_sides(d, decompose_factor) for d in (d_out, d_in))
    is_full = rank >= max(out_second, in_second) / 2
    return out_first * in_first + (out_second * in_second if is_full else rank * (out_second + in_second))


def lokr_factor(shapes: Iterable[FactorShape]) -> int | None:
    """Returns a decompose factor with which LoKr divides each of these weights as its shape does; None if none does.

    LoKr has one factor for both sides and all sites, so many KronA shapes have none: 24x32⊗32x24 for example.
    """
    wanted = {(d, first) for s in shapes for d, first in ((s.d_out, s.a_out), (s.d_in, s.a_in))}
    factors = (-1, *range(1, 1 + max(dimension for dimension, _ in wanted)))
    return next((f for f in factors if all(lokr_sides(d, f)[0] == first for d, first in wanted)), None)


class Stands(StrEnum):
    """The place of a method's adapters."""

    BESIDE_MAPS = "beside linear maps, chosen by role"
    BESIDE_EVERY_MAP = "beside every linear map"
    BESIDE_BLOCKS = "beside the feed-forward block"
    AFTER_SUBLAYERS = "after the attention and the feed-forward block"
    NOWHERE = "nowhere"


class TrainedModelPart(StrEnum):
    """The part of the model's own parameters that is trained."""

    NOTHING = "nothing"
    NORM_BIASES = "norm biases"
    NORMS = "norms"
    ADAPTED_NORMS = "norms inside adapted layers"
    ALL = "all"


def _free(site: Site, adapter: AdapterConfig) -> int:
    return 0


def _nothing_shared(adapter: AdapterConfig) -> int:
    return 0


@dataclass(frozen=True, kw_only=True)
class Method:
    """One method.

    `reads` are the adapter's knobs that matter to it, `cost` its parameters at one site, `shared` those that all its
    sites share; a ValueError of `cost` says why the knobs don't fit the site. `own` is trained even if layer norms are
    not. `merges_into` is the parameter of a linear map to merge the adapter into, None if it can't be merged.
    `counted` replaces `cost` and `shared` where only all sites together can be counted. `needs` is a package.
    """

    name: str
    stands: Stands
    reads: frozenset[str]
    cost: Callable[[Site, AdapterConfig], int] = _free
    shared: Callable[[AdapterConfig], int] = _nothing_shared
    counted: Callable[[Sequence[Site], AdapterConfig], int] | None = None
    own: TrainedModelPart = TrainedModelPart.NOTHING
    merges_into: str | None = None
    needs: str | None = None

    def trains_of_model(self, adapter: AdapterConfig) -> TrainedModelPart:
        """Returns which of the model's own parameters are trained under this configuration."""
        if self.own is TrainedModelPart.ALL or not adapter.layer_norms:
            return self.own
        return TrainedModelPart.ADAPTED_NORMS if adapter.layer_norms == "adapted" else TrainedModelPart.NORMS


def _krona_cost(site: Site, adapter: AdapterConfig) -> int:
    return factor_shape(site.d_out, site.d_in, adapter.a_out, adapter.a_in, adapter.terms).parameters


def _krona_res_cost(site: Site, adapter: AdapterConfig) -> int:
    return _krona_cost(site, adapter) + 1


def _lora_cost(site: Site, adapter: AdapterConfig) -> int:
    return adapter.rank * (site.d_in + site.d_out)


def _lokr_cost(site: Site, adapter: AdapterConfig) -> int:
    return lokr_cost(site.d_out, site.d_in, adapter.rank, adapter.decompose_factor)


def _bottleneck_cost(site: Site, adapter: AdapterConfig) -> int:
    """Counts two layers with their biases."""
    return adapter.bottleneck * (site.d_in + 1) + site.d_out * (adapter.bottleneck + 1)


def _compacter_cost(site: Site, adapter: AdapterConfig) -> int:
    """Counts two layers of rank-one factors (n of each: d_in + bottleneck and bottleneck + d_out) with their biases."""
    for size in (site.d_in, site.d_out, adapter.bottleneck):
        if size % adapter.phm:
            raise ValueError(f"phm {adapter.phm} does not divide {size}")
    return site.d_in + 3 * adapter.bottleneck + 2 * site.d_out


def _bias_cost(site: Site, adapter: AdapterConfig) -> int:
    return site.d_out


def _count_peft(sites: Sequence[Site], adapter: AdapterConfig) -> int:
    from krona_tune.adapters.peft_maps import count_peft

    return count_peft(sites, adapter)


_LAYERS = frozenset({"stacks", "layers", "layer_norms"})
_MAPS = _LAYERS | {"roles", "scale"}
_KRONECKER = _LAYERS | {"scale", "a_out", "a_in", "terms", "scaling", "init"}

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            name="krona",
            stands=Stands.BESIDE_MAPS,
            reads=_KRONECKER | {"roles"},
            cost=_krona_cost,
            merges_into="weight",
        ),
        Method(
            name="cdka",
            stands=Stands.BESIDE_MAPS,
            reads=_KRONECKER - {"init", "scaling"} | {"roles"},
            cost=_krona_cost,
            merges_into="weight",
        ),
        Method(name="krona_b", stands=Stands.BESIDE_BLOCKS, reads=_KRONECKER, cost=_krona_cost),
        Method(name="krona_b_res", stands=Stands.BESIDE_BLOCKS, reads=_KRONECKER, cost=_krona_res_cost),
        Method(name="lora", stands=Stands.BESIDE_MAPS, reads=_MAPS | {"rank"}, cost=_lora_cost, merges_into="weight"),
        Method(
            name="lokr",
            stands=Stands.BESIDE_MAPS,
            reads=_MAPS | {"rank", "decompose_factor"},
            cost=_lokr_cost,
            merges_into="weight",
            needs="peft",
        ),
        Method(
            name="parallel_adapter",
            stands=Stands.BESIDE_BLOCKS,
            reads=_LAYERS | {"scale", "bottleneck"},
            cost=_bottleneck_cost,
        ),
        Method(name="adapter", stands=Stands.AFTER_SUBLAYERS, reads=_LAYERS | {"bottleneck"}, cost=_bottleneck_cost),
        Method(
            name="compacter",
            stands=Stands.AFTER_SUBLAYERS,
            reads=_LAYERS | {"bottleneck", "phm"},
            cost=_compacter_cost,
            shared=lambda adapter: adapter.phm**3,
        ),
        Method(
            name="bitfit",
            stands=Stands.BESIDE_EVERY_MAP,
            reads=_LAYERS,
            cost=_bias_cost,
            own=TrainedModelPart.NORM_BIASES,
            merges_into="bias",
        ),
        Method(name="full", stands=Stands.NOWHERE, reads=frozenset(), own=TrainedModelPart.ALL, merges_into="weight"),
        Method(name="head_only", stands=Stands.NOWHERE, reads=frozenset({"layer_norms"}), merges_into="weight"),
    )
}


def is_peft(method: str) -> bool:
    """Returns whether the package peft computes a method."""
    return method.startswith(PEFT)


def method_named(name: str, place: str = "adapter: method") -> Method:
    """Returns the row of a method; of a method of peft, whatever it is called. Raises a Refusal that suggests the
    nearest name."""
    if is_peft(name):
        return Method(
            name=name,
            stands=Stands.BESIDE_MAPS,
            reads=_LAYERS | {"roles"},
            counted=_count_peft,
            merges_into="weight",
            needs="peft",
        )
    if name not in METHODS:
        raise unknown(place, "method", name, [*METHODS, f"{PEFT}NAME"])
    return METHODS[name]


def added_parameters(sites: Sequence[Site], adapter: AdapterConfig) -> int:
    """Returns the adapter's parameters at these sites. Raises a Refusal if its sizes do not fit one."""
    method = method_named(adapter.method)
    if not sites:
        return 0
    if method.counted:
        return method.counted(sites, adapter)
    return sum(_cost_at(site, adapter, method) for site in sites) + method.shared(adapter)


def _cost_at(site: Site, adapter: AdapterConfig, method: Method) -> int:
    try:
        return method.cost(site, adapter)
    except ValueError as error:
        raise Refusal("adapter", f"{error}", f"needed at {site.name}") from None
