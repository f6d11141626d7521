"""Finds a model's own parameters by name, with every module that holds them."""

from collections.abc import Callable, Collection, Iterator

from torch import nn

from krona_tune.adapters.methods.method_table import TrainedModelPart
from krona_tune.backbones.introspection.norms import is_norm

Holders = list[tuple[nn.Module, str]]
"""The places of one parameter: module and key. A tied parameter has several places."""


_CHOSEN: dict[TrainedModelPart, Callable[[nn.Module, str], bool]] = {
    TrainedModelPart.NOTHING: lambda module, key: False,
    TrainedModelPart.NORM_BIASES: lambda module, key: is_norm(module) and key == "bias",
    TrainedModelPart.NORMS: lambda module, key: is_norm(module),
    TrainedModelPart.ADAPTED_NORMS: lambda module, key: is_norm(module),
    TrainedModelPart.ALL: lambda module, key: True,
}


def own_parameters(model: nn.Module, own: TrainedModelPart, adapted: Collection[str] = ()) -> dict[str, Holders]:
    """Returns the chosen parameters by their dotted names; a tied one by its first.

    Args:
        adapted: the names of the layers that carry an adapter.
    """
    chosen: dict[int, tuple[str, Holders]] = {}
    for name, module, key in _every(model):
        inside = own is not TrainedModelPart.ADAPTED_NORMS or is_inside(name, adapted)
        if inside and _CHOSEN[own](module, key):
            chosen.setdefault(id(getattr(module, key)), (name, []))[1].append((module, key))
    return dict(chosen.values())


def beside(model: nn.Module, own: TrainedModelPart) -> list[Holders]:
    """Returns the frozen parameters of norms with a trained bias, because a norm takes both in one dtype."""
    if own is not TrainedModelPart.NORM_BIASES:
        return []
    return [
        [(module, key)]
        for _, module, key in _every(model)
        if is_norm(module) and key != "bias" and getattr(module, "bias", None) is not None
    ]


def is_inside(name: str, modules: Collection[str]) -> bool:
    """Returns whether a dotted name is inside one of the modules."""
    return any(name.startswith(f"{module}.") for module in modules)


def _every(model: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    for path, module in model.named_modules():
        for key, _ in module.named_parameters(recurse=False):
            yield f"{path}.{key}" if path else key, module, key
