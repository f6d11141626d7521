"""Finds the sites of a backbone that carry an adapter, and counts the parameters that this trains. No torch."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import gcd
from typing import Any

from krona_tune.adapters.method_table import AttachPoint, TrainedModelPart, added_parameters, method_named
from krona_tune.backbones.geometry import Geometry, Role, Site
from krona_tune.refusal import Refusal, shown
from krona_tune.study.request.trial import AdapterConfig, read_layers, read_roles

MAPS = frozenset(Role) - {Role.FEED_FORWARD, Role.NAMED}
_ROLES = {
    AttachPoint.BESIDE_EVERY_MAP: MAPS | {Role.NAMED},
    AttachPoint.BESIDE_BLOCKS: frozenset({Role.FEED_FORWARD}),
    AttachPoint.AFTER_SUBLAYERS: frozenset({Role.OUTPUT, Role.FEED_FORWARD}),
}
"""The roles of the sites of a method that does not choose them; cross-attention carries no sequential adapter."""
STORES_STATES = frozenset(
    {
        "arcee", "bert", "camembert", "data2vec-text", "deberta", "deberta-v2", "distilbert", "electra", "ernie",
        "eurobert", "gemma", "glm", "helium", "llama", "megatron-bert", "ministral", "mistral", "mpnet",
        "mt5", "nemotron", "olmo", "olmo2", "phi", "phi3", "qwen2", "qwen3", "roberta", "roberta-prelayernorm",
        "seed_oss", "smollm3", "stablelm", "starcoder2", "t5", "umt5", "xlm-roberta", "xlm-roberta-xl",
    }
)  # fmt: skip
"""The model types whose first layers can be replaced by stored states, as tests show."""
OF_ADAPTED_LAYERS = frozenset({TrainedModelPart.NOTHING, TrainedModelPart.ADAPTED_NORMS})
"""What is trained of a model beside its adapters where no layer without an adapter is trained."""
TRAINING_BYTES = 16
"""Bytes per trained parameter in memory: a float32 value, its gradient and its two moments."""
KEPT_IN = {"fp32": 4.0, "bf16": 2.0, "int8": 1.0, "nf4": 0.5}
"""Bytes of a frozen weight, by what it is kept in."""


@dataclass(frozen=True, kw_only=True)
class ParameterCount:
    """The exact numbers of a trial's trained parameters. `percent` is of the backbone's own, without the head.

    `norms` are the layer norms' parameters that are trained, `adapter` everything else except the head.
    """

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


def refuse_whole_blocks(roles: str, place: str) -> None:
    """Raises a Refusal if `query+feed_forward` names a block, which no adapter of single maps can be on."""
    if Role.FEED_FORWARD in read_roles(roles):
        fix = f"name its maps: {Role.FEED_FORWARD_IN}+{Role.FEED_FORWARD_OUT}"
        raise Refusal(place, f"{roles}: {Role.FEED_FORWARD} is a whole block", fix)


def sites(geometry: Geometry, adapter: AdapterConfig) -> tuple[Site, ...]:
    """Returns the sites that carry the adapter, in the backbone's order.

    Raises:
        Refusal: no site is left, or the layers asked for do not exist.
    """
    point = method_named(adapter.method).attach_point
    if point is AttachPoint.NOWHERE:
        return ()
    roles = _ROLES.get(point, adapter.role_set & MAPS | {Role.NAMED})
    chosen = {
        stack: set(read_layers(adapter.layers, depth))
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
    if point is not AttachPoint.AFTER_SUBLAYERS:
        return found
    return tuple(replace(site, enters=site.name, d_in=site.d_out) for site in found)  # it reads a module's output


def count(geometry: Geometry, adapter: AdapterConfig, outputs: int) -> ParameterCount:
    """Counts exactly the parameters that a trial trains on a task with that many outputs.

    Raises:
        Refusal: the adapter fits no site, its sizes do not fit a site's dimensions, or the layer norms that are to be
            trained have no parameters.
    """
    if adapter.layer_norms and not geometry.norms:
        lacking = f"the layer norms of this {geometry.model_type} have no parameters"
        raise Refusal("adapter", f"layer_norms is {shown(adapter.layer_norms)}, but {lacking}", "write false")
    method = method_named(adapter.method)
    own = method.trains_of_model(adapter)
    places = sites(geometry, adapter)
    adapted = {(site.stack, site.layer) for site in places}
    norms = {
        TrainedModelPart.NORMS: geometry.norms,
        TrainedModelPart.ADAPTED_NORMS: sum(geometry.norms_of_layer[stack][layer] for stack, layer in adapted),
        TrainedModelPart.NORM_BIASES: geometry.norm_biases,
    }
    added = added_parameters(places, adapter)
    return ParameterCount(
        adapter=added + (geometry.parameters if own is TrainedModelPart.ALL else 0),
        norms=norms.get(own, 0),
        head=geometry.head_parameters(outputs),
        backbone=geometry.parameters,
    )


def frozen_layers(geometry: Geometry, adapter: AdapterConfig) -> int:
    """Returns the number of first layers that no trained parameter is in or below; 0 where the kind of model stores no
    states, whatever its config says."""
    if why_nothing_is_stored(geometry, {}):
        return 0
    if method_named(adapter.method).trains_of_model(adapter) not in OF_ADAPTED_LAYERS:
        return 0
    first = geometry.first_stack
    adapted = (site.layer for site in sites(geometry, adapter) if site.stack is first)
    return min(adapted, default=geometry.depths[first])


def why_nothing_is_stored(geometry: Geometry, config: Mapping[str, Any]) -> str:
    """Returns why no first layers of a model are computed once for all trials; nothing if those below adapters can be.

    Args:
        config: what config.json says.
    """
    reasons = {
        f"that is not done for a {geometry.model_type}": geometry.model_type not in STORES_STATES,
        "a convolution joins them": config.get("conv_kernel_size"),
        "a decoder reads each prompt with its target": geometry.writes_alone,
        "they attend in several ways": len(set(config.get("layer_types") or ())) > 1,
    }
    return next((reason for reason, applies in reasons.items() if applies), "")


def adapted_layers(geometry: Geometry, adapter: AdapterConfig) -> frozenset[str]:
    """Returns the names of the layers that are trained: those that carry an adapter, or all if all of the model is."""
    whole = method_named(adapter.method).trained_part is TrainedModelPart.ALL
    return frozenset(geometry.layers if whole else (site.layer_name for site in sites(geometry, adapter)))


def common_dimensions(places: Iterable[Site]) -> tuple[int, int]:
    """Returns the greatest (d_out, d_in) with divisors that divide every site's dimensions."""
    d_out, d_in = 0, 0
    for site in places:
        d_out, d_in = gcd(d_out, site.d_out), gcd(d_in, site.d_in)
    return d_out, d_in
