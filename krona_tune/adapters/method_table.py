"""Holds the table of methods, a row each: where it is placed, what it reads and costs, and who computes it. No torch.

What needs torch is named as "module:name" and loaded when it is wanted. Every method `peft:NAME` of the package peft is
one row too.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from math import gcd, isqrt
from pkgutil import resolve_name
from typing import Any

from krona_tune.backbones.geometry import Site
from krona_tune.kron.factors import FactorShape, divisors, factor_shape
from krona_tune.refusal import Refusal, unknown
from krona_tune.study.request.trial import HEAD_ONLY, PEFT, SET_BY_METHOD, AdapterConfig


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


def lokr_rank(d_out: int, d_in: int, rank: int, decompose_factor: int) -> int:
    """Returns the highest rank that LoKr reaches at a weight (d_out, d_in): the product of its two factors' ranks."""
    (out_first, out_second), (in_first, in_second) = (lokr_sides(d, decompose_factor) for d in (d_out, d_in))
    second = min(out_second, in_second)
    return min(out_first, in_first) * (second if rank >= max(out_second, in_second) / 2 else min(rank, second))


def lokr_factor(shapes: Iterable[FactorShape]) -> int | None:
    """Returns a decompose factor with which LoKr divides each of these weights as its shape does; None if none does.

    LoKr has one factor for both sides and all sites, so many KronA shapes have none: 24x32⊗32x24 for example.
    """
    wanted = {(d, first) for s in shapes for d, first in ((s.d_out, s.a_out), (s.d_in, s.a_in))}
    factors = (-1, *range(1, 1 + max(dimension for dimension, _ in wanted)))
    return next((f for f in factors if all(lokr_sides(d, f)[0] == first for d, first in wanted)), None)


class AttachPoint(StrEnum):
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
    sites share; a ValueError of `cost` says why the knobs don't fit the site. `rank` is the highest that its change of
    a site's weight reaches, None if that is not known before it is trained. `trained_part` is trained even if layer
    norms are not. `needs` is a package.

    `module` makes a site's adapter from (site, configuration, generator). Where the sites' adapters depend on each
    other, `modules` makes them all from (model, sites, configuration, generator), and `counted` counts them instead of
    `cost` and `shared`. `merges_into` is the parameter of a linear map to merge the adapter into, None if it can't be
    merged; `changes_by_weights`: what is added then depends on the map's weights. `peft_form` makes the package peft's
    configuration and tensors from (configuration, modules, transposed). These are "module:name", or empty.
    `peft_transposes`: peft's form adapts maps too that keep their weights as (d_in, d_out).

    `glue_average` is what others report with T5-base over GLUE, in points, if they do.
    """

    name: str
    attach_point: AttachPoint
    reads: frozenset[str]
    cost: Callable[[Site, AdapterConfig], int] = lambda site, adapter: 0
    shared: Callable[[AdapterConfig], int] = lambda adapter: 0
    rank: Callable[[Site, AdapterConfig], int] | None = None
    module: str = ""
    modules: str = ""
    counted: str = ""
    trained_part: TrainedModelPart = TrainedModelPart.NOTHING
    merges_into: str | None = None
    changes_by_weights: bool = False
    peft_form: str = ""
    peft_transposes: bool = True
    needs: str | None = None
    glue_average: float | None = None

    @property
    def trains_head_alone(self) -> bool:
        """Returns whether it adapts nothing, so that there is nothing to search."""
        return self.attach_point is AttachPoint.NOWHERE and self.trained_part is TrainedModelPart.NOTHING

    def trains_of_model(self, adapter: AdapterConfig) -> TrainedModelPart:
        """Returns which of the model's own parameters are trained under this configuration."""
        if self.trained_part is TrainedModelPart.ALL or not adapter.layer_norms:
            return self.trained_part
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


def shape_at(site: Site, adapter: AdapterConfig) -> FactorShape:
    """Returns the factor shape of a Kronecker adapter at a site. Raises a ValueError if its sizes do not fit."""
    return factor_shape(site.d_out, site.d_in, adapter.a_out, adapter.a_in, adapter.terms)


def _krona_cost(site: Site, adapter: AdapterConfig) -> int:
    return shape_at(site, adapter).parameters


def _bottleneck_cost(site: Site, adapter: AdapterConfig) -> int:
    """Counts two layers with their biases."""
    return adapter.bottleneck * (site.d_in + 1) + site.d_out * (adapter.bottleneck + 1)


