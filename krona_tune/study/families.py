"""The families of backbones that are known, and how their config.json becomes a geometry."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from krona_tune.refusal import Refusal, unknown
from krona_tune.study.geometry import Geometry, Part, Role, Site, Stack


def geometry(config: Mapping[str, Any], place: str = "config.json") -> Geometry:
    """The geometry that a transformers config describes.

    Raises:
        Refusal: the model type is not one of the known families, or a dimension is missing.
    """
    model_type = config.get("model_type") if isinstance(config, Mapping) else None
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise unknown(place, "model_type", model_type, FAMILIES)
    family = FAMILIES[model_type]
    known = {**family.defaults, **{key: value for key, value in config.items() if value is not None}}
    _refuse_odd_sizes(known, place)
    try:
        return family.build(model_type, known)
    except KeyError as missing:
        raise Refusal(place, f"{missing} is missing", f"a {model_type} config.json states it") from None
    except (TypeError, ValueError, ArithmeticError) as error:
        raise Refusal(place, f"describes no {model_type}: {error}", "save the model again") from None


def _refuse_odd_sizes(config: Mapping[str, Any], place: str) -> None:
    """Whole numbers within what any model has: a depth of billions would be built layer by layer."""
    for names, least, most in _SIZES:
        for name in config.keys() & names:
            value = config[name]
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                raise Refusal(place, f"{name} is {value!r:.40}", f"it is a whole number from {least} to {most:,}")


@dataclass(frozen=True)
class _Layer:
    """One layer of a stack, where sites stand."""

    stack: Stack
    layer: int

    def map(self, name: str, role: Role, d_out: int, d_in: int, part: Part | None = None) -> Site:
        return self._site(name, name, role, d_out, d_in, part)

    def block(self, enters: str, leaves: str, width: int) -> Site:
        return self._site(leaves, enters, Role.FEED_FORWARD, width, width)

    def _site(self, name: str, enters: str, role: Role, d_out: int, d_in: int, part: Part | None = None) -> Site:
        return Site(
            name=name, enters=enters, role=role, stack=self.stack, layer=self.layer, d_out=d_out, d_in=d_in, part=part
        )


def _t5(model_type: str, config: Mapping[str, Any]) -> Geometry:
    d, ff, inner = config["d_model"], config["d_ff"], config["d_kv"] * config["num_heads"]
    depths = {Stack.ENCODER: config["num_layers"]}
    depths[Stack.DECODER] = config.get("num_decoder_layers") or config["num_layers"]
    gated = str(config["feed_forward_proj"]).startswith("gated-")
    ins = ("wi_0", "wi_1") if gated else ("wi",)

    def sites() -> Iterator[Site]:
        for stack, depth in depths.items():
            for layer in range(depth):
                block = f"{stack}.block.{layer}.layer"
                at = _Layer(stack, layer)
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
    norms = d * (2 * depths[Stack.ENCODER] + 3 * depths[Stack.DECODER] + 2)
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
        parameters=embeddings + weights + norms + own_biases * buckets,
        head_width=d,
        head_layers=0,
        text_to_text=True,
    )


@dataclass(frozen=True, kw_only=True)
class _EncoderNames:
    """Where a BERT-like family keeps its maps (under `layers`.i) and what stands outside its layers."""

    layers: str
    maps: dict[str, Role]
    outside: Callable[[Mapping[str, Any]], int]
    extra: Callable[[Mapping[str, Any]], int] = lambda config: 0
    outer_norms: Callable[[Mapping[str, Any]], int] = lambda config: 1
    positions: Callable[[Mapping[str, Any]], int | None] = lambda config: config["max_position_embeddings"]
    head_layers: int = 2

    def build(self, model_type: str, config: Mapping[str, Any]) -> Geometry:
        hidden, ff, depth = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
        d_out = {Role.FEED_FORWARD_IN: ff}
        d_in = {Role.FEED_FORWARD_OUT: ff}
        by_role = {role: name for name, role in self.maps.items()}

        def sites() -> Iterator[Site]:
            for layer in range(depth):
                at = _Layer(Stack.ENCODER, layer)
                for name, role in self.maps.items():
                    path, _, index = name.partition("#")
                    part = Part(int(index), 3, config["num_attention_heads"]) if index else None
                    yield at.map(
                        f"{self.layers}.{layer}.{path}",
                        role,
                        d_out.get(role, hidden),
                        d_in.get(role, hidden),
                        part,
                    )
                inside = f"{self.layers}.{layer}"
                yield at.block(
                    f"{inside}.{by_role[Role.FEED_FORWARD_IN]}", f"{inside}.{by_role[Role.FEED_FORWARD_OUT]}", hidden
                )

        every = tuple(sites())
        maps = [s for s in every if s.role is not Role.FEED_FORWARD]
        biases = sum(s.d_out for s in maps if s.part is None) + depth * 2 * hidden * any(s.part for s in maps)
        weights = sum(s.d_out * s.d_in for s in maps) + biases + depth * self.extra(config)
        inner_norms = depth * 4 * hidden
        outer = self.outer_norms(config) * 2 * hidden
        if config.get("embedding_size", hidden) != hidden and model_type == "electra":
            outer = 2 * config["embedding_size"]
        return Geometry(
            model_type=model_type,
            sites=every,
            depths={Stack.ENCODER: depth},
            norms=inner_norms + outer,
            norm_biases=(inner_norms + outer) // 2,
            parameters=weights + inner_norms + outer + self.outside(config),
            head_width=hidden,
            head_layers=self.head_layers,
            text_to_text=False,
            positions=self.positions(config),
        )


def _bert_outside(config: Mapping[str, Any]) -> int:
    hidden = config["hidden_size"]
    rows = config["vocab_size"] + config["max_position_embeddings"] + config["type_vocab_size"]
    return rows * hidden


def _with_pooler(config: Mapping[str, Any]) -> int:
    hidden = config["hidden_size"]
    return _bert_outside(config) + hidden * hidden + hidden


def _electra_outside(config: Mapping[str, Any]) -> int:
    hidden, size = config["hidden_size"], config["embedding_size"]
    rows = config["vocab_size"] + config["max_position_embeddings"] + config["type_vocab_size"]
    return rows * size + (size * hidden + hidden if size != hidden else 0)


def _distilbert_outside(config: Mapping[str, Any]) -> int:
    return (config["vocab_size"] + config["max_position_embeddings"]) * config["hidden_size"]


def _relative_span(config: Mapping[str, Any]) -> int:
    span = config["max_relative_positions"]
    return span if span >= 1 else config["max_position_embeddings"]


def _deberta_embeddings(config: Mapping[str, Any]) -> int:
    hidden = config["hidden_size"]
    size = config.get("embedding_size", hidden)
    rows = config["vocab_size"] + config["type_vocab_size"]
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
    linear = config["hidden_size"] ** 2 + config["hidden_size"]
    return linear * sum(kind in config["pos_att_type"] for kind in ("c2p", "p2c"))


def _deberta_v2_norms(config: Mapping[str, Any]) -> int:
    relative = config["relative_attention"] and "layer_norm" in config["norm_rel_ebd"]
    return 1 + relative + (config["conv_kernel_size"] > 0)


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
"""Keys of a config.json, and the least and the most that they may be."""

_AFTER_ATTENTION = {
    "attention.output.dense": Role.OUTPUT,
    "intermediate.dense": Role.FEED_FORWARD_IN,
    "output.dense": Role.FEED_FORWARD_OUT,
}
_BERT_MAPS = {f"attention.self.{role}": role for role in (Role.QUERY, Role.KEY, Role.VALUE)} | _AFTER_ATTENTION
_FUSED_MAPS = {
    "attention.self.in_proj#0": Role.QUERY,
    "attention.self.in_proj#1": Role.KEY,
    "attention.self.in_proj#2": Role.VALUE,
} | _AFTER_ATTENTION
_PROJ_MAPS = {f"attention.self.{role}_proj": role for role in (Role.QUERY, Role.KEY, Role.VALUE)} | _AFTER_ATTENTION
_DISTIL_MAPS = {
    "attention.q_lin": Role.QUERY,
    "attention.k_lin": Role.KEY,
    "attention.v_lin": Role.VALUE,
    "attention.out_lin": Role.OUTPUT,
    "ffn.lin1": Role.FEED_FORWARD_IN,
    "ffn.lin2": Role.FEED_FORWARD_OUT,
}


@dataclass(frozen=True)
class _Family:
    build: Callable[[str, Mapping[str, Any]], Geometry]
    defaults: Mapping[str, Any]


_BERT_DEFAULTS = {"type_vocab_size": 2, "max_position_embeddings": 512}
_DEBERTA_DEFAULTS = {
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
_T5_DEFAULTS = {
    "feed_forward_proj": "relu",
    "relative_attention_num_buckets": 32,
    "tie_word_embeddings": True,
    "num_heads": 8,
    "d_kv": 64,
}
_BERT = _EncoderNames(layers="encoder.layer", maps=_BERT_MAPS, outside=_with_pooler, head_layers=1)
_ROBERTA = _EncoderNames(
    layers="encoder.layer",
    maps=_BERT_MAPS,
    outside=_bert_outside,
    positions=lambda config: config["max_position_embeddings"] - config["pad_token_id"] - 1,  # it counts from there
)
_ELECTRA = _EncoderNames(layers="encoder.layer", maps=_BERT_MAPS, outside=_electra_outside)
_DISTILBERT = _EncoderNames(layers="transformer.layer", maps=_DISTIL_MAPS, outside=_distilbert_outside)
_DEBERTA = _EncoderNames(
    layers="encoder.layer",
    maps=_FUSED_MAPS,
    outside=_deberta_outside,
    extra=_deberta_extra,
    positions=_deberta_positions,
)
_DEBERTA_V2 = _EncoderNames(
    layers="encoder.layer",
    maps=_PROJ_MAPS,
    outside=_deberta_v2_outside,
    extra=_deberta_v2_extra,
    outer_norms=_deberta_v2_norms,
    positions=_deberta_positions,
)


def _distilbert(model_type: str, config: Mapping[str, Any]) -> Geometry:
    names = {"hidden_size": "dim", "intermediate_size": "hidden_dim", "num_hidden_layers": "n_layers"}
    return _DISTILBERT.build(model_type, {**config, **{ours: config[theirs] for ours, theirs in names.items()}})


FAMILIES: dict[str, _Family] = {
    "t5": _Family(_t5, _T5_DEFAULTS),
    "mt5": _Family(_t5, {**_T5_DEFAULTS, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    "umt5": _Family(_t5, {**_T5_DEFAULTS, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    "bert": _Family(_BERT.build, _BERT_DEFAULTS),
    "roberta": _Family(_ROBERTA.build, {**_BERT_DEFAULTS, "pad_token_id": 1}),
    "xlm-roberta": _Family(_ROBERTA.build, {**_BERT_DEFAULTS, "pad_token_id": 1}),
    "electra": _Family(_ELECTRA.build, _BERT_DEFAULTS),
    "distilbert": _Family(_distilbert, {"max_position_embeddings": 512}),
    "deberta": _Family(_DEBERTA.build, _DEBERTA_DEFAULTS),
    "deberta-v2": _Family(_DEBERTA_V2.build, _DEBERTA_DEFAULTS),
}
