"""Holds the table of methods, a row each: where it is placed, what it reads and costs, and who computes it. No torch.

What needs torch is named as "module:name" and loaded when it is wanted. Every method `peft:NAME` of the package peft is
one row too.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from math import isqrt
from pkgutil import resolve_name
from typing import Any

from krona_tune.backbones.geometry import Site
from krona_tune.kron.factors import FactorShape, divisors, factor_shape
from krona_tune.refusal import Refusal, unknown
from krona_tune.study.request.trial import BASELINE, PEFT, AdapterConfig


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


@dataclass(frozen=True, kw_only=True)
class Method:
    """One method.

    `reads` are the adapter's knobs that matter to it, `cost` its parameters at one site, `shared` those that all its
    sites share; a ValueError of `cost` says why the knobs don't fit the site. `own` is trained even if layer norms are
    not. `needs` is a package.

    `module` makes a site's adapter from (site, configuration, generator). Where the sites' adapters depend on each
    other, `modules` makes them all from (model, sites, configuration, generator), and `counted` counts them instead of
    `cost` and `shared`. `merges_into` is the parameter of a linear map to merge the adapter into, None if it can't be
    merged; `changes_by_weights`: what is added then depends on the map's weights. `peft_form` makes the package peft's
    configuration and tensors from (configuration, modules, transposed). These are "module:name", or empty.

    `glue_average` is what others report with T5-base over GLUE, in points, if they do.
    """

    name: str
    stands: Stands
    reads: frozenset[str]
    cost: Callable[[Site, AdapterConfig], int] = lambda site, adapter: 0
    shared: Callable[[AdapterConfig], int] = lambda adapter: 0
    module: str = ""
    modules: str = ""
    counted: str = ""
    own: TrainedModelPart = TrainedModelPart.NOTHING
    merges_into: str | None = None
    changes_by_weights: bool = False
    peft_form: str = ""
    needs: str | None = None
    glue_average: float | None = None

    @property
    def trains_head_alone(self) -> bool:
        """Returns whether it adapts nothing, so that there is nothing to search."""
        return self.stands is Stands.NOWHERE and self.own is TrainedModelPart.NOTHING

    def trains_of_model(self, adapter: AdapterConfig) -> TrainedModelPart:
        """Returns which of the model's own parameters are trained under this configuration."""
        if self.own is TrainedModelPart.ALL or not adapter.layer_norms:
            return self.own
        return TrainedModelPart.ADAPTED_NORMS if adapter.layer_norms == "adapted" else TrainedModelPart.NORMS

    def make_modules(self, model: Any, sites: Sequence[Site], adapter: AdapterConfig, generator: Any) -> list[Any]:
        """Returns the adapter of each site, a torch module.

        Args:
            model: the backbone's base model.
            generator: torch's; draws the first values.
        """
        if self.modules:
            made: list[Any] = resolve_name(self.modules)(model, sites, adapter, generator)
            return made
        return [resolve_name(self.module)(site, adapter, generator) for site in sites]


def _krona_cost(site: Site, adapter: AdapterConfig) -> int:
    return factor_shape(site.d_out, site.d_in, adapter.a_out, adapter.a_in, adapter.terms).parameters


def _bottleneck_cost(site: Site, adapter: AdapterConfig) -> int:
    """Counts two layers with their biases."""
    return adapter.bottleneck * (site.d_in + 1) + site.d_out * (adapter.bottleneck + 1)


