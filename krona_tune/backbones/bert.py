"""Describes BERT and its relatives RoBERTa, ELECTRA and DistilBERT."""

from collections.abc import Mapping
from typing import Any

from krona_tune.backbones.encoder import AFTER_ATTENTION, EncoderNames
from krona_tune.backbones.geometry import Geometry, Role

BERT_DEFAULTS = {"type_vocab_size": 2, "max_position_embeddings": 512}
_BERT_MAPS = {f"attention.self.{role}": role for role in (Role.QUERY, Role.KEY, Role.VALUE)} | AFTER_ATTENTION
_DISTIL_MAPS = {
    "attention.q_lin": Role.QUERY,
    "attention.k_lin": Role.KEY,
    "attention.v_lin": Role.VALUE,
    "attention.out_lin": Role.OUTPUT,
    "ffn.lin1": Role.FEED_FORWARD_IN,
    "ffn.lin2": Role.FEED_FORWARD_OUT,
}


def _embedding_rows(config: Mapping[str, Any]) -> int:
    rows: int = config["vocab_size"] + config["max_position_embeddings"] + config["type_vocab_size"]
    return rows


def _bert_outside(config: Mapping[str, Any]) -> int:
    return _embedding_rows(config) * int(config["hidden_size"])


def _with_pooler(config: Mapping[str, Any]) -> int:
    hidden: int = config["hidden_size"]
    return _bert_outside(config) + hidden * hidden + hidden


def _electra_outside(config: Mapping[str, Any]) -> int:
    hidden, size = int(config["hidden_size"]), int(config["embedding_size"])
    return _embedding_rows(config) * size + (size * hidden + hidden if size != hidden else 0)


def _distilbert_outside(config: Mapping[str, Any]) -> int:
    rows: int = config["vocab_size"] + config["max_position_embeddings"]
    return rows * int(config["hidden_size"])


BERT = EncoderNames(layers="encoder.layer", maps=_BERT_MAPS, outside=_with_pooler, head_layers=1)
ROBERTA = EncoderNames(
    layers="encoder.layer",
    maps=_BERT_MAPS,
    outside=_bert_outside,
    positions=lambda config: config["max_position_embeddings"] - config["pad_token_id"] - 1,  # ids start after it
)
ELECTRA = EncoderNames(layers="encoder.layer", maps=_BERT_MAPS, outside=_electra_outside)
_DISTILBERT = EncoderNames(layers="transformer.layer", maps=_DISTIL_MAPS, outside=_distilbert_outside)


def distilbert(model_type: str, config: Mapping[str, Any]) -> Geometry:
    names = {"hidden_size": "dim", "intermediate_size": "hidden_dim", "num_hidden_layers": "n_layers"}
    return _DISTILBERT.build(model_type, {**config, **{ours: config[theirs] for ours, theirs in names.items()}})
