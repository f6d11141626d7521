"""Finds the nearest LoRA of one rank of an adapter, and adds a LoRA to the weights of a model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from krona_tune.adapters.exact_forms import PlacedAdapter, changes_weights
from krona_tune.adapters.inject import Adapters
from krona_tune.adapters.merge import Mergeable, of_whole_map
from krona_tune.refusal import Refusal

SPARE, WORTH = 8, 4
"""Directions beyond the rank that are tried, and how many times fewer than all must they be to be worth it."""
NOTHING = 1e-6
"""The share of a matrix's norm that may be left over: about what float32, in which adapters compute, rounds away."""
Halves = Mapping[str, tuple[Tensor, Tensor]]
"""The left (d_out, rank) and the right (rank, d_in) of a LoRA, of scale 1, by the names of whole maps."""


@dataclass(frozen=True, kw_only=True)
class NearestLora:
    """The nearest LoRA of a `rank`; `kept` is the share of the adapter's squared norm, over all maps, that it has."""

    rank: int
    halves: Halves
    kept: float


@torch.no_grad()
def nearest_lora(adapters: Adapters, rank: int) -> NearestLora:
    """Returns the nearest LoRA of an adapter beside linear maps (Eckart and Young 1936). A fused map gets one for all
    of its roles; one of a smaller rank than the others is padded with zeros, so that all have the same.

    Raises:
        Refusal: the adapter is no change of weights, or no map has such a rank.
    """
    if refused := changes_weights(PlacedAdapter(geometry=adapters.geometry, adapter=adapters.config)):
        raise refused
    halves, kept, whole, changes = {}, 0.0, 0.0, _changes(adapters)
    largest = max(changes, key=lambda name: min(changes[name].shape))
    if rank > (most := min(changes[largest].shape)):
        size = " × ".join(map(str, changes[largest].shape))
        raise Refusal("--rank", f"{rank}, but {largest} has {size} weights", f"write {most} or less")
    for name, delta in changes.items():
        left, values, right = leading_parts(delta, rank)
        roots, lacking = values[:rank].sqrt(), max(0, rank - len(values))
        halves[name] = (
            pad((left[:, :rank] * roots).float(), (0, lacking)),
            pad((roots[:, None] * right[:rank]).float(), (0, 0, 0, lacking)),
        )
        kept, whole = kept + values[:rank].square().sum().item(), whole + delta.square().sum().item()
    return NearestLora(rank=rank, halves=halves, kept=kept / whole if whole else 1.0)


def leading_parts(delta: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """Returns left singular vectors (d_out, n), singular values (n,) and right ones (n, d_in) of a matrix, n ≥ `rank`
    if it has so many.

    A matrix whose own rank is small is first projected on a few random directions (Halko, Martinsson and Tropp 2011),
    which is exact for it and takes a fraction of the time; the whole decomposition follows if something is left over.
    """
    directions = rank + SPARE
    if WORTH * directions < min(delta.shape):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            left, values, right = torch.svd_lowrank(delta, q=directions, niter=2)
        rest = delta - (left * values) @ right.T
        if rest.norm() <= NOTHING * delta.norm():
            return left, values, right.T
    return cast(tuple[Tensor, Tensor, Tensor], tuple(torch.linalg.svd(delta, full_matrices=False)))


def _changes(adapters: Adapters) -> dict[str, Tensor]:
    """Returns what merging would add to the weight of each map, (d_out, d_in) in float64."""
    found: dict[str, Tensor] = {}
    for site, module in adapters.by_site():
        delta = of_whole_map(cast(Mergeable, module).delta().double(), site)
        found[site.name] = found[site.name] + delta if site.name in found else delta
    return found


@torch.no_grad()
def add_lora(base: nn.Module, halves: Halves) -> None:
    """Adds a LoRA to the weights of a base model's maps, which are kept as (d_out, d_in)."""
    for name, (left, right) in halves.items():
        weight = cast(Tensor, base.get_submodule(name).weight)
        weight.add_((left.double() @ right.double()).to(weight))
