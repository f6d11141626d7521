"""Counts what a model without weights consists of, outside and inside its layers."""

from dataclasses import dataclass
from inspect import signature
from typing import Any

from torch import nn

from krona_tune.backbones.introspection.linear_maps import Layers, MapSize, maps_of
from krona_tune.backbones.introspection.meta_model import MetaModel, build_meta_model, count
from krona_tune.backbones.introspection.norms import count_norm_biases, count_norms

POSITION_TABLES = ("position", "wpe")
"""What the names of tables of absolute positions contain."""


@dataclass(frozen=True, kw_only=True)
class LayerFacts:
    """A layer: its name in the base model, its linear maps by their names in it, the parameters of its norms, and
    everything that is named in it. `takes_one` are the modules that compute from one tensor alone, `stacked` the
    parameters that hold several matrices, with their dimensions."""

    name: str
    maps: dict[str, MapSize]
    takes_one: frozenset[str]
    stacked: dict[str, int]
    norms: int
    modules: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """A model's counts, and its lists of layers by their names."""

    text_to_text: bool
    parameters: int
    norms: int
    norm_biases: int
    head: tuple[int, int]
    positions: int | None
    layers: dict[str, tuple[LayerFacts, ...]]


def model_facts(
    config: Any, model: MetaModel, lists: list[Layers], place: str, *, says_untied: bool = False
) -> ModelFacts:
    """Returns the facts of a model with a head for two outputs; builds it once more with one output.

    Args:
        says_untied: the weights of a text-to-text model hold an embedding of the output of its own.
    """
    one = build_meta_model(config, 1, place)
    heads = [count(each.whole) - count(each.base) for each in (one, model)]
    per_output = heads[1] - heads[0]
    return ModelFacts(
        text_to_text=model.text_to_text,
        parameters=count(model.base) + (_output_embeddings(model) if says_untied else 0),
        norms=count_norms(model.base),
        norm_biases=count_norm_biases(model.base),
        head=(heads[0] - per_output, per_output),
        positions=_positions(model.base),
        layers={layers.name: tuple(_layer(*each) for each in layers.named()) for layers in lists},
    )


def _layer(name: str, module: nn.Module) -> LayerFacts:
    return LayerFacts(
        name=name,
        maps=maps_of(module),
        takes_one=frozenset(
            word for word, each in module.named_modules() if len(signature(each.forward).parameters) == 1
        ),
        stacked={word: p.ndim for word, p in module.named_parameters() if p.ndim > 2},
        norms=count_norms(module),
        modules=tuple(word for word, _ in module.named_modules()),
    )


def _output_embeddings(model: MetaModel) -> int:
    """Counts the output embeddings of a text-to-text model that transformers ties to the input's when it builds."""
    whole: Any = model.whole
    if not model.text_to_text:
        return 0
    weight = whole.get_output_embeddings().weight
    return weight.numel() if weight is whole.get_input_embeddings().weight else 0


def _positions(base: nn.Module) -> int | None:
    """Returns how many tokens the first table of absolute positions reaches; its rows before the first are not read."""
    for name, module in base.named_modules():
        if isinstance(module, nn.Embedding) and any(word in name.lower() for word in POSITION_TABLES):
            skipped: int = getattr(module, "offset", 0 if module.padding_idx is None else module.padding_idx + 1)
            return module.num_embeddings - skipped
    for name, buffer in base.named_buffers():
        if buffer.ndim == 2 and not name.endswith("_ids") and any(word in name for word in (*POSITION_TABLES, "pos_")):
            return len(buffer)  # computed positions, one row each
    return None
