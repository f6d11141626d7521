"""Defines KronA, KronA^B and KronA^B_res (arXiv 2212.10650), and sums of products (CDKA, arXiv 2602.01267)."""

import torch
from torch import Tensor, nn

from krona_tune.backbones.geometry import Site
from krona_tune.kron.factors import effective_scale, factor_shape
from krona_tune.kron.product import first_factors, kron_beside, kron_linear, kron_weight
from krona_tune.study.request.trial import AdapterConfig


class Krona(nn.Module):
    """x ↦ s · x(Σᵢ Aᵢ⊗Bᵢ)ᵀ, to be added to what the map gives.

    A (a_out, a_in) and B (b_out, b_in), or (terms, ...) of each, in float32. One of them starts at zero, so a fresh
    adapter changes nothing.
    """

    def __init__(self, site: Site, adapter: AdapterConfig, generator: torch.Generator) -> None:
        super().__init__()
        shape = factor_shape(site.d_out, site.d_in, adapter.a_out, adapter.a_in, adapter.terms)
        a, b = first_factors(shape, adapter.init, generator)
        self.a, self.b = nn.Parameter(a), nn.Parameter(b)
        self.scale = effective_scale(shape, adapter.scale, adapter.scaling)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., d_in) to (..., d_out)."""
        return kron_linear(x, self.a, self.b, self.scale)

    def beside(self, x: Tensor, linear: nn.Linear) -> Tensor:
        """Returns what the map and the adapter give together, x (..., d_in) to (..., d_out)."""
        return kron_beside(x, linear.weight, linear.bias, self.a, self.b, self.scale)

    def delta(self) -> Tensor:
        """Returns what merging adds to the map's weight: s · Σᵢ Aᵢ⊗Bᵢ (d_out, d_in)."""
        return kron_weight(self.a, self.b, self.scale)


KronaBlock = Krona
"""KronA^B is the same operator; its site is the block, so x is what enters the feed-forward network."""


class KronaBlockResidual(Krona):
    """x ↦ s · x(Σᵢ Aᵢ⊗Bᵢ)ᵀ + s_res · x with a learnable scalar s_res, zero at the start."""

    def __init__(self, site: Site, adapter: AdapterConfig, generator: torch.Generator) -> None:
        super().__init__(site, adapter, generator)
        self.residual_scale = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """x (..., d) to (..., d)."""
        return super().forward(x) + self.residual_scale.to(x) * x

    def beside(self, x: Tensor, linear: nn.Linear) -> Tensor:
        """What a block that is one linear map and the adapter give together."""
        return super().beside(x, linear) + self.residual_scale.to(x) * x
