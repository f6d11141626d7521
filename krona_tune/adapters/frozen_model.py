"""Reaches into a frozen model: rows of fused maps, a map's forward, its own parameters, its weights' fingerprint."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional

from krona_tune.adapters.method_table import TrainedModelPart
from krona_tune.backbones.geometry import Geometry, Role, RoleRows
from krona_tune.backbones.module_facts import is_norm
from krona_tune.refusal import Refusal


def module_at(base: nn.Module, name: str) -> nn.Module:
    """Returns the module of a base model that a geometry names. Raises a Refusal if there is none."""
    try:
        return base.get_submodule(name)
    except AttributeError:
        fix = "give the base model, such as model.base_model, without another library's adapters on it"
        raise Refusal("model", f"a {type(base).__name__} has no {name}", fix) from None


def numbers(rows: RoleRows) -> list[int]:
    """Returns the numbers of the rows of the fused map, in their order."""
    starts = range(rows.start, rows.total, rows.stride)[: rows.count]
    return [start + row for start in starts for row in range(rows.block)]


def spread(values: Tensor, rows: RoleRows | None) -> Tensor:
    """Returns values (..., d_out) at their rows of the fused map, (..., total), with zeros in the other rows.

    Args:
        rows: None for a map that is not fused: the values are returned as they are.
    """
    if rows is None:
        return values
    blocks = values.reshape(*values.shape[:-1], rows.count, rows.block)
    blocks = functional.pad(blocks, (0, rows.stride - rows.block))
    after = rows.total - rows.start - rows.count * rows.stride  # below zero where the last stride reaches too far
    return functional.pad(blocks.flatten(-2), (rows.start, after))


@runtime_checkable
class FusedAdapter(Protocol):
    """An adapter that computes a linear map's output and its own together, at less cost than one after the other."""

    def forward_with(self, x: Tensor, linear: nn.Linear) -> Tensor:
        """Maps x (..., d_in) to (..., d_out)."""


class ForwardOverride:
    """The adapter's `forward_with` in place of a map's forward, until `remove`. The map's hooks still run.

    The forward is a partial function, which deepcopy and pickle take along: a copy of the model has its own adapter.
    """

    def __init__(self, linear: nn.Linear, adapter: FusedAdapter) -> None:
        self._linear, self._forward = linear, partial(adapter.forward_with, linear=linear)
        linear.forward = self._forward  # type: ignore[method-assign]

    def remove(self) -> None:
        """Restores the forward of the map's class. A second call does nothing."""
        if vars(self._linear).get("forward") is self._forward:
            del self._linear.forward


def can_override(module: nn.Module) -> bool:
    """Returns whether a module is a plain linear map with its class's own forward, which can be restored later."""
    return type(module) is nn.Linear and "forward" not in vars(module)


Holders = list[tuple[nn.Module, str]]
"""The places of one parameter: module and key. A tied parameter has several places."""


_CHOSEN: dict[TrainedModelPart, Callable[[nn.Module, str], bool]] = {
    TrainedModelPart.NOTHING: lambda module, key: False,
    TrainedModelPart.NORM_BIASES: lambda module, key: is_norm(module) and key == "bias",
    TrainedModelPart.NORMS: lambda module, key: is_norm(module),
    TrainedModelPart.ADAPTED_NORMS: lambda module, key: is_norm(module),
    TrainedModelPart.ALL: lambda module, key: True,
}


def backbone_parameters(
    model: nn.Module, own: TrainedModelPart, adapted: Collection[str] = (), whole: nn.Module | None = None
) -> dict[str, Holders]:
    """Returns the chosen parameters by their dotted names; a tied one by its first.

    Args:
        adapted: the names of the layers that carry an adapter.
        whole: a model around the base model all of whose parameters are its own, too, such as output embeddings.
    """
    chosen: dict[int, tuple[str, Holders]] = {}
    inner = set(model.modules())
    around = [] if whole is None or own is not TrainedModelPart.ALL else _every(whole)
    for name, module, key in (*_every(model), *(each for each in around if each[1] not in inner)):
        inside = own is not TrainedModelPart.ADAPTED_NORMS or is_inside(name, adapted)
        if inside and _CHOSEN[own](module, key):
            chosen.setdefault(id(getattr(module, key)), (name, []))[1].append((module, key))
    return dict(chosen.values())


def norm_partners(model: nn.Module, own: TrainedModelPart) -> list[Holders]:
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


SAMPLE = 4096
"""About how many values of each weight are hashed, so that billions of parameters take well under a second."""
COMPARABLE = {torch.float32, torch.bfloat16}


def fingerprint(base: nn.Module, geometry: Geometry) -> str | None:
    """Returns the sha256 over name, shape and values, rounded to bfloat16, of every weight that can carry an adapter.

    It hashes a strided sample of each weight: training any of them changes the hash, but one changed value may not.

    Returns:
        64 hexadecimal digits; None if a weight is kept in another dtype (float16, quantised), which rounds differently,
            or has no values.

    Raises:
        Refusal: the model has no such module.
    """
    return _digest({name: getattr(module_at(base, name), "weight", None) for name in _map_names(geometry)})


def part_fingerprints(base: nn.Module, geometry: Geometry, whole: nn.Module) -> dict[str, str]:
    """Returns a fingerprint of each part of a model, by the first word of its parameters' names, over what
    `fingerprint` leaves out: embeddings, norms, biases, a pooler, and what a model that answers with text writes with.

    A part has none if it holds nothing else, or a weight of which `fingerprint` would return None.

    Args:
        whole: the base model itself, or a model around it.
    """
    parts = defaultdict[str, dict[str, Tensor]](dict)
    held = backbone_parameters(base, TrainedModelPart.ALL, whole=whole if geometry.text_to_text else None)
    for name in sorted(held.keys() - {f"{name}.weight" for name in _map_names(geometry)}):
        module, key = held[name][0]
        parts[name.partition(".")[0]][name] = getattr(module, key)
    return {part: digest for part, weights in parts.items() if (digest := _digest(weights))}


def other_part(then: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Returns a part whose fingerprint was another one; empty if all parts that both name are the same."""
    return next((part for part in then if now.get(part, then[part]) != then[part]), "")


def _map_names(geometry: Geometry) -> Iterable[str]:
    return dict.fromkeys(site.name for site in geometry.sites if site.role is not Role.FEED_FORWARD)


def _digest(weights: Mapping[str, Tensor | None]) -> str | None:
    digest = hashlib.sha256()
    for name, weight in weights.items():
        if not isinstance(weight, Tensor) or weight.dtype not in COMPARABLE or weight.is_meta:
            return None
        digest.update(f"{name} {tuple(weight.shape)} ".encode())
        stride = weight.numel() // SAMPLE | 1  # odd, so that the sample is not one column
        sample = weight.detach().flatten()[::stride].to(torch.bfloat16).contiguous().cpu()
        digest.update(sample.view(torch.int16).numpy().astype("<i2").tobytes())
    return digest.hexdigest()
