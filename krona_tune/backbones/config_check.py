"""Refuses a config.json that would break or stall whoever builds a model from it. No torch."""

from collections.abc import Mapping
from typing import Any

from krona_tune.refusal import Refusal, unknown

_LAYERS = {"num_layers", "num_decoder_layers", "num_hidden_layers", "n_layers", "n_layer", "encoder_layers"}
_WIDTHS = (
    {"d_model", "d_ff", "d_kv", "num_heads", "hidden_size", "intermediate_size", "num_attention_heads", "head_dim"}
    | {"vocab_size", "embedding_size", "dim", "hidden_dim", "n_heads", "n_head", "n_embd", "conv_groups"}
    | {"relative_attention_num_buckets", "num_key_value_heads", "encoder_ffn_dim", "decoder_ffn_dim"}
)
_SIZES = (
    (_LAYERS | {"decoder_layers"}, 1, 1_000),
    (_WIDTHS, 1, 10_000_000),
    ({"max_position_embeddings", "n_positions"}, 1, 100_000_000),
    ({"type_vocab_size", "conv_kernel_size"}, 0, 10_000_000),
    ({"max_relative_positions", "position_buckets", "pad_token_id"}, -1, 10_000_000),
)
"""Keys of a config.json with their smallest and largest allowed values."""
_GATED = "gated-"
_ACTIVATION_KEYS = {
    "hidden_act", "pooler_hidden_act", "conv_act", "activation", "activation_function", "hidden_activation",
    "feed_forward_proj",
}  # fmt: skip
ACTIVATIONS = (
    {"gelu", "gelu_10", "gelu_accurate", "gelu_fast", "gelu_new", "gelu_python", "gelu_python_tanh"}
    | {"gelu_pytorch_tanh", "hardswish", "laplace", "leaky_relu", "linear", "mish", "prelu", "quick_gelu", "relu"}
    | {"relu2", "relu6", "sigmoid", "silu", "sqrtsoftplus", "swish", "tanh"}
    | {"xielu"}
)
"""The names of activations that transformers knows."""


def check_config(config: Mapping[str, Any], place: str) -> None:
    """Checks the sizes and the activations.

    Raises:
        Refusal: a size is out of range, as a depth of billions would be built layer by layer, or an activation is
            unknown.
    """
    for names, least, most in _SIZES:
        for name in sorted(config.keys() & names):
            value = config[name]
            if value is not None and (
                isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most
            ):
                raise Refusal(place, f"{name} is {value!r:.40}", f"it is a whole number from {least} to {most:,}")
    for name in sorted(config.keys() & _ACTIVATION_KEYS):
        value = config[name]
        if value is not None and (not isinstance(value, str) or value.removeprefix(_GATED) not in ACTIVATIONS):
            raise unknown(f"{place}: {name}", "activation", value, ACTIVATIONS)
