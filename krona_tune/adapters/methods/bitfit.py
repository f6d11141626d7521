"""Defines BitFit, which trains nothing but biases (arXiv 2106.10199)."""

import torch
from torch import Tensor, nn

from krona_tune.backbones.geometry import Site
from krona_tune.study.spec.trial import AdapterConfig


class Bias(nn.Module):
    """A vector that is added to a linear map's bias, or is the bias of a map without one, as are all of T5's."""

    def __init__(self, site: Site, adapter: AdapterConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(site.d_out))

    def forward(self, x: Tensor) -> Tensor:
        """Maps x (..., d_in) to (..., d_out): the same vector everywhere."""
        return self.bias.to(x).expand(*x.shape[:-1], -1)

    def delta(self) -> Tensor:
        """Returns what merging adds to the map's bias: (d_out,)."""
        return self.bias