def _compacter_cost(site: Site, adapter: AdapterConfig) -> int:
    """Counts two layers of rank-one factors (n of each: d_in + bottleneck and bottleneck + d_out) with their biases."""
    for size in (site.d_in, site.d_out, adapter.bottleneck):
        if size % adapter.phm:
            raise ValueError(f"phm {adapter.phm} does not divide {size}")
    return site.d_in + 3 * adapter.bottleneck + 2 * site.d_out


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
            module="krona_tune.adapters.method_modules:Krona",
            merges_into="weight",
            peft_form="krona_tune.adapters.peft_form:krona_form",
            glue_average=86.14,
        ),
        Method(
            name="cdka",
            stands=Stands.BESIDE_MAPS,
            reads=_KRONECKER - {"init", "scaling"} | {"roles"},
            cost=_krona_cost,
            module="krona_tune.adapters.method_modules:Krona",
            merges_into="weight",
            peft_form="krona_tune.adapters.peft_form:krona_form",
        ),
        Method(
            name="krona_b",
            stands=Stands.BESIDE_BLOCKS,
            reads=_KRONECKER,
            cost=_krona_cost,
            module="krona_tune.adapters.method_modules:Krona",
            glue_average=86.28,
        ),
        Method(
            name="krona_b_res",
            stands=Stands.BESIDE_BLOCKS,
            reads=_KRONECKER,
            cost=lambda site, adapter: _krona_cost(site, adapter) + 1,
            module="krona_tune.adapters.method_modules:KronaBlockResidual",
            glue_average=86.57,
        ),
        Method(
            name="lora",
            stands=Stands.BESIDE_MAPS,
            reads=_MAPS | {"rank"},
            cost=lambda site, adapter: adapter.rank * (site.d_in + site.d_out),
            module="krona_tune.adapters.method_modules:Lora",
            merges_into="weight",
            peft_form="krona_tune.adapters.peft_form:lora_form",
            glue_average=85.73,
        ),
        Method(
            name="lokr",
            stands=Stands.BESIDE_MAPS,
            reads=_MAPS | {"rank", "decompose_factor"},
            cost=lambda site, adapter: lokr_cost(site.d_out, site.d_in, adapter.rank, adapter.decompose_factor),
            module="krona_tune.adapters.method_modules:Lokr",
            merges_into="weight",
            peft_form="krona_tune.adapters.peft_form:lokr_form",
            needs="peft",
        ),
        Method(
            name="parallel_adapter",
            stands=Stands.BESIDE_BLOCKS,
            reads=_LAYERS | {"scale", "bottleneck"},
            cost=_bottleneck_cost,
            module="krona_tune.adapters.method_modules:ParallelAdapter",
            glue_average=85.86,
        ),
        Method(
            name="adapter",
            stands=Stands.AFTER_SUBLAYERS,
            reads=_LAYERS | {"bottleneck"},
            cost=_bottleneck_cost,
            module="krona_tune.adapters.method_modules:SequentialAdapter",
            glue_average=85.30,
        ),
        Method(
            name="compacter",
            stands=Stands.AFTER_SUBLAYERS,
            reads=_LAYERS | {"bottleneck", "phm"},
            cost=_compacter_cost,
            shared=lambda adapter: adapter.phm**3,
            modules="krona_tune.adapters.method_modules:compacters",
            glue_average=85.82,
        ),
        Method(
            name="bitfit",
            stands=Stands.BESIDE_EVERY_MAP,
            reads=_LAYERS,
            cost=lambda site, adapter: site.d_out,
            module="krona_tune.adapters.method_modules:Bias",
            own=TrainedModelPart.NORM_BIASES,
            merges_into="bias",
            glue_average=84.17,
        ),
        Method(
            name="full",
            stands=Stands.NOWHERE,
            reads=frozenset(),
            own=TrainedModelPart.ALL,
            merges_into="weight",
            glue_average=85.65,
        ),
        Method(name=BASELINE, stands=Stands.NOWHERE, reads=frozenset({"layer_norms"}), merges_into="weight"),
    )
}
_OF_PEFT = Method(
    name=PEFT,
    stands=Stands.BESIDE_MAPS,
    reads=_LAYERS | {"roles"},
    modules="krona_tune.adapters.peft_maps:peft_maps",
    counted="krona_tune.adapters.peft_maps:count_peft",
    merges_into="weight",
    changes_by_weights=True,
    needs="peft",
)


def is_peft(method: str) -> bool:
    """Returns whether the package peft computes a method."""
    return method.startswith(PEFT)


def method_named(name: str, place: str = "adapter: method") -> Method:
    """Returns the row of a method; of a method of peft, whatever it is called. Raises a Refusal that suggests the
    nearest name."""
    if is_peft(name):
        return replace(_OF_PEFT, name=name)
    if name not in METHODS:
        raise unknown(place, "method", name, [*METHODS, f"{PEFT}NAME"])
    return METHODS[name]


def added_parameters(sites: Sequence[Site], adapter: AdapterConfig) -> int:
    """Returns the adapter's parameters at these sites. Raises a Refusal if its sizes do not fit one."""
    method = method_named(adapter.method)
    if not sites:
        return 0
    if method.counted:
        counted: int = resolve_name(method.counted)(sites, adapter)
        return counted
    return sum(_cost_at(site, adapter, method) for site in sites) + method.shared(adapter)


def _cost_at(site: Site, adapter: AdapterConfig, method: Method) -> int:
    try:
        return method.cost(site, adapter)
    except ValueError as error:
        raise Refusal("adapter", f"{error}", f"needed at {site.name}") from None
