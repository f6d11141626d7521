"""Holds the configurations of the real backbones in the search spaces, and writes model folders without values."""

import json
import os
from collections.abc import Mapping
from itertools import accumulate, pairwise
from math import prod
from pathlib import Path
from typing import Any

from krona_tune.backbones.find_geometry import geometry

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
LLAMA_3B: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 28,
    "num_attention_heads": 24, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 128256,
    "max_position_embeddings": 131072, "hidden_act": "silu", "attention_bias": False, "mlp_bias": False,
    "pretraining_tp": 1, "tie_word_embeddings": True, "rope_theta": 500000.0,
    "rope_scaling": {
        "original_max_position_embeddings": 8192, "rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
    },
}  # fmt: skip
"""The keys of meta-llama/Llama-3.2-3B's config.json that decide about its geometry."""
BY_NAME = {
    "sentence-transformers/all-MiniLM-L6-v2": MINILM,
    "google-t5/t5-base": T5_BASE,
    "meta-llama/Llama-3.2-3B": LLAMA_3B,
}


def folder_of(config: dict[str, Any], folder: Path) -> Path:
    """Writes a model folder that suffices until weights are loaded: a config, and weights without values."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    write_holes(geometry(config).weights, folder / "model.safetensors")
    return folder


def write_holes(shapes: Mapping[str, tuple[int, ...]], path: Path) -> None:
    """Writes a sparse safetensors file with these names and shapes; it holds no values."""
    ends = list(accumulate((prod(sizes) for sizes in shapes.values()), initial=0))
    offsets = zip(shapes.items(), pairwise(ends), strict=True)
    tensors = {name: {"dtype": "I8", "shape": sizes, "data_offsets": at} for (name, sizes), at in offsets}
    header = json.dumps(tensors).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    os.truncate(path, path.stat().st_size + ends[-1])
