"""KronA^B and KronA^B_res: Kronecker adapters beside the whole feed-forward block (arXiv 2212.10650)."""

import torch
from torch import Tensor, nn

from krona_tune.adapters.methods.krona import Krona
from krona_tune.backbones.geometry import Site
from krona_tune.study.spec.trial import AdapterConfig

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
