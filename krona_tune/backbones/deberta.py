"""Describes DeBERTa and DeBERTa-v2, which have extra maps for relative positions."""

from collections.abc import Mapping
from typing import Any

from krona_tune.backbones.encoder import AFTER_ATTENTION, EncoderNames
from krona_tune.backbones.geometry import Role

DEBERTA_DEFAULTS = {
    "type_vocab_size": 0,
    "max_position_embeddings": 512,
    "relative_attention": False,
    "max_relative_positions": -1,
    "position_biased_input": True,
    "pos_att_type": (),
    "position_buckets": -1,
    "share_att_key": False,
    "norm_rel_ebd": "none",
    "conv_kernel_size": 0,
    "conv_groups": 1,
}
_FUSED_MAPS = {
    "attention.self.in_proj#0": Role.QUERY,
    "attention.self.in_proj#1": Role.KEY,
    "attention.self.in_proj#2": Role.VALUE,
} | AFTER_ATTENTION
_PROJ_MAPS = {f"attention.self.{role}_proj": role for role in (Role.QUERY, Role.KEY, Role.VALUE)} | AFTER_ATTENTION


def _relative_span(config: Mapping[str, Any]) -> int:
    span: int = config["max_relative_positions"]
    return span if span >= 1 else int(config["max_position_embeddings"])


def _deberta_embeddings(config: Mapping[str, Any]) -> int:
    hidden: int = config["hidden_size"]
    size: int = config.get("embedding_size", hidden)
    rows: int = config["vocab_size"] + config["type_vocab_size"]
    rows += config["max_position_embeddings"] if config["position_biased_input"] else 0
    return rows * size + (size * hidden if size != hidden else 0)


def _deberta_outside(config: Mapping[str, Any]) -> int:
    relative = 2 * _relative_span(config) * config["hidden_size"] if config["relative_attention"] else 0
    return _deberta_embeddings(config) + relative


def _deberta_extra(config: Mapping[str, Any]) -> int:
    if not config["relative_attention"]:
        return 0
    square, types = config["hidden_size"] ** 2, config["pos_att_type"]
    key_map = square if "c2p" in types else 0
    return key_map + (square + config["hidden_size"] if "p2c" in types else 0)


def _deberta_positions(config: Mapping[str, Any]) -> int | None:
    return config["max_position_embeddings"] if config["position_biased_input"] else None


def _deberta_v2_outside(config: Mapping[str, Any]) -> int:
    hidden = config["hidden_size"]
    kernel = config["conv_kernel_size"]
    convolution = hidden * hidden // config["conv_groups"] * kernel + hidden if kernel > 0 else 0
    span = config["position_buckets"] if config["position_buckets"] > 0 else _relative_span(config)
    relative = 2 * span * hidden if config["relative_attention"] else 0
    return _deberta_embeddings(config) + relative + convolution


def _deberta_v2_extra(config: Mapping[str, Any]) -> int:
    if not config["relative_attention"] or config["share_att_key"]:
        return 0
    linear: int = config["hidden_size"] ** 2 + config["hidden_size"]
    return linear * sum(kind in config["pos_att_type"] for kind in ("c2p", "p2c"))


def _deberta_v2_norms(config: Mapping[str, Any]) -> int:
    relative = bool(config["relative_attention"]) and "layer_norm" in config["norm_rel_ebd"]
    convolution = bool(config["conv_kernel_size"] > 0)
    return 1 + relative + convolution


DEBERTA = EncoderNames(
    layers="encoder.layer",
    maps=_FUSED_MAPS,
    outside=_deberta_outside,
    extra=_deberta_extra,
    positions=_deberta_positions,
)
DEBERTA_V2 = EncoderNames(
    layers="encoder.layer",
    maps=_PROJ_MAPS,
    outside=_deberta_v2_outside,
    extra=_deberta_v2_extra,
    outer_norms=_deberta_v2_norms,
    positions=_deberta_positions,
)
