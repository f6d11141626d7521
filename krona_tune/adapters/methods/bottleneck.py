"""Defines bottleneck adapters of two layers: after a sublayer (arXiv 1902.00751), beside a block (arXiv 2110.04366)."""

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, linear, relu

from krona_tune.backbones.geometry import Site
from krona_tune.study.spec.trial import AdapterConfig


class _TwoLayers(nn.Module):
    """down (bottleneck, d_in) and up (d_out, bottleneck) with biases. `up` and both biases start at zero."""

    def __init__(self, site: Site, adapter: AdapterConfig, generator: torch.Generator) -> None:
        super().__init__()
        bound = site.d_in**-0.5
        down = torch.empty(adapter.bottleneck, site.d_in).uniform_(-bound, bound, generator=generator)
        self.down, self.down_bias = nn.Parameter(down), nn.Parameter(torch.zeros(adapter.bottleneck))
        self.up = nn.Parameter(torch.zeros(site.d_out, adapter.bottleneck))
        self.up_bias = nn.Parameter(torch.zeros(site.d_out))

    def _narrow(self, x: Tensor) -> Tensor:
        return linear(x, self.down.to(x), self.down_bias.to(x))

    def _widen(self, hidden: Tensor) -> Tensor:
        return linear(hidden, self.up.to(hidden), self.up_bias.to(hidden))


class SequentialAdapter(_TwoLayers):
    """y ↦ up(gelu(down(y))), to be added to y, the output of a sublayer before its residual is added."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps x (..., d) to (..., d)."""
        return self._widen(gelu(self._narrow(x)))


class ParallelAdapter(_TwoLayers):
    """x ↦ s · up(relu(down(x))), where x is the block's input and the result is added to the block's output."""

    def __init__(self, site: Site, adapter: AdapterConfig, generator: torch.Generator) -> None:
        super().__init__(site, adapter, generator)
        self.scale = adapter.scale

    def forward(self, x: Tensor) -> Tensor:
        """Maps x (..., d) to (..., d)."""
        return self.scale * self._widen(relu(self._narrow(x)))