def _compacter_cost(site: Site, adapter: AdapterConfig) -> int:
    """Counts two layers of rank-one factors (n of each: d_in + bottleneck and bottleneck + d_out) with their biases."""
    sizes = (site.d_in, site.d_out, adapter.bottleneck)
    for size in sizes:
        if size % adapter.phm:
            choices = ", ".join(map(str, divisors(gcd(*sizes))))
            whole = f"{site.d_out}×{site.d_in} and bottleneck {adapter.bottleneck}"
            raise ValueError(f"phm {adapter.phm} does not divide {size}; divisors of {whole}: {choices}")
    return site.d_in + 3 * adapter.bottleneck + 2 * site.d_out


_LAYERS = frozenset({"stacks", "layers", "layer_norms"})
_MAPS = _LAYERS | {"roles", "scale"}
_KRONECKER = _LAYERS | {"scale", "a_out", "a_in", "terms", "scaling", "init"}

_MODULES, _FORMS = "krona_tune.adapters.method_modules", "krona_tune.adapters.peft_form"
_beside_maps = partial(Method, attach_point=AttachPoint.BESIDE_MAPS, merges_into="weight")
_krona = partial(
    _beside_maps,
    cost=_krona_cost,
    rank=lambda site, adapter: shape_at(site, adapter).max_rank,
    module=f"{_MODULES}:Krona",
    peft_form=f"{_FORMS}:krona_form",
)
_beside_blocks = partial(Method, attach_point=AttachPoint.BESIDE_BLOCKS)
_after_sublayers = partial(Method, attach_point=AttachPoint.AFTER_SUBLAYERS)
_nowhere = partial(Method, attach_point=AttachPoint.NOWHERE, merges_into="weight")

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        _krona(name="krona", reads=_KRONECKER | {"roles"}, glue_average=86.14),
        _krona(name="cdka", reads=_KRONECKER.difference(SET_BY_METHOD["cdka"]) | {"roles"}),
        _beside_blocks(
            name="krona_b",
            reads=_KRONECKER,
            cost=_krona_cost,
            module=f"{_MODULES}:Krona",
            glue_average=86.28,
        ),
        _beside_blocks(
            name="krona_b_res",
            reads=_KRONECKER,
            cost=lambda site, adapter: _krona_cost(site, adapter) + 1,
            module=f"{_MODULES}:KronaBlockResidual",
            glue_average=86.57,
        ),
        _beside_maps(
            name="lora",
            reads=_MAPS | {"rank"},
            cost=lambda site, adapter: adapter.rank * (site.d_in + site.d_out),
            rank=lambda site, adapter: min(adapter.rank, site.d_in, site.d_out),
            module=f"{_MODULES}:Lora",
            peft_form=f"{_FORMS}:lora_form",
            glue_average=85.73,
        ),
        _beside_maps(
            name="lokr",
            reads=_MAPS | {"rank", "decompose_factor"},
            cost=lambda site, adapter: lokr_cost(site.d_out, site.d_in, adapter.rank, adapter.decompose_factor),
            rank=lambda site, adapter: lokr_rank(site.d_out, site.d_in, adapter.rank, adapter.decompose_factor),
            module=f"{_MODULES}:Lokr",
            peft_form=f"{_FORMS}:lokr_form",
            peft_transposes=False,
            needs="peft",
        ),
        _beside_blocks(
            name="parallel_adapter",
            reads=_LAYERS | {"scale", "bottleneck"},
            cost=_bottleneck_cost,
            module=f"{_MODULES}:ParallelAdapter",
            glue_average=85.86,
        ),
        _after_sublayers(
            name="adapter",
            reads=_LAYERS | {"bottleneck"},
            cost=_bottleneck_cost,
            module=f"{_MODULES}:SequentialAdapter",
            glue_average=85.30,
        ),
        _after_sublayers(
            name="compacter",
            reads=_LAYERS | {"bottleneck", "phm"},
            cost=_compacter_cost,
            shared=lambda adapter: adapter.phm**3,
            modules=f"{_MODULES}:compacters",
            glue_average=85.82,
        ),
        Method(
            name="bitfit",
            attach_point=AttachPoint.BESIDE_EVERY_MAP,
            reads=_LAYERS,
            cost=lambda site, adapter: site.d_out,
            module=f"{_MODULES}:Bias",
            trained_part=TrainedModelPart.NORM_BIASES,
            merges_into="bias",
            glue_average=84.17,
        ),
        _nowhere(name="full", reads=frozenset(), trained_part=TrainedModelPart.ALL, glue_average=85.65),
        _nowhere(name=HEAD_ONLY, reads=frozenset({"layer_norms"})),
    )
}
_OF_PEFT = Method(
    name=PEFT,
    attach_point=AttachPoint.BESIDE_MAPS,
    reads=_LAYERS | {"roles"},
    modules="krona_tune.adapters.peft_maps:build_peft_maps",
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
