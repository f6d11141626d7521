"""Defines Compacter: a sequential adapter of parametrised hypercomplex layers with shared rules (arXiv 2106.04647)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from krona_tune.backbones.geometry import Site
from krona_tune.study.spec.trial import AdapterConfig


class Hypercomplex(nn.Module):
    """x ↦ x Wᵀ + bias with W = Σᵢ Rᵢ ⊗ (lᵢ rᵢᵀ), i from 1 to n, without forming W.

    The rules R (n, n, n) are shared by all layers of a trial. left (n, d_out/n) holds the lᵢ, right (n, d_in/n)
    the rᵢ. With x read as a matrix X (n, d_in/n), row by row, W x is Σᵢ Rᵢ (X rᵢ) lᵢᵀ.
    """

    def __init__(self, rules: nn.Parameter, left: Tensor, right: Tensor) -> None:
        super().__init__()
        self.rules, self.left, self.right = rules, nn.Parameter(left), nn.Parameter(right)
        self.bias = nn.Parameter(torch.zeros(left.numel()))

    def forward(self, x: Tensor) -> Tensor:
        """Maps x (..., d_in) to (..., d_out)."""
        n = len(self.rules)
        through = torch.einsum("...pq,iq->...ip", torch.unflatten(x, -1, (n, -1)), self.right.to(x))
        mixed = torch.einsum("iop,...ip->...io", self.rules.to(through), through)
        return torch.einsum("...io,ir->...or", mixed, self.left.to(mixed)).flatten(-2) + self.bias.to(mixed)

    def weight(self) -> Tensor:
        """Returns W (d_out, d_in)."""
        terms = zip(self.rules, self.left, self.right, strict=True)
        return torch.stack([torch.kron(rule, torch.outer(left, right)) for rule, left, right in terms]).sum(0)


class Compacter(nn.Module):
    """y ↦ up(gelu(down(y))), to be added to y, the output of a sublayer. The left factors of `up` start at zero."""

    def __init__(self, site: Site, adapter: AdapterConfig, generator: torch.Generator, rules: nn.Parameter) -> None:
        super().__init__()
        n, inside = adapter.phm, adapter.bottleneck // adapter.phm
        wide_in, wide_out = site.d_in // n, site.d_out // n
        left = torch.randn(n, inside, generator=generator)
        right = torch.randn(n, wide_in, generator=generator) * wide_in**-0.5
        self.down = Hypercomplex(rules, left, right)
        up_right = torch.randn(n, inside, generator=generator) * inside**-0.5
        self.up = Hypercomplex(rules, torch.zeros(n, wide_out), up_right)

    def forward(self, x: Tensor) -> Tensor:
        """Maps x (..., d) to (..., d)."""
        y: Tensor = self.up(gelu(self.down(x), approximate="tanh"))
        return y


def compacters(sites: Sequence[Site], adapter: AdapterConfig, generator: torch.Generator) -> list[nn.Module]:
    """Returns a Compacter per site, with the same rules: normal with deviation 1/n, so that a layer keeps x's size."""
    n = adapter.phm
    rules = nn.Parameter(torch.randn(n, n, n, generator=generator) / n)
    return [Compacter(site, adapter, generator, rules) for site in sites]
