"""Says what a model offers to adapters: its layers and maps, what is left out and why, memory, and methods that fit."""

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress

from krona_tune.adapters.method_table import METHODS
from krona_tune.adapters.peft_class import known_methods
from krona_tune.adapters.placement import KEPT_IN, TRAINING_BYTES, count, why_nothing_is_stored
from krona_tune.backbones.geometry import Geometry, Role, Site
from krona_tune.refusal import Refusal
from krona_tune.study.formatting import format_bytes, format_many
from krona_tune.study.request.trial import AdapterConfig
from krona_tune.train.backbone_source import BackboneSource


def model_lines(source: BackboneSource) -> Iterator[tuple[str, str]]:
    """Yields what is known of a model, each as a name and a text."""
    shape = source.geometry
    yield "model", f"{source.name}, {shape.model_type}, {shape.parameters:,} parameters, {source.how}"
    yield "answers", "with text; labels are words" if shape.text_to_text else "with a head for the task"
    yield "width", f"{shape.width:,} features, {shape.vocabulary:,} tokens known"
    yield "reads", "any number of tokens" if shape.positions is None else f"{shape.positions:,} tokens at most"
    for stack, depth in shape.depths.items():
        yield str(stack), format_many(depth, "layer") + (f", used {shape.uses} times" if shape.uses > 1 else "")
    for said, layers in Counter(map(_text, filter(_is_map, shape.sites))).items():
        yield "map", f"{said}, in {format_many(layers, 'layer')}"
    for each in source.omitted:
        yield "omitted", each
    yield "frozen", frozen_text(source)
    weights = (f"{format_bytes(shape.parameters * size)} in {name}" for name, size in KEPT_IN.items())
    yield "memory", f"{', '.join(weights)}, of the frozen weights alone"
    yield "training", f"beside them {TRAINING_BYTES} bytes for each trained parameter, and roughly {_token_text(shape)}"
    yield "methods", ", ".join(_fitting(shape))


def _token_text(shape: Geometry) -> str:
    """Says what a backward pass through all layers keeps of each token."""
    sizes = {name: format_bytes(shape.kept_values() * KEPT_IN[name]) for name in ("fp32", "bf16")}
    return f"{' or '.join(f'{size} in {name}' for name, size in sizes.items())} for each token of a batch"


def _is_map(site: Site) -> bool:
    return site.role is not Role.FEED_FORWARD


def _text(site: Site) -> str:
    """Says what a map is, by its name inside its layer."""
    part = f" of the {site.rows.total:,} rows of one map" if site.rows else ""
    name = site.name.removeprefix(f"{site.layer_name}.")
    return f"{site.stack} {name}: {site.role}, {site.d_out:,}×{site.d_in:,}{part}"


def frozen_text(source: BackboneSource) -> str:
    """Returns which layers can be computed once for all trials and epochs, or why none can."""
    shape = source.geometry
    if reason := why_nothing_is_stored(shape, source.config):
        return f"no layers are computed once: {reason}"
    stack = shape.first_stack
    return f"up to {shape.depths[stack]} {stack} layers below the first adapted one can be computed once"


def _fitting(shape: Geometry) -> Iterator[str]:
    """Yields the methods that find a site in the model, those of peft too if it is installed."""
    roles = "+".join(dict.fromkeys(str(site.role) for site in shape.sites if site.role is not Role.NAMED))
    for name in (*METHODS, *known_methods()):
        placed = {"roles": roles} if roles else {}
        with suppress(Refusal):
            if count(shape, AdapterConfig.model_validate({"method": name, **placed}), outputs=0).adapter:
                yield name
