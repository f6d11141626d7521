"""Approximates an adapter by a LoRA of one rank: the nearest one for each adapted map, by its singular values."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from krona_tune.adapters.inject import Adapters
from krona_tune.adapters.merge import Mergeable, of_whole_map
from krona_tune.adapters.methods.method_table import method_named
from krona_tune.refusal import Refusal


@dataclass(frozen=True, kw_only=True)
class NearestLora:
    """The nearest LoRA of a `rank`: (left (d_out, rank), right (rank, d_in)) by the names of whole maps.

    `kept` is the share of the adapter's squared norm, over all maps, that it has.
    """

    rank: int
    halves: Mapping[str, tuple[Tensor, Tensor]]
    kept: float


@torch.no_grad()
def nearest_lora(adapters: Adapters, rank: int) -> NearestLora:
    """Returns the nearest LoRA of an adapter beside linear maps (Eckart and Young 1936). A fused map gets one for all
    of its roles.

    Raises:
        Refusal: the adapter is no change of weights, or a map has no such rank.
    """
    method = method_named(adapters.config.method)
    if method.merges_into != "weight" or not adapters.sites:
        raise Refusal("--format", f"lora: {method.name} changes no weight of a linear map", "use --format adapter")
    halves, kept, whole = {}, 0.0, 0.0
    for name, delta in _changes(adapters).items():
        if rank > min(delta.shape):
            problem = f"{rank}, but {name} has {delta.shape[0]} × {delta.shape[1]} weights"
            raise Refusal("--rank", problem, f"write {min(delta.shape)} or less")
        left, values, right = torch.linalg.svd(delta, full_matrices=False)
        roots = values[:rank].sqrt()
        halves[name] = ((left[:, :rank] * roots).float(), (roots[:, None] * right[:rank]).float())
        kept, whole = kept + values[:rank].square().sum().item(), whole + values.square().sum().item()
    return NearestLora(rank=rank, halves=halves, kept=kept / whole if whole else 1.0)


def _changes(adapters: Adapters) -> dict[str, Tensor]:
    """Returns what merging would add to the weight of each map, (d_out, d_in) in float64."""
    found: dict[str, Tensor] = {}
    for site, module in adapters.by_site():
        delta = of_whole_map(cast(Mergeable, module).delta().double(), site)
        found[site.name] = found[site.name] + delta if site.name in found else delta
    return found
