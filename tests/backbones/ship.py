"""Writes the geometries that the package carries, of the backbones in the shipped search spaces.

python -m tests.backbones.ship
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from krona_tune.backbones.find_geometry import SHIPPED, meaning_of, shipped_file
from krona_tune.backbones.geometry_file import to_json
from krona_tune.backbones.introspection.introspect import introspect
from krona_tune.train.backbone_source import find_backbone

PACKAGED = "sentence-transformers/all-MiniLM-L6-v2"
T5_BASE: dict[str, Any] = {
    "model_type": "t5", "d_model": 768, "d_ff": 3072, "d_kv": 64, "num_heads": 12, "num_layers": 12,
    "vocab_size": 32128, "relative_attention_num_buckets": 32, "is_encoder_decoder": True,
    "decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1, "n_positions": 512,
}  # fmt: skip
"""What decides about the geometry in the config.json of google-t5/t5-base."""
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
"""The same of meta-llama/Llama-3.2-3B."""


def configs() -> list[Mapping[str, Any]]:
    minilm = json.loads((Path(find_backbone(PACKAGED).location) / "config.json").read_text(encoding="utf-8"))
    return [minilm, T5_BASE, LLAMA_3B]


def main() -> None:
    SHIPPED.mkdir(exist_ok=True)
    for old in SHIPPED.glob("*.json"):
        old.unlink()
    for config in configs():
        path = shipped_file(meaning_of(config))
        path.write_text(to_json(introspect(config, "config.json")) + "\n", encoding="utf-8")
        print(f"{path}: {config['model_type']}, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
