"""Builds a transformers model from its config without weights, on torch's meta device."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import nn
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
)

from krona_tune.refusal import Refusal, refusing, unknown

MOST_PARAMETERS = 10**13
"""More than any model has: a mistake in config.json."""


@dataclass(frozen=True, kw_only=True)
class MetaModel:
    """A model without weights; `base` is what is pretrained, and `whole` also has a task's head."""

    config: Any
    whole: nn.Module
    base: nn.Module

    @property
    def text_to_text(self) -> bool:
        return self.whole is self.base


def read_config(values: Mapping[str, Any], place: str) -> Any:
    """Returns the config of transformers that a config.json describes.

    Raises:
        Refusal: its model type is unknown, has no text alone, or its values fit no such model.
    """
    model_type = values.get("model_type")
    if model_type not in transformers.CONFIG_MAPPING:
        raise unknown(place, "model_type", model_type, known_model_types())
    with refusing(place, f"describes no {model_type}", "save the model again"):
        config = transformers.CONFIG_MAPPING[model_type].from_dict(deepcopy(dict(values)))
        text = config.get_text_config()
    if text is not config and model_type not in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES:
        raise Refusal(place, f"a {model_type} reads more than text", f"give its text model, a {text.model_type}")
    if not _kind(config):
        raise Refusal(
            place,
            f"transformers neither classifies nor answers with a {model_type}",
            "give an encoder, a decoder with a class for sequence classification, or an encoder-decoder",
        )
    return config


def known_model_types() -> set[str]:
    """Returns the model types that classify or are text to text."""
    return {*MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES, *MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES}


def _kind(config: Any) -> Any:
    """Returns the class of models to build; None if there is none."""
    if config.is_encoder_decoder:
        known = config.model_type in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES
        return transformers.AutoModelForSeq2SeqLM if known else None
    known = config.model_type in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES
    return transformers.AutoModelForSequenceClassification if known else None


def is_decoder(config: Any) -> bool:
    """Returns whether the library writes text with such a model and fills no gaps with it."""
    writes = config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    return writes and config.model_type not in MODEL_FOR_MASKED_LM_MAPPING_NAMES


def build_meta_model(config: Any, outputs: int, place: str) -> MetaModel:
    """Builds the model with a head for that many outputs; an encoder-decoder, which answers in words, has none.

    Raises:
        Refusal: transformers can't build it, or it has more parameters than any model.
    """
    kind = _kind(config)
    values = {key: value for key, value in config.to_dict().items() if key not in {"id2label", "label2id"}}
    config = type(config).from_dict({**values, "num_labels": outputs, "use_cache": False})
    config._attn_implementation = "eager"
    with refusing(place, f"describes no {config.model_type}", "save the model again"), torch.device("meta"):
        whole = kind.from_config(config, dtype=torch.float32)
    base = whole if config.is_encoder_decoder else whole.get_submodule(str(whole.base_model_prefix))
    if (found := count(base)) > MOST_PARAMETERS:
        raise Refusal(place, f"describes {found:,} parameters", "save the model again")
    return MetaModel(config=config, whole=whole, base=base)


def count(module: nn.Module) -> int:
    """Counts a module's parameters, each once."""
    return sum(parameter.numel() for parameter in module.parameters())
