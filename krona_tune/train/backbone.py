"""Loads the frozen backbone, once per process, and its tokenizer; sets its dropout."""

import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import torch
import transformers
from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars
from torch import nn
from torch.nn.modules.dropout import _DropoutNd
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase

from krona_tune.adapters.frozen_model import fingerprint, is_inside, part_fingerprints
from krona_tune.backbones.find_geometry import geometry
from krona_tune.backbones.geometry import Geometry
from krona_tune.backbones.module_facts import attend_fully, base_of
from krona_tune.data.tasks import TASKS, Task
from krona_tune.refusal import Refusal, refusing, shown
from krona_tune.study.request.trial import TrainingConfig
from krona_tune.train.backbone_source import DEQUANTISED, FEWER_BITS, refuse_incomplete
from krona_tune.train.device import Device

Inputs = dict[str, torch.Tensor]
UNTRAINABLE = "support_avx512bf16_for_cpu"
"""The switch by which a map in 4 bits, once evaluated on a CPU, is packed in a way that no gradient passes."""


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A frozen pretrained model. The geometry's module names are relative to `base`.

    `whole` is the loaded model: for an encoder-decoder it is `base` itself, for a decoder that answers with text `base`
    with its language-model head, else `base` with a head for two labels.
    `use_cache` is what its config said before; here no keys and values are kept. `fingerprint` and those of its `parts`
    were taken before any adapter was added.
    """

    base: nn.Module
    whole: nn.Module
    config: Any
    geometry: Geometry
    device: Device
    fingerprint: str | None
    parts: dict[str, str]
    use_cache: bool | None = None


@lru_cache(maxsize=1)
def warm_backbone(location: str, device: Device, shape: Geometry | None) -> Backbone:
    """Returns `load_backbone`'s result from a cache, so that the next trial in this process need not load it."""
    return load_backbone(location, device, shape)


def load_backbone(location: str, device: Device, shape: Geometry | None = None) -> Backbone:
    """Loads a hub name or folder with transformers and freezes it, its weights in the device's dtype.

    Args:
        shape: its geometry, if it is known.

    Raises:
        Refusal: transformers can't load it, or the weights lack a part of the base model, which would be random, and
            different in each process.
    """
    with quiet(), refusing(location, "can't be loaded", "save the model again"):
        config = transformers.AutoConfig.from_pretrained(location, trust_remote_code=False, return_dict=True)
        if shape is None:
            written, _ = transformers.PretrainedConfig.get_config_dict(location)
            shape = geometry(written, f"{location}: config.json")
        kind = model_class(shape)
        config._attn_implementation = _attention(kind, config, device)  # whatever it was saved with
        whole, loaded = kind.from_pretrained(
            location,
            config=config,
            trust_remote_code=False,
            dtype=device.dtype,
            output_loading_info=True,
            **_quantization(device, config),
        )
    inside = "" if shape.text_to_text else f"{whole.base_model_prefix}."
    refuse_incomplete(location, sorted(key for key in loaded["missing_keys"] if key.startswith(inside)))
    return freeze(whole, shape, device)


def model_class(shape: Geometry) -> Any:
    """Returns the class of transformers that loads a backbone for what it answers."""
    if not shape.text_to_text:
        return transformers.AutoModelForSequenceClassification
    return transformers.AutoModelForSeq2SeqLM if shape.is_encoder_decoder else transformers.AutoModelForCausalLM


@contextmanager
def quiet() -> Iterator[None]:
    """Lets transformers log only errors and show no progress, because a fresh head is expected; and keeps bitsandbytes,
    which it may import, from advising other packages."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    level, shown = transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled()
    hidden = are_progress_bars_disabled()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(level)
        if shown:
            transformers.logging.enable_progress_bar()
        if hidden:
            disable_progress_bars()


def _attention(kind: Any, config: Any, device: Device) -> str:
    """Returns the attention of a model: the device's, or the plain one where a family has no fused one, as DeBERTa.

    A Falcon's plain attention adds its ALiBi twice (transformers 5), so that it would be another model.
    """
    if not kind._model_mapping[type(config)]._supports_sdpa:
        return "eager"
    return "sdpa" if getattr(config, "alibi", False) else device.attention


def _quantization(device: Device, config: Any) -> dict[str, Any]:
    """Returns what makes transformers quantise linear maps as it loads them, with products in the device's dtype, or
    undo the quantisation that the weights have."""
    if kept := getattr(config, FEWER_BITS, None):
        return {FEWER_BITS: getattr(transformers, DEQUANTISED[kept["quant_method"]])(dequantize=True)}
    if device.quantize is None:
        return {}
    how: dict[str, dict[str, Any]] = {
        "nf4": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
        "int8": {"load_in_8bit": True},
    }
    how_kept = transformers.BitsAndBytesConfig(**how[device.quantize], bnb_4bit_compute_dtype=device.dtype)
    return {FEWER_BITS: how_kept, "device_map": {"": device.kind}}


def cast_parameters(model: nn.Module, dtype: torch.dtype) -> None:
    """Changes the dtype of all parameters and of no buffer: those of rotary positions need float32."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)


def freeze(whole: nn.Module, shape: Geometry, device: Device) -> Backbone:
    """Returns a model in memory as a backbone: moved to the device and its dtype, frozen, in evaluation mode.

    A quantised one has its place and dtype since it was loaded.
    """
    if device.quantize is None:
        cast_parameters(whole.to(device=device.kind), device.dtype)
    whole.requires_grad_(False).eval()
    attend_fully(whole)
    use_cache = getattr(whole.config, "use_cache", None)
    for module in whole.modules():
        if hasattr(module, UNTRAINABLE):
            setattr(module, UNTRAINABLE, False)
        config = getattr(module, "config", None)  # a T5's stacks have configs of their own
        if getattr(config, "use_cache", False):
            cast(Any, config).use_cache = False  # a decoder would keep every layer's keys and values
    base = base_of(whole)
    return Backbone(
        base=base,
        whole=whole,
        config=whole.config,
        geometry=shape,
        device=device,
        fingerprint=fingerprint(base, shape),
        parts=part_fingerprints(base, shape, whole),
        use_cache=use_cache,
    )


