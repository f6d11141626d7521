"""Writes the geometries that the package carries, of the backbones in the shipped search spaces and recorded curves.

python -m tests.backbones.ship
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from krona_tune.backbones.find_geometry import SHIPPED, meaning_of, shipped_file, to_json
from krona_tune.backbones.introspect import introspect
from krona_tune.record.recorded_curves import BACKBONE
from krona_tune.train.backbone_source import find_backbone
from tests.backbone_folders import LLAMA_3B

PACKAGED = "sentence-transformers/all-MiniLM-L6-v2"
T5_BASE: dict[str, Any] = {
    "model_type": "t5", "d_model": 768, "d_ff": 3072, "d_kv": 64, "num_heads": 12, "num_layers": 12,
    "vocab_size": 32128, "relative_attention_num_buckets": 32, "is_encoder_decoder": True,
    "decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1, "n_positions": 512,
}  # fmt: skip
"""What decides about the geometry in the config.json of google-t5/t5-base."""


def configs() -> list[Mapping[str, Any]]:
    minilm = json.loads((Path(find_backbone(PACKAGED).location) / "config.json").read_text(encoding="utf-8"))
    return [minilm, T5_BASE, LLAMA_3B, BACKBONE]


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
