"""Merge and unmerge: a mergeable adapter becomes part of the weights, with no cost at inference, and back."""

from typing import Protocol, cast

import torch
from torch import Tensor, nn

from krona_tune.adapters.inject import Adapters
from krona_tune.adapters.methods import method_named
from krona_tune.refusal import Refusal
from krona_tune.study.geometry import Part


class Mergeable(Protocol):
    """An adapter beside a linear map that is itself linear."""

    def weight(self) -> Tensor:
        """What the map's weight becomes more: (d_out, d_in)."""
        ...


def merge(adapters: Adapters) -> None:
    """Adds every adapter's weight to the model's own, W + s(A⊗B), and detaches the adapters' hooks.

    Trained layer norms stay in the model. The sum is made in float32,
    or the weight's wider dtype, and rounded once.

    Raises:
        Refusal: the method is not a sum with a linear map and can't be merged.
    """
    _refuse_unmergeable(adapters)
    if adapters.merged:
        raise Refusal("merge", "the adapters are merged already", "unmerge them first")
    _add_weights(adapters, sign=1)
    adapters.leave_hooks()
    adapters.merged = True


def unmerge(adapters: Adapters) -> None:
    """Takes what `merge` added from the weights, within their dtype's rounding, and attaches the hooks again."""
    if not adapters.merged:
        raise Refusal("unmerge", "the adapters are not merged", "merge them first")
    _add_weights(adapters, sign=-1)
    adapters.enter_hooks()
    adapters.merged = False


def _refuse_unmergeable(adapters: Adapters) -> None:
    method = method_named(adapters.config.method)
    if not method.merges:
        raise Refusal(
            "merge", f"{method.name} stands beside a {method.beside} that is not linear", "use it as an adapter"
        )


@torch.no_grad()
def _add_weights(adapters: Adapters, sign: int) -> None:
    for site, module in adapters.by_site():
        linear = adapters.model.get_submodule(site.name)
        weight = linear.get_parameter("weight")
        delta = _rows(cast(Mergeable, module).weight(), site.part, weight)
        weight.copy_((weight.to(torch.promote_types(weight.dtype, delta.dtype)) + sign * delta).to(weight.dtype))


def _rows(delta: Tensor, part: Part | None, weight: nn.Parameter) -> Tensor:
    """The delta (d_out, d_in) at the rows of its part of a fused weight (heads·parts·width, d_in)."""
    if part is None:
        return delta
    whole = torch.zeros(part.heads, part.parts, delta.shape[0] // part.heads, delta.shape[1], device=delta.device)
    whole[:, part.index] = delta.view(part.heads, -1, delta.shape[1])
    return whole.view(weight.shape)
