"""Defines LoRA: a product of two thin matrices beside a linear map (arXiv 2106.09685)."""

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from krona_tune.backbones.geometry import Site
from krona_tune.study.spec.trial import AdapterConfig


class Lora(nn.Module):
    """x ↦ s · x AᵀBᵀ with A (rank, d_in) and B (d_out, rank), to be added to the map's output.

    s is a plain factor: what other libraries write as alpha / rank. B starts at zero, A is uniform within ±1/√d_in.
    """

    def __init__(self, site: Site, adapter: AdapterConfig, generator: torch.Generator) -> None:
        super().__init__()
        bound = site.d_in**-0.5
        self.a = nn.Parameter(torch.empty(adapter.rank, site.d_in).uniform_(-bound, bound, generator=generator))
        self.b = nn.Parameter(torch.zeros(site.d_out, adapter.rank))
        self.scale = adapter.scale

    def forward(self, x: Tensor) -> Tensor:
        """Maps x (..., d_in) to (..., d_out)."""
        return linear(linear(x, (self.a * self.scale).to(x)), self.b.to(x))

    def delta(self) -> Tensor:
        """Returns what merging adds to the map's weight: s · BA (d_out, d_in)."""
        return self.scale * self.b @ self.a
