"""Puts weightless functions in place of a model's linear maps, so that it runs without its weights."""

from math import sqrt
from typing import Any, cast

import torch
from torch import Tensor, nn

from krona_tune.backbones.introspection.linear_maps import MapSize, size_of
from krona_tune.backbones.introspection.meta_model import MetaModel

MOST_TOKENS = 3
"""The most tokens of an input whose addition is remembered."""
LARGE = 2**24
"""The most values of a parameter that is really made."""
SIZE = 0.3
"""The size of the numbers that maps put out: small enough for a softmax without scaling, as T5 has."""


class MapStandIn(nn.Module):
    """Stands for a linear map and remembers what it added in each call."""

    bias = None

    def __init__(self, size: MapSize, generator: torch.Generator) -> None:
        super().__init__()
        self.in_features = self.nx = size.d_in
        self.out_features = self.nf = size.d_out
        self.weight = torch.empty(0)
        self._u = torch.randn(size.d_in, generator=generator) / sqrt(size.d_in)
        self._v = torch.randn(size.d_out, generator=generator) * SIZE
        self._generator = generator
        self.added: list[Tensor] = []

    def forward(self, x: Tensor, *_: Any, **__: Any) -> Tensor:
        y = (x @ self._u)[..., None] * self._v
        if self.added or x[..., 0].numel() > MOST_TOKENS:
            return y  # a second call, or one for a table of positions
        c = (torch.randn((*x.shape[:-1], self.out_features), generator=self._generator) * SIZE).requires_grad_()
        self.added.append(c)
        return y + c


class _EmbeddingStandIn(nn.Module):
    """Stands for a large table of embeddings: a smooth function of the id."""

    def __init__(self, table: nn.Embedding) -> None:
        super().__init__()
        self.weight, self.padding_idx = torch.empty(0), table.padding_idx
        self._phases = torch.arange(table.embedding_dim) * 0.7

    def forward(self, *args: Any, **named: Any) -> Tensor:
        given = [each for each in (*args, *named.values()) if isinstance(each, Tensor)]
        ids = given[0] if given else torch.arange(args[0][-1])[None]  # some tables of positions get a shape
        return torch.sin(ids[..., None] * 1.3 + self._phases)


class _ThroughStandIn(nn.Module):
    """Stands for a module of large parameters that are no linear map, such as experts: gives its first input back."""

    def forward(self, x: Tensor, *_: Any, **__: Any) -> Tensor:
        return x


def put_stand_ins(model: MetaModel, generator: torch.Generator) -> dict[str, MapStandIn]:
    """Replaces maps, large embeddings and other large parameters, and makes the rest; returns the maps' stand-ins."""
    made: dict[nn.Module, nn.Module] = {}
    for name, module in list(model.whole.named_modules(remove_duplicate=False)):
        if not name:
            continue
        if module not in made and (stand_in := _stand_in(module, generator)):
            made[module] = stand_in
        if module in made:
            parent, _, key = name.rpartition(".")
            model.whole.get_submodule(parent)._modules[key] = made[module]
    whole = cast(Any, model.whole)
    for module in list(model.whole.modules()):
        module.to_empty(device="cpu", recurse=False)
        whole._init_weights(module)
    model.whole.eval().requires_grad_(False)
    named = model.base.named_modules()
    return {name: module for name, module in named if isinstance(module, MapStandIn)}


def _stand_in(module: nn.Module, generator: torch.Generator) -> nn.Module | None:
    if size := size_of(module):
        return MapStandIn(size, generator)
    if all(parameter.numel() <= LARGE for parameter in module.parameters(recurse=False)):
        return None
    return _EmbeddingStandIn(module) if isinstance(module, nn.Embedding) else _ThroughStandIn()
