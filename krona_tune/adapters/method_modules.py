"""Defines the modules of KronA (arXiv 2212.10650), sums of products (CDKA, arXiv 2602.01267), and their rivals."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, linear, relu

from krona_tune.adapters.method_table import shape_at
from krona_tune.backbones.geometry import Site
from krona_tune.kron.factors import effective_scale
from krona_tune.kron.product import first_factors, kron_linear, kron_weight, linear_plus_kron
from krona_tune.refusal import lacking_package
from krona_tune.study.request.trial import AdapterConfig


class Krona(nn.Module):
    """x ↦ s · x(Σᵢ Aᵢ⊗Bᵢ)ᵀ, to be added to what the map gives.

    KronA^B is the same operator; its site is the block, so x is what enters the feed-forward network.

    A (a_out, a_in) and B (b_out, b_in), or (terms, ...) of each, in float32. One of them starts at zero, so a fresh
    adapter changes nothing.
    """

    def __init__(self, site: Site, adapter: AdapterConfig, generator: torch.Generator) -> None:
        super().__init__()
        shape = shape_at(site, adapter)
        a, b = first_factors(shape, adapter.init, generator)
        self.a, self.b = nn.Parameter(a), nn.Parameter(b)
        self.scale = effective_scale(shape, adapter.scale, adapter.scaling)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., d_in) to (..., d_out)."""
        return kron_linear(x, self.a, self.b, self.scale)

    def forward_with(self, x: Tensor, linear: nn.Linear) -> Tensor:
        """Returns what the map and the adapter give together, x (..., d_in) to (..., d_out)."""
        return linear_plus_kron(x, linear.weight, linear.bias, self.a, self.b, self.scale)

    def delta(self) -> Tensor:
        """Returns what merging adds to the map's weight: s · Σᵢ Aᵢ⊗Bᵢ (d_out, d_in)."""
        return kron_weight(self.a, self.b, self.scale)


class KronaBlockResidual(Krona):
    """x ↦ s · x(Σᵢ Aᵢ⊗Bᵢ)ᵀ + s_res · x with a learnable scalar s_res, zero at the start."""

    def __init__(self, site: Site, adapter: AdapterConfig, generator: torch.Generator) -> None:
        super().__init__(site, adapter, generator)
        self.residual_scale = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Maps x (..., d) to (..., d)."""
        return super().forward(x) + self.residual_scale.to(x) * x

    def forward_with(self, x: Tensor, linear: nn.Linear) -> Tensor:
        """Returns what a block that is one linear map and the adapter give together."""
        return super().forward_with(x, linear) + self.residual_scale.to(x) * x


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
        raise lacking_package("adapter: method: lokr", "peft") from None
    sizes = LoKrConfig(decompose_factor=adapter.decompose_factor)
    with torch.device("meta"):
        stand_in = nn.Linear(site.d_in, site.d_out, bias=False)
        return Linear(stand_in, NAME, config=sizes, r=adapter.rank, alpha=adapter.scale * adapter.rank)


def _first(store: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    if store == f"{LOKR}w1":
        return torch.zeros(shape)
    bound = shape[1] ** -0.5
    return torch.empty(shape).uniform_(-bound, bound, generator=generator)


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


def compacters(
    model: nn.Module, sites: Sequence[Site], adapter: AdapterConfig, generator: torch.Generator
) -> list[nn.Module]:
    """Returns a Compacter per site, with the same rules: normal with deviation 1/n, so that a layer keeps x's size."""
    n = adapter.phm
    rules = nn.Parameter(torch.randn(n, n, n, generator=generator) / n)
    return [Compacter(site, adapter, generator, rules) for site in sites]


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
