"""Builds a transformers model from its config without weights, and finds its layers, linear maps and sizes."""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
import transformers
from torch import nn
from transformers.activations import ACT2FN
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
)
from transformers.pytorch_utils import Conv1D

from krona_tune.backbones.module_facts import base_of, count_norm_biases, count_norms
from krona_tune.refusal import Refusal, refusing, unknown


@dataclass(frozen=True)
class Layers:
    """A list of repeated layers, by its name in the base model. Blocks that are lists of layers are one list."""

    name: str
    modules: nn.ModuleList

    def named(self) -> Iterator[tuple[str, nn.Module]]:
        yield from _flat(self.name, self.modules)


def _flat(name: str, modules: nn.ModuleList) -> Iterator[tuple[str, nn.Module]]:
    for number, module in enumerate(modules):
        here = f"{name}.{number}"
        yield from _flat(here, module) if isinstance(module, nn.ModuleList) else [(here, module)]


@dataclass(frozen=True)
class MapSize:
    """The size of a linear map. A `transposed` one keeps its weight as (d_in, d_out), a `biased` one has a bias."""

    d_out: int
    d_in: int
    transposed: bool
    biased: bool


def find_layers(base: nn.Module) -> list[Layers]:
    """Returns the outermost module lists of the base model whose elements hold linear maps."""
    found: list[Layers] = []
    for name, module in base.named_modules():
        inside = any(name.startswith(f"{layers.name}.") for layers in found)
        if isinstance(module, nn.ModuleList) and not inside and any(map(_holds_maps, module)):
            found.append(Layers(name, module))
    return found


def _holds_maps(module: nn.Module) -> bool:
    return any(size_of(each) for each in module.modules())


def size_of(module: nn.Module) -> MapSize | None:
    """Returns a linear map's size, None for another module. A quantised weight's shape says nothing of it."""
    if isinstance(module, nn.Linear) and "router" not in type(module).__name__.lower():  # one gives more than a product
        return MapSize(module.out_features, module.in_features, False, module.bias is not None)
    if isinstance(module, Conv1D):
        own: Any = module
        return MapSize(int(own.nf), int(own.nx), True, True)
    return None


def matrix_kinds(module: nn.Module) -> list[str]:
    """Returns the kinds of modules in repeated lists that hold a matrix of their own."""
    lists = [each for each in module.modules() if isinstance(each, nn.ModuleList)]
    inside = [each for layers in lists for each in layers.modules()]
    return sorted({type(each).__name__ for each in inside if any(p.ndim > 1 for p in each.parameters(recurse=False))})


def maps_of(layer: nn.Module) -> dict[str, MapSize]:
    """Returns the linear maps of a layer by their names inside it."""
    return {name: size for name, module in layer.named_modules() if (size := size_of(module))}


ACTIVATIONS = {
    "hidden_act", "pooler_hidden_act", "conv_act", "activation", "activation_function", "hidden_activation",
    "feed_forward_proj",
}  # fmt: skip
"""The keys of a config.json that name an activation."""
GATED = "gated-"
"""Begins the name of the activation in the config of a T5 whose feed-forward block has a gate."""
WINDOWS = {"attention_window": 4}
"""What a config says about the tokens that a model reads at once, and the number that lets it read a few. It changes
no parameter."""
MOST_PARAMETERS = 10**13
"""More than any model has: a mistake in config.json."""


@dataclass(frozen=True, kw_only=True)
class MetaModel:
    """A model without weights; `base` is what is pretrained, and `whole` also has a task's head, or that of a language
    model if the family has no other."""

    config: Any
    whole: nn.Module
    base: nn.Module

    @property
    def is_encoder_decoder(self) -> bool:
        return self.whole is self.base

    @property
    def text_to_text(self) -> bool:
        return self.is_encoder_decoder or _kind(self.config) is transformers.AutoModelForCausalLM


