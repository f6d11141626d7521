"""Merges a mergeable adapter into the weights, so that it costs nothing at inference, and unmerges it."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from typing import NamedTuple, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from krona_tune.adapters.frozen_model import spread
from krona_tune.adapters.inject import Adapters
from krona_tune.adapters.method_table import method_named
from krona_tune.backbones.geometry import Site
from krona_tune.backbones.module_facts import is_quantised
from krona_tune.refusal import Refusal

__all__ = ["merge", "unmerge"]


class Mergeable(Protocol):
    """An adapter beside a linear map that is itself linear, or constant."""

    def delta(self) -> Tensor:
        """Returns what is added to a parameter of the map: in its weight's shape, or its bias's."""


@runtime_checkable
class MergedIntoSeveral(Protocol):
    """An adapter that may change both parameters of its map."""

    def deltas(self) -> Mapping[str, Tensor]:
        """Returns what is added to each parameter that changes, by its name in the map: `weight` or `bias`."""


class MergeTarget(NamedTuple):
    """The map of a site, its parameter that an adapter merges into, and the adapter."""

    linear: nn.Module
    parameter: str
    adapter: nn.Module
    site: Site

    def deltas(self) -> Mapping[str, Tensor]:
        """Returns what is added to each parameter of the map that changes."""
        if isinstance(self.adapter, MergedIntoSeveral):
            return self.adapter.deltas()
        return {self.parameter: cast(Mergeable, self.adapter).delta()}


def merge(adapters: Adapters) -> None:
    """Adds every adapter to the model's own weights, such as W + s·Σᵢ Aᵢ⊗Bᵢ, and detaches the adapters' hooks.

    Trained parameters of the model's own stay in the model. The sum is made in float32, or the weight's wider dtype,
    and rounded once.

    Args:
        adapters: a set that is attached to its model, as `krona_tune.load` returns it.

    Raises:
        Refusal: the method can't be added to a linear map, a weight is quantised, or the adapters are merged already or
            detached.
    """
    if not adapters.attached:
        raise Refusal("merge", "the adapters are detached from their model", "load them again")
    merged = list(_mergeable(adapters))
    if adapters.merged:
        raise Refusal("merge", "the adapters are merged already", "unmerge them first")
    if method_named(adapters.config.method).changes_by_weights:
        adapters.added = list(_changes(merged))
    _add(adapters.added or _changes(merged), sign=1)
    adapters.leave_hooks()
    adapters.merged = True


def unmerge(adapters: Adapters) -> None:
    """Subtracts what `merge` added from the weights, within their dtype's rounding, and attaches the hooks again.

    Args:
        adapters: the set that was merged.

    Raises:
        Refusal: the adapters are not merged, or were detached since: merged weights stay as they are then.
    """
    if not adapters.merged:
        raise Refusal("unmerge", "the adapters are not merged", "merge them first")
    if not adapters.attached:
        said = "the adapters are detached from their model, whose weights stay merged"
        raise Refusal("unmerge", said, "load the model again")
    _add(adapters.added or _changes(_mergeable(adapters)), sign=-1)
    adapters.added = []
    adapters.enter_hooks()
    adapters.merged = False


def _mergeable(adapters: Adapters) -> Iterator[MergeTarget]:
    """Yields each site's map with what merges into it."""
    method = method_named(adapters.config.method)
    if method.merges_into is None:
        raise Refusal("merge", f"{method.name} can't be added to a linear map", "use it as an adapter")
    for site, module in adapters.by_site():
        linear = adapters.model.get_submodule(site.name)
        parameter = getattr(linear, method.merges_into, None)
        if not isinstance(parameter, nn.Parameter):
            raise Refusal("merge", f"{site.name} has no {method.merges_into} to merge it into", "use it as an adapter")
        if parameter.is_meta:
            fix = "load the model whole into memory, or use it as an adapter"
            raise Refusal("merge", f"the weights of {site.name} are offloaded", fix)
        if is_quantised(parameter):
            raise Refusal("merge", f"{site.name} is quantised", "use it as an adapter, on the quantised weights")
        yield MergeTarget(linear, method.merges_into, module, site)


@torch.no_grad()
def _changes(merged: Iterable[MergeTarget]) -> Iterator[tuple[nn.Parameter, Tensor]]:
    """Yields each parameter with what is added to it, one after the other: together they may need much memory."""
    for each in merged:
        with ExitStack() as exact:  # a weight is, whatever precision products are made in
            for kind in {each.linear.get_parameter(each.parameter).device.type, *_devices(each.adapter)}:
                exact.enter_context(torch.autocast(kind, enabled=False))
            deltas = each.deltas()
        for name, delta in deltas.items():
            yield each.linear.get_parameter(name), _in_place(delta, each.site)


def _devices(adapter: nn.Module) -> set[str]:
    return {parameter.device.type for parameter in adapter.parameters()}


@torch.no_grad()
def _add(changes: Iterable[tuple[nn.Parameter, Tensor]], sign: int) -> None:
    for parameter, delta in changes:
        wide = torch.promote_types(parameter.dtype, delta.dtype)
        parameter.copy_((parameter.to(wide) + sign * delta.to(parameter.device)).to(parameter.dtype))


def _in_place(delta: Tensor, site: Site) -> Tensor:
    """Returns the delta, (d_out, d_in) of a weight or (d_out,) of a bias, as the whole parameter is kept."""
    whole = of_whole_map(delta, site)
    return whole.T if site.transposed and delta.ndim > 1 else whole


def of_whole_map(delta: Tensor, site: Site) -> Tensor:
    """Returns the delta of a site, (d_out, d_in) or (d_out,), with the other rows of its fused map, which are zero."""
    return spread(delta.T, site.rows).T if delta.ndim > 1 else spread(delta, site.rows)
