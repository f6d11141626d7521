"""Turns a config.json into a geometry, for the known families of backbones."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from krona_tune.backbones.bert import BERT, BERT_DEFAULTS, ELECTRA, ROBERTA, distilbert
from krona_tune.backbones.deberta import DEBERTA, DEBERTA_DEFAULTS, DEBERTA_V2
from krona_tune.backbones.geometry import Geometry
from krona_tune.backbones.t5 import T5_DEFAULTS, t5
from krona_tune.refusal import Refusal, unknown


@dataclass(frozen=True)
class _Family:
    build: Callable[[str, Mapping[str, Any]], Geometry]
    defaults: Mapping[str, Any]


FAMILIES: dict[str, _Family] = {
    "t5": _Family(t5, T5_DEFAULTS),
    "mt5": _Family(t5, {**T5_DEFAULTS, "feed_forward_proj": "gated-gelu"}),
    "umt5": _Family(t5, {**T5_DEFAULTS, "feed_forward_proj": "gated-gelu"}),
    "bert": _Family(BERT.build, BERT_DEFAULTS),
    "roberta": _Family(ROBERTA.build, {**BERT_DEFAULTS, "pad_token_id": 1}),
    "xlm-roberta": _Family(ROBERTA.build, {**BERT_DEFAULTS, "pad_token_id": 1}),
    "electra": _Family(ELECTRA.build, BERT_DEFAULTS),
    "distilbert": _Family(distilbert, {"max_position_embeddings": 512}),
    "deberta": _Family(DEBERTA.build, DEBERTA_DEFAULTS),
    "deberta-v2": _Family(DEBERTA_V2.build, DEBERTA_DEFAULTS),
}

_SIZES = (
    ({"num_layers", "num_decoder_layers", "num_hidden_layers", "n_layers"}, 1, 1_000),
    (
        {"d_model", "d_ff", "d_kv", "num_heads", "hidden_size", "intermediate_size", "num_attention_heads"}
        | {"vocab_size", "max_position_embeddings", "embedding_size", "dim", "hidden_dim", "n_heads", "conv_groups"}
        | {"relative_attention_num_buckets"},
        1,
        10_000_000,
    ),
    ({"type_vocab_size", "conv_kernel_size", "pad_token_id"}, 0, 10_000_000),
    ({"max_relative_positions", "position_buckets"}, -1, 10_000_000),
)
"""Keys of a config.json with their smallest and largest allowed values."""

_GATED = "gated-"
_ACTIVATION_KEYS = {"hidden_act", "pooler_hidden_act", "conv_act", "activation", "feed_forward_proj"}
ACTIVATIONS = (
    {"gelu", "gelu_10", "gelu_accurate", "gelu_fast", "gelu_new", "gelu_python", "gelu_python_tanh"}
    | {"gelu_pytorch_tanh", "hardswish", "laplace", "leaky_relu", "linear", "mish", "prelu", "quick_gelu", "relu"}
    | {"relu2", "relu6", "sigmoid", "silu", "swish", "tanh"}
)
"""The names of activations that transformers knows."""


def geometry(config: Mapping[str, Any], place: str = "config.json") -> Geometry:
    """Returns the geometry that a transformers config describes.

    Raises:
        Refusal: the model type is unknown, a dimension is missing or out of range, or an activation is unknown.
    """
    model_type = config.get("model_type") if isinstance(config, Mapping) else None
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise unknown(place, "model_type", model_type, FAMILIES)
    family = FAMILIES[model_type]
    known = {**family.defaults, **{key: value for key, value in config.items() if value is not None}}
    _refuse_odd_sizes(known, place)
    _refuse_unknown_activation(known, place)
    try:
        return family.build(model_type, known)
    except KeyError as missing:
        raise Refusal(place, f"{missing} is missing", f"a {model_type} config.json states it") from None
    except (TypeError, ValueError, ArithmeticError) as error:
        raise Refusal(place, f"describes no {model_type}: {error}", "save the model again") from None


def _refuse_odd_sizes(config: Mapping[str, Any], place: str) -> None:
    """Refuses sizes that no model has, because a depth of billions would be built layer by layer."""
    for names, least, most in _SIZES:
        for name in config.keys() & names:
            value = config[name]
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                raise Refusal(place, f"{name} is {value!r:.40}", f"it is a whole number from {least} to {most:,}")


def _refuse_unknown_activation(config: Mapping[str, Any], place: str) -> None:
    for name in sorted(config.keys() & _ACTIVATION_KEYS):
        value = config[name]
        if not isinstance(value, str) or value.removeprefix(_GATED) not in ACTIVATIONS:
            raise unknown(f"{place}: {name}", "activation", value, ACTIVATIONS)