def read_config(values: Mapping[str, Any], place: str) -> Any:
    """Returns the config of transformers that a config.json describes.

    Raises:
        Refusal: its model type or an activation is unknown, it has no text alone, or its values fit no such model.
    """
    model_type = values.get("model_type")
    if model_type not in transformers.CONFIG_MAPPING:
        raise unknown(place, "model_type", model_type, known_model_types())
    kind = transformers.CONFIG_MAPPING[model_type]
    _refuse_unknown_activations(values, {*signature(kind).parameters, *kind.attribute_map}, place)
    with refusing(place, f"describes no {model_type}", "save the model again"):
        config = kind.from_dict(_decoded(dict(values)))
        text = config.get_text_config()
    if text is not config and model_type not in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES:
        raise Refusal(place, f"{model_type} reads more than text", f"give its text model, {text.model_type}")
    if model_type in _ENCODER_DECODERS and not config.is_encoder_decoder:
        said = f"it says is_encoder_decoder: false, as that of a {model_type} encoder does that was saved alone"
        raise Refusal(place, said, "give the whole model, encoder and decoder")
    if not _kind(config):
        raise Refusal(
            place,
            f"transformers neither classifies nor answers with {model_type}",
            "give an encoder with a class for sequence classification, a decoder, or an encoder-decoder",
        )
    return config


def _refuse_unknown_activations(values: Mapping[str, Any], read: Collection[str], place: str) -> None:
    """Refuses the activations among the keys that a family reads; transformers looks some up at a first text."""
    for name in sorted(ACTIVATIONS & values.keys() & {*read}):
        value = values[name]
        if value is not None and (not isinstance(value, str) or value.removeprefix(GATED) not in ACT2FN):
            raise unknown(f"{place}: {name}", "activation", value, ACT2FN)


def _decoded(value: Any) -> Any:
    """Returns a copy of JSON with the numbers that it lacks, which the library writes as {"__float__": "Infinity"}."""
    match value:
        case {"__float__": str(number)}:
            return float(number)
        case dict():
            return {key: _decoded(each) for key, each in value.items()}
        case list():
            return [_decoded(each) for each in value]
    return value


def known_model_types() -> set[str]:
    """Returns the model types that classify or answer with text."""
    return {name for names, _ in _KINDS.values() for name in names}


_KINDS = {
    "encoder-decoder": (MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES, transformers.AutoModelForSeq2SeqLM),
    "classifier": (MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES, transformers.AutoModelForSequenceClassification),
    "decoder": (MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, transformers.AutoModelForCausalLM),
}
"""The model types that the library builds a class for, and that class; the first that fits is taken."""


_ENCODER_DECODERS = MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES.keys() - MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.keys()
"""The model types of which no half answers alone."""


def _kind(config: Any) -> Any:
    """Returns the class of models to build; None if there is none."""
    fits = ["encoder-decoder"] if config.is_encoder_decoder else ["classifier", "decoder"]
    return next((kind for names, kind in map(_KINDS.__getitem__, fits) if config.model_type in names), None)


def stated(config: Any, name: str) -> Any:
    """Returns a number of a config, or that of its decoder's; None if neither states it."""
    return getattr(config, name, getattr(getattr(config, "decoder", None), name, None))


def is_decoder(config: Any) -> bool:
    """Returns whether the library writes text with such a model and fills no gaps with it."""
    writes = config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    return writes and config.model_type not in MODEL_FOR_MASKED_LM_MAPPING_NAMES


OF_A_HEAD = {"id2label", "label2id", "problem_type"}
"""What the config of a fine-tuned model says of the head that it has, which need not fit another one."""


def build_meta_model(config: Any, outputs: int, place: str) -> MetaModel:
    """Builds the model with a head for that many outputs; an encoder-decoder, which answers in words, has none.

    Raises:
        Refusal: transformers can't build it, or it has more parameters than any model.
    """
    kind = _kind(config)
    values = {key: value for key, value in config.to_dict().items() if key not in OF_A_HEAD}
    with refusing(place, f"describes no {config.model_type}", "save the model again"), torch.device("meta"):
        config = type(config).from_dict({**values, "num_labels": outputs, "use_cache": False})
        for name in WINDOWS.keys() & values.keys():
            setattr(config, name, WINDOWS[name])
        config._attn_implementation = "eager"
        whole = kind.from_config(config, dtype=torch.float32)
        base = base_of(whole)
    if (base is whole) != config.is_encoder_decoder:
        said = f"the library's {type(whole).__name__} has no base model named {whole.base_model_prefix!r}"
        raise Refusal(place, f"{said}, which adapters are placed in", "give another model")
    if (found := _count(base)) > MOST_PARAMETERS:
        raise Refusal(place, f"describes {found:,} parameters", "save the model again")
    return MetaModel(config=config, whole=whole, base=base)


def _count(module: nn.Module) -> int:
    """Counts a module's parameters, each once."""
    return sum(parameter.numel() for parameter in module.parameters())


POSITION_TABLES = ("position", "wpe")
"""What the names of tables of absolute positions contain."""
POSITION_IDS = "position_ids"
"""The end of the names of the numbers of positions, one a token."""


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
    """Each with its kind in brackets."""


