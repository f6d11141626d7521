"""Describes T5 and its relatives mT5 and UMT5: an encoder and a decoder, no biases."""

from collections.abc import Iterator, Mapping
from typing import Any

from krona_tune.backbones.geometry import Geometry, Role, Site, Stack
from krona_tune.backbones.layer import Layer

T5_DEFAULTS = {
    "feed_forward_proj": "relu",
    "relative_attention_num_buckets": 32,
    "tie_word_embeddings": True,
    "num_heads": 8,
    "d_kv": 64,
}


def t5(model_type: str, config: Mapping[str, Any]) -> Geometry:
    d, ff, inner = config["d_model"], config["d_ff"], config["d_kv"] * config["num_heads"]
    depths = {Stack.ENCODER: config["num_layers"]}
    depths[Stack.DECODER] = config.get("num_decoder_layers") or config["num_layers"]
    gated = str(config["feed_forward_proj"]).startswith("gated-")
    ins = ("wi_0", "wi_1") if gated else ("wi",)

    def sites() -> Iterator[Site]:
        for stack, depth in depths.items():
            for layer in range(depth):
                block = f"{stack}.block.{layer}.layer"
                at = Layer(stack, layer)
                attentions = [(f"{block}.0.SelfAttention", "")]
                attentions += [(f"{block}.1.EncDecAttention", "cross_")] if stack is Stack.DECODER else []
                for attention, prefix in attentions:
                    for letter, role in zip("qkv", ("query", "key", "value"), strict=True):
                        yield at.map(f"{attention}.{letter}", Role(prefix + role), inner, d)
                    yield at.map(f"{attention}.o", Role(prefix + "output"), d, inner)
                feed = f"{block}.{len(attentions)}.DenseReluDense"
                for name in ins:
                    yield at.map(f"{feed}.{name}", Role.FEED_FORWARD_IN, ff, d)
                yield at.map(f"{feed}.wo", Role.FEED_FORWARD_OUT, d, ff)
                yield at.block(feed, feed, d)

    every = tuple(sites())
    norms_of_layer = {Stack.ENCODER: 2 * d, Stack.DECODER: 3 * d}
    norms = sum(depth * norms_of_layer[stack] for stack, depth in depths.items()) + 2 * d
    buckets = config["relative_attention_num_buckets"] * config["num_heads"]
    own_biases = sum(depths.values()) if model_type == "umt5" else 2
    embeddings = config["vocab_size"] * d * (1 if config["tie_word_embeddings"] else 2)
    weights = sum(s.d_out * s.d_in for s in every if s.role is not Role.FEED_FORWARD)
    return Geometry(
        model_type=model_type,
        sites=every,
        depths=depths,
        norms=norms,
        norm_biases=0,
        norms_of_layer=norms_of_layer,
        parameters=embeddings + weights + norms + own_biases * buckets,
        head_width=d,
        head_layers=0,
        text_to_text=True,
    )
