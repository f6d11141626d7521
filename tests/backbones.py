"""Configurations of the real backbones that the search spaces name, and model folders that hold nothing more."""

import json
from pathlib import Path
from typing import Any

MINILM: dict[str, Any] = {
    "model_type": "bert",
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "intermediate_size": 1536,
    "num_attention_heads": 12,
    "vocab_size": 30522,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
}
T5_BASE: dict[str, Any] = {
    "model_type": "t5",
    "d_model": 768,
    "d_ff": 3072,
    "d_kv": 64,
    "num_heads": 12,
    "num_layers": 12,
    "num_decoder_layers": 12,
    "vocab_size": 32128,
}
BY_NAME = {"sentence-transformers/all-MiniLM-L6-v2": MINILM, "google-t5/t5-base": T5_BASE}


def folder_of(config: dict[str, Any], folder: Path) -> Path:
    """A model's folder as far as it is looked at before anything is loaded: its config, and a file for its weights."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "model.safetensors").touch()
    return folder