@dataclass(frozen=True, kw_only=True)
class ArchitectureFacts:
    """A model's counts, and its lists of layers by their names."""

    text_to_text: bool
    is_encoder_decoder: bool
    parameters: int
    output_embeddings: int
    norms: int
    norm_biases: int
    head: tuple[int, int]
    positions: int | None
    layers: dict[str, tuple[LayerFacts, ...]]
    weights: dict[str, tuple[int, ...]]
    spared: tuple[str, ...]


def architecture_facts(
    config: Any, model: MetaModel, lists: list[Layers], place: str, *, says_untied: bool = False
) -> ArchitectureFacts:
    """Returns the facts of a model with a head for two outputs; builds it once more with one output.

    Args:
        says_untied: the weights of a text-to-text model hold an embedding of the output of its own.
    """
    one = build_meta_model(config, 1, place)
    writes_with = _output_embeddings(config, model, says_untied=says_untied)
    heads = [_count(each.whole) - _count(each.base) for each in (one, model)]
    per_output = heads[1] - heads[0]
    return ArchitectureFacts(
        text_to_text=model.text_to_text,
        is_encoder_decoder=model.is_encoder_decoder,
        parameters=_count(model.base) + (writes_with if model.text_to_text else 0),
        output_embeddings=0 if model.text_to_text else writes_with,
        norms=count_norms(model.base),
        norm_biases=count_norm_biases(model.base),
        head=(0, 0) if model.text_to_text else (heads[0] - per_output, per_output),
        positions=_positions(model.base),
        layers={layers.name: tuple(_layer(*each) for each in layers.named()) for layers in lists},
        weights={name: tuple(p.shape) for name, p in model.base.named_parameters(remove_duplicate=False)},
        spared=tuple(_spared(model)),
    )


def _spared(model: MetaModel) -> Iterator[str]:
    """Yields the names of the base model's parameters that it may be saved without: tied or computed ones."""
    whole: Any = model.whole
    named = list(model.base.named_parameters(remove_duplicate=False))
    places = Counter(id(parameter) for _, parameter in named)
    computed = whole._keys_to_ignore_on_load_missing or ()
    for name, parameter in named:
        if places[id(parameter)] > 1 or any(re.search(pattern, name) for pattern in computed):
            yield name


def _layer(name: str, module: nn.Module) -> LayerFacts:
    return LayerFacts(
        name=name,
        maps=maps_of(module),
        takes_one=frozenset(
            word for word, each in module.named_modules() if len(signature(each.forward).parameters) == 1
        ),
        stacked={word: p.ndim for word, p in module.named_parameters() if p.ndim > 2},
        norms=count_norms(module),
        modules=tuple(f"{word} ({type(each).__name__})" for word, each in module.named_modules()),
    )


def _output_embeddings(config: Any, model: MetaModel, *, says_untied: bool) -> int:
    """Counts what a decoder or encoder-decoder writes with beside its base model's parameters.

    Transformers ties an encoder-decoder's output embeddings to the input's when it builds it, whatever its config says.
    """
    if is_decoder(config) and not model.is_encoder_decoder:
        with torch.device("meta"):
            writer = transformers.AutoModelForCausalLM.from_config(model.config, dtype=torch.float32)
        return _count(writer) - _count(base_of(writer))
    whole: Any = model.whole
    if not (model.is_encoder_decoder and says_untied):
        return 0
    weight = whole.get_output_embeddings().weight
    return weight.numel() if weight is whole.get_input_embeddings().weight else 0


def _positions(base: nn.Module) -> int | None:
    """Returns how many tokens the first table of absolute positions reaches; its rows before the first are not read,
    nor those after the last number that the model holds for a position."""
    buffers = dict(base.named_buffers())
    for name, module in base.named_modules():
        if isinstance(module, nn.Embedding) and any(word in name.lower() for word in POSITION_TABLES):
            skipped: int = getattr(module, "offset", 0 if module.padding_idx is None else module.padding_idx + 1)
            numbers = [ids.shape[-1] for key, ids in buffers.items() if key.endswith(POSITION_IDS)]
            return min([module.num_embeddings - skipped, *numbers])
    for name, buffer in buffers.items():
        if buffer.ndim == 2 and not name.endswith("_ids") and any(word in name for word in (*POSITION_TABLES, "pos_")):
            return len(buffer)  # computed positions, one row each
    return None
