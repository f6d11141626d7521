"""KronA: a scaled Kronecker product beside a linear map (arXiv 2212.10650, equation of KronA)."""

import torch
from torch import Tensor, nn

from krona_tune.backbones.geometry import Site
from krona_tune.kron.product import kron_beside, kron_linear, kron_weight
from krona_tune.study.spec.trial import AdapterConfig


class Krona(nn.Module):
    """x ↦ s · x(A⊗B)ᵀ, to be added to what the map gives.

    B starts at zero, so a fresh adapter changes nothing; A is normal with deviation 1/√a_in, so that
    A keeps the size of what passes through it whatever its shape. Both are kept in float32.
    """

    def __init__(self, site: Site, adapter: AdapterConfig, generator: torch.Generator) -> None:
        super().__init__()
        a = torch.randn(adapter.a_out, adapter.a_in, generator=generator) * adapter.a_in**-0.5
        self.a = nn.Parameter(a)
        self.b = nn.Parameter(torch.zeros(site.d_out // adapter.a_out, site.d_in // adapter.a_in))
        self.scale = adapter.scale

    def forward(self, x: Tensor) -> Tensor:
        """x (..., d_in) to (..., d_out)."""
        return kron_linear(x, self.a, self.b, self.scale)

    def beside(self, x: Tensor, linear: nn.Linear) -> Tensor:
        """What the map and the adapter give together, x (..., d_in) to (..., d_out)."""
        return kron_beside(x, linear.weight, linear.bias, self.a, self.b, self.scale)

    def delta(self) -> Tensor:
        """What merging adds to the map's weight: s · A⊗B (d_out, d_in)."""
        return kron_weight(self.a, self.b, self.scale)
