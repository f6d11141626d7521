"""Knows of which maps of an encoder's last layer the head reads the first token's outputs alone. No torch."""

from collections.abc import Mapping
from typing import Any

from krona_tune.adapters.method_table import is_peft
from krona_tune.backbones.geometry import Geometry, Role

OF_BERT = {
    "attention.self.query": Role.QUERY,
    "attention.output.dense": Role.OUTPUT,
    "intermediate.dense": Role.FEED_FORWARD_IN,
    "output.dense": Role.FEED_FORWARD_OUT,
}
"""The maps of a layer whose outputs for a token act in no other token, by their names in it, with their roles."""
OF_MPNET = {
    "attention.attn.q": Role.QUERY,
    "attention.attn.o": Role.OUTPUT,
    "intermediate.dense": Role.FEED_FORWARD_IN,
    "output.dense": Role.FEED_FORWARD_OUT,
}
OF_DISTILBERT = {
    "attention.q_lin": Role.QUERY,
    "attention.out_lin": Role.OUTPUT,
    "ffn.lin1": Role.FEED_FORWARD_IN,
    "ffn.lin2": Role.FEED_FORWARD_OUT,
}
OF_DEBERTA = {name: role for name, role in OF_BERT.items() if role is not Role.QUERY}
"""Its map of queries reads positions, too, or is one with that of keys."""
BERTS = (
    "bert", "camembert", "data2vec-text", "electra", "ernie", "megatron-bert", "roberta", "roberta-prelayernorm",
    "xlm-roberta", "xlm-roberta-xl",
)  # fmt: skip
MAPS: Mapping[str, Mapping[str, Role]] = {
    **dict.fromkeys(BERTS, OF_BERT),
    "deberta": OF_DEBERTA,
    "deberta-v2": OF_DEBERTA,
    "distilbert": OF_DISTILBERT,
    "mpnet": OF_MPNET,
}
"""Lists those maps by the model's type: of the encoders whose head reads the first token alone, as tests show."""
SHORTENED_ON = frozenset({"cpu"})
"""The kinds of devices on which trials compute them of the first token alone; on a GPU it was not measured."""
IN_ATTENTION = 4
"""The maps of a layer's attention, each of the width in both directions."""


def first_token_maps(geometry: Geometry, config: Mapping[str, Any], method: str) -> dict[str, Role]:
    """Returns the names in the base model of the maps that can compute the first token alone, with their roles; none of
    another kind of model, or where the feed-forward block reads a few tokens at a time.

    A method of peft may read several tokens at once, or draw a dropout for each: it gets all of them.

    Args:
        config: what config.json says.
        method: that of the adapters.
    """
    maps = _maps_in_layer(geometry, method)
    if not maps or config.get("chunk_size_feed_forward"):
        return {}
    layer = geometry.layers_of(geometry.first_stack)[-1]
    return {f"{layer}.{name}": role for name, role in maps.items()}


def left_out_of_last_layer(geometry: Geometry, method: str) -> float:
    """Returns about how much of a layer's maps is not computed where these compute the first token alone: the share of
    their weights, of which one token of many is nothing."""
    roles = set(_maps_in_layer(geometry, method).values())
    layer = (geometry.parameters - geometry.vocabulary * geometry.width) / geometry.depths[geometry.first_stack]
    computed = (IN_ATTENTION - len(roles & {Role.QUERY, Role.OUTPUT})) * geometry.width**2
    return max(0.0, 1 - computed / layer) if roles and layer > 0 else 0.0


def _maps_in_layer(geometry: Geometry, method: str) -> Mapping[str, Role]:
    return {} if geometry.text_to_text or is_peft(method) else MAPS.get(geometry.model_type, {})
