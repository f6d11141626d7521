"""Finds a model's repeated layers and the linear maps in them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D


@dataclass(frozen=True)
class Layers:
    """A list of repeated layers, by its name in the base model."""

    name: str
    modules: nn.ModuleList

    def named(self) -> Iterator[tuple[str, nn.Module]]:
        for number, module in enumerate(self.modules):
            yield f"{self.name}.{number}", module


@dataclass(frozen=True)
class MapSize:
    """The size of a linear map. A `transposed` one keeps its weight as (d_in, d_out)."""

    d_out: int
    d_in: int
    transposed: bool


def find_layers(base: nn.Module) -> list[Layers]:
    """Returns the outermost module lists of the base model whose elements hold linear maps."""
    found: list[Layers] = []
    for name, module in base.named_modules():
        inside = any(name.startswith(f"{layers.name}.") for layers in found)
        if isinstance(module, nn.ModuleList) and not inside and any(map(_holds_maps, module)):
            found.append(Layers(name, module))
    return found


def _holds_maps(module: nn.Module) -> bool:
    return any(size_of(each) for each in module.modules())


def size_of(module: nn.Module) -> MapSize | None:
    """Returns a linear map's size, None for another module. A quantised weight's shape says nothing of it."""
    if isinstance(module, nn.Linear) and "router" not in type(module).__name__.lower():  # one gives more than a product
        return MapSize(module.out_features, module.in_features, False)
    if isinstance(module, Conv1D):
        own: Any = module
        return MapSize(int(own.nf), int(own.nx), True)
    return None


def maps_of(layer: nn.Module) -> dict[str, MapSize]:
    """Returns the linear maps of a layer by their names inside it."""
    return {name: size for name, module in layer.named_modules() if (size := size_of(module))}
