"""Writes a LoRA as a GGUF file, in the names and the layout of llama.cpp, and reads it back. Needs the package gguf."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, GGUFReader, GGUFWriter, TensorNameMap, get_tensor_name_map
from gguf.constants import GGUFType, Keys
from torch import Tensor

from krona_tune.adapters.exact_forms import OF_LLAMA_CPP
from krona_tune.adapters.nearest_lora import Halves
from krona_tune.refusal import Refusal

LORA = "lora"
LEFT, RIGHT = "lora_b", "lora_a"
"""The endings of the names of a LoRA's left and right half."""
ROTATED = {"attn_q": "num_attention_heads", "attn_k": "num_key_value_heads"}
"""The maps whose rows are rotated by a token's position, and what of a model's config counts their heads."""


@dataclass(frozen=True, kw_only=True)
class LoraLayout:
    """The names of llama.cpp for the maps of a model, and the order of their rows.

    Args:
        config: the model's, of transformers.
        maps: the names of the maps that are adapted, relative to the base model.
    """

    config: Any
    maps: tuple[str, ...]

    @property
    def architecture(self) -> str:
        return OF_LLAMA_CPP[self.config.model_type].name

    def names(self) -> dict[str, str]:
        """Returns the names of the maps' weights by ours. Raises a Refusal if llama.cpp has none for one."""
        kind = next(each for each, name in MODEL_ARCH_NAMES.items() if name == self.architecture)
        known: TensorNameMap = get_tensor_name_map(MODEL_ARCH(kind), self.config.num_hidden_layers)
        found = {name: known.get_name(f"model.{name}") for name in self.maps}
        if lacking := [name for name, other in found.items() if other is None]:
            raise Refusal("--format", f"gguf: llama.cpp has no name for {lacking[0]}", "use --format merged")
        return {name: f"{other}.weight" for name, other in found.items()}

    def heads(self, weight: str) -> int:
        """Returns the heads of a weight whose rows llama.cpp orders otherwise; 0 for the others."""
        if not OF_LLAMA_CPP[self.config.model_type].interleaves_halves:
            return 0
        return next((int(getattr(self.config, key)) for part, key in ROTATED.items() if f".{part}." in weight), 0)


def interleaved(rows: Tensor, heads: int) -> Tensor:
    """Returns (d_out, n) with the rows of each head's two halves in turn: 0, h/2, 1, h/2 + 1, …"""
    return rows.view(heads, 2, -1, rows.shape[1]).transpose(1, 2).reshape(rows.shape)


def in_halves(rows: Tensor, heads: int) -> Tensor:
    """Returns what `interleaved` was given."""
    return rows.view(heads, -1, 2, rows.shape[1]).transpose(1, 2).reshape(rows.shape)


def write_gguf(path: Path, halves: Halves, layout: LoraLayout, rank: int) -> None:
    """Writes a LoRA of one rank and of scale 1, in float32."""
    with closing(GGUFWriter(path, layout.architecture)) as writer:
        writer.add_type(GGUFType.ADAPTER)
        writer.add_string(Keys.Adapter.TYPE, LORA)
        writer.add_float32(Keys.Adapter.LORA_ALPHA, float(rank))  # llama.cpp divides it by the rank
        for name, weight in layout.names().items():
            left, right = (half.detach().float().cpu() for half in halves[name])
            if heads := layout.heads(weight):
                left = interleaved(left, heads)
            writer.add_tensor(f"{weight}.{RIGHT}", right.contiguous().numpy())
            writer.add_tensor(f"{weight}.{LEFT}", left.contiguous().numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()


def read_gguf(path: Path, layout: LoraLayout) -> dict[str, tuple[Tensor, Tensor]]:
    """Returns the halves that a file holds, by our names and in our order of rows, with its scale in the left ones."""
    reader = GGUFReader(path)
    alpha = float(reader.fields[Keys.Adapter.LORA_ALPHA].contents())
    held: Mapping[str, Tensor] = {each.name: torch.tensor(each.data) for each in reader.tensors}
    found = {}
    for name, weight in layout.names().items():
        left, right = held[f"{weight}.{LEFT}"], held[f"{weight}.{RIGHT}"]
        if heads := layout.heads(weight):
            left = in_halves(left, heads)
        found[name] = (left * (alpha / len(right)), right)
    return found