def open_tokenizer(location: str, vocabulary: int) -> PreTrainedTokenizerBase:
    """Returns the tokenizer of a hub name or folder.

    One without a padding token that the model knows pads with its end of sequence.

    Raises:
        Refusal: there is none, it fails at a first text, or its ids do not fit into the model's `vocabulary`.
    """
    with quiet(), refusing(location, "its config.json can't be read", "save the model again"):
        config = AutoConfig.from_pretrained(location, trust_remote_code=False)
    with refusing("--model", f"{location} has no usable tokenizer", "save one there"):
        tokenizer = AutoTokenizer.from_pretrained(location, config=config, trust_remote_code=False)
        special = set(tokenizer.all_special_ids)
        known = tokenizer.pad_token_id is not None and tokenizer.pad_token_id < vocabulary
        if not known and tokenizer.eos_token_id is not None:
            tokenizer.pad_token = tokenizer.eos_token
        tried = tokenizer("a word", "another", truncation=True, max_length=8).input_ids
        words = set(tokenizer.get_vocab().values()) - special
        used = words | set(tried) | ({tokenizer.pad_token_id} - {None})
    if not words or max(used) >= vocabulary:
        problem = f"its tokenizer knows {len(words):,} words, to the id {max(used, default=0):,}"
        raise Refusal(
            "--model", f"{location}: {problem}, the model {vocabulary:,}", "save the model's own tokenizer there"
        )
    return tokenizer


def candidates(task: Task, tokenizer: PreTrainedTokenizerBase, *, decoder: bool = False) -> tuple[tuple[int, ...], ...]:
    """Returns the label words as token ids, each with its end of sequence.

    Args:
        decoder: the words continue a prompt, after a blank.

    Raises:
        Refusal: the tokenizer reads two words of an own task alike.
    """
    if decoder:
        end = () if tokenizer.eos_token_id is None else (int(tokenizer.eos_token_id),)
        words = [f" {word}" for word in task.candidates]
        found = tuple((*tokenizer(word, add_special_tokens=False).input_ids, *end) for word in words)
    else:
        found = tuple(tuple(tokenizer(word).input_ids) for word in task.candidates)
    first: dict[tuple[int, ...], str] = {}
    for word, ids in zip(task.candidates, found, strict=True):
        other = first.setdefault(ids, word)
        if other != word and task.name not in TASKS:
            problem = f"the model's tokenizer reads {shown(other)} and {shown(word)} alike"
            raise Refusal(f"tasks.{task.name}.words", problem, "give the labels other words")
    return found


Dropouts = dict[tuple[str, str], float]
"""Probabilities by the module's name and the attribute that holds them."""


READ_FROM_CONFIG = ("attention_dropout", "dropout", "hidden_dropout")
"""The probabilities that a Falcon and a ProphetNet read from their config whenever they compute."""
OF_CONFIG = "config."
"""Begins what they are called."""
WHOLE_LAYERS = "layerdrop"
"""Stands in the names of the probabilities with which whole layers are left out."""


def dropouts(model: nn.Module) -> Dropouts:
    """Returns every dropout probability of a model; one that its config holds is called `config.NAME`."""
    found: Dropouts = {}
    configs = set[int]()
    for path, module in model.named_modules():
        values = {name: value for name, value in vars(module).items() if _means_dropout(module, name)}
        config = getattr(module, "config", None)
        if id(config) not in configs:
            configs.add(id(config))
            values |= {f"{OF_CONFIG}{name}": getattr(config, name, None) for name in READ_FROM_CONFIG}
        for name, value in values.items():
            if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1:
                found[path, name] = value
    return found


def _means_dropout(module: nn.Module, name: str) -> bool:
    return "drop" in name or (name == "p" and isinstance(module, _DropoutNd))


def set_dropout(model: nn.Module, base: nn.Module, training: TrainingConfig, layers: Collection[str]) -> None:
    """Sets a model's dropout as the training asks; with a probability of its own no layer is left out as a whole.

    A probability that trained layers read from their config acts in all layers that read it.

    Args:
        model: what answers the task.
        base: the backbone's base model within it.
        layers: the names in `base` of the layers that are trained.
    """
    if training.dropout is not None:
        asked = {place: 0.0 if WHOLE_LAYERS in place[1] else training.dropout for place in dropouts(model)}
        assign_dropouts(model, asked)
    if training.dropout_layers == "adapted":
        inside = [module for path, module in base.named_modules() if is_inside(f"{path}.", layers)]
        read = {id(module.config) for module in inside if hasattr(module, "config")}
        outside = (
            (path, name)
            for path, name in dropouts(base)
            if not is_inside(f"{path}.", layers)
            and not (name.startswith(OF_CONFIG) and id(base.get_submodule(path).config) in read)
        )
        assign_dropouts(base, dict.fromkeys(outside, 0.0))


def assign_dropouts(model: nn.Module, probabilities: Mapping[tuple[str, str], float]) -> None:
    """Sets dropouts to the given probabilities, by place as `dropouts` returns them."""
    for (path, name), probability in probabilities.items():
        module, (holder, _, key) = model.get_submodule(path), name.rpartition(".")
        setattr(getattr(module, holder) if holder else module, key, probability)
