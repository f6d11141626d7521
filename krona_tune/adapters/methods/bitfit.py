"""BitFit: nothing but biases is trained (arXiv 2106.10199)."""

import torch
from torch import Tensor, nn

from krona_tune.backbones.geometry import Site
from krona_tune.study.spec.trial import AdapterConfig


class Bias(nn.Module):
    """What is added to a linear map's bias, or stands for the bias of a map that has none, as all of T5's."""

    def __init__(self, site: Site, adapter: AdapterConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(site.d_out))

    def forward(self, x: Tensor) -> Tensor:
        """x (..., d_in) to (..., d_out): the same vector everywhere."""
        return self.bias.to(x).expand(*x.shape[:-1], -1)

    def delta(self) -> Tensor:
        """What merging adds to the map's bias: (d_out,)."""
        return self.bias
