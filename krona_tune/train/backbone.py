"""Loads the frozen backbone, once per process, and keeps it for the next trials."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import torch
import transformers
from torch import nn

from krona_tune.adapters.frozen_model import fingerprint
from krona_tune.backbones.find_geometry import geometry
from krona_tune.backbones.geometry import Geometry
from krona_tune.refusal import Refusal, refusing
from krona_tune.train.device import Device

Batch = dict[str, torch.Tensor]
UNTRAINABLE = "support_avx512bf16_for_cpu"
"""The switch by which a map in 4 bits, once evaluated on a CPU, is packed in a way that no gradient passes."""


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A frozen pretrained model. The geometry's module names are relative to `base`.

    `whole` is the loaded model: for an encoder-decoder it is `base` itself, for a decoder that answers with text `base`
    with its language-model head, else `base` with a head for two labels.
    `fingerprint` was taken before any adapter was added.
    """

    base: nn.Module
    whole: nn.Module
    config: Any
    geometry: Geometry
    device: Device
    fingerprint: str | None


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
        config = transformers.AutoConfig.from_pretrained(location, trust_remote_code=False)
        if shape is None:
            written, _ = transformers.PretrainedConfig.get_config_dict(location)
            shape = geometry(written, f"{location}: config.json")
        kind = _kind(shape)
        whole, loaded = kind.from_pretrained(
            location,
            trust_remote_code=False,
            dtype=device.dtype,
            attn_implementation=device.attention if _has_fused_attention(kind, config) else "eager",
            output_loading_info=True,
            **_quantization(device),
        )
    inside = "" if shape.text_to_text else f"{whole.base_model_prefix}."
    if lacking := sorted(key for key in loaded["missing_keys"] if key.startswith(inside)):
        raise Refusal(
            location, f"its weights lack {len(lacking)} tensors, the first {lacking[0]}", "save all of the model"
        )
    return freeze(whole, shape, device)


def _kind(shape: Geometry) -> Any:
    """Returns the class of transformers that loads a backbone for what it answers."""
    if not shape.text_to_text:
        return transformers.AutoModelForSequenceClassification
    return transformers.AutoModelForSeq2SeqLM if shape.is_encoder_decoder else transformers.AutoModelForCausalLM


@contextmanager
def quiet() -> Iterator[None]:
    """Lets transformers log only errors, and show no progress from here on, because a fresh head is expected; and keeps
    bitsandbytes, which it may import, from advising other packages."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(level)


def _has_fused_attention(kind: Any, config: Any) -> bool:
    """Returns whether a family offers PyTorch's fused attention, which DeBERTa's attention can't use."""
    return bool(kind._model_mapping[type(config)]._supports_sdpa)


def _quantization(device: Device) -> dict[str, Any]:
    """Returns what makes transformers quantise linear maps as it loads them; products are in the device's dtype."""
    if device.quantize is None:
        return {}
    how: dict[str, dict[str, Any]] = {
        "nf4": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
        "int8": {"load_in_8bit": True},
    }
    config = transformers.BitsAndBytesConfig(**how[device.quantize], bnb_4bit_compute_dtype=device.dtype)
    return {"quantization_config": config, "device_map": {"": device.kind}}


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
    for module in whole.modules():
        if hasattr(module, UNTRAINABLE):
            setattr(module, UNTRAINABLE, False)
        if getattr(getattr(module, "config", None), "use_cache", False):  # a T5's stacks have configs of their own
            cast(Any, module).config.use_cache = False  # a decoder would keep every layer's keys and values
    base = whole if shape.is_encoder_decoder else whole.get_submodule(str(whole.base_model_prefix))
    return Backbone(
        base=base,
        whole=whole,
        config=whole.config,
        geometry=shape,
        device=device,
        fingerprint=fingerprint(base, shape),
    )
