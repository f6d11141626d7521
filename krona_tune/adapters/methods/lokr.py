"""Defines LoKr as the package peft computes it, the Kronecker adapter in common use (arXiv 2309.14859)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from krona_tune.backbones.geometry import Site
from krona_tune.refusal import Refusal
from krona_tune.study.spec.trial import AdapterConfig

LOKR = "lokr_"
"""The prefix of peft's names for a layer's tensors: lokr_w1, and lokr_w2 or lokr_w2_a and lokr_w2_b."""
NAME = "default"
"""The name of a layer's adapter: a layer of peft may have several, here it has one."""


class Lokr(nn.Module):
    """x ↦ s · x(W₁⊗W₂)ᵀ, to be added to the map's output; the product is formed anew at each call, as in peft.

    W₁ is full, W₂ full or of low rank. W₁ starts at zero, W₂'s tensors are uniform within ±1/√columns, as in peft. s is
    a plain factor, which peft writes as alpha / rank.

    Raises:
        Refusal: peft is not installed.
    """

    def __init__(self, site: Site, adapter: AdapterConfig, generator: torch.Generator) -> None:
        super().__init__()
        layer = _layer(site, adapter)
        for name, tensor in list(layer.named_parameters()):
            store, _, key = name.partition(".")
            if key == NAME:
                parameter = nn.Parameter(_first(store, tensor.shape, generator))
                getattr(layer, store)[NAME] = parameter
                self.register_parameter(store.removeprefix(LOKR), parameter)
        self._layer = (layer,)  # in a tuple, so that peft's module is not a submodule

    def forward(self, x: Tensor) -> Tensor:
        """Maps x (..., d_in) to (..., d_out)."""
        return linear(x, self.delta().to(x))

    def delta(self) -> Tensor:
        """Returns what merging adds to the map's weight: s · W₁⊗W₂ (d_out, d_in)."""
        delta: Tensor = self._layer[0].get_delta_weight(NAME)
        return delta


def _layer(site: Site, adapter: AdapterConfig) -> Any:
    """Returns peft's layer around a map that has a shape but no values."""
    try:
        from peft.tuners.lokr import Linear, LoKrConfig
    except ImportError:
        raise Refusal(
            "adapter: method: lokr", "the package peft is not installed", "pip install 'krona_tune[peft]'"
        ) from None
    sizes = LoKrConfig(decompose_factor=adapter.decompose_factor)
    with torch.device("meta"):
        stand_in = nn.Linear(site.d_in, site.d_out, bias=False)
        return Linear(stand_in, NAME, config=sizes, r=adapter.rank, alpha=adapter.scale * adapter.rank)


def _first(store: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    if store == f"{LOKR}w1":
        return torch.zeros(shape)
    bound = shape[1] ** -0.5
    return torch.empty(shape).uniform_(-bound, bound, generator=generator)
