"""Serves maps that hold several roles: puts a role's rows in their place, and computes a map's product with its own."""

from types import MethodType
from typing import Protocol, runtime_checkable

from torch import Tensor, nn
from torch.nn import functional

from krona_tune.backbones.geometry import Rows


def numbers(rows: Rows) -> list[int]:
    """Returns the numbers of the rows of the fused map, in their order."""
    starts = range(rows.start, rows.total, rows.stride)[: rows.count]
    return [start + row for start in starts for row in range(rows.block)]


def spread(values: Tensor, rows: Rows | None) -> Tensor:
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

    def beside(self, x: Tensor, linear: nn.Linear) -> Tensor:
        """Maps x (..., d_in) to (..., d_out)."""
        ...


class ForwardOverride:
    """The adapter's `beside` in place of a map's forward, until `remove`. The map's hooks still run."""

    def __init__(self, linear: nn.Linear, adapter: FusedAdapter) -> None:
        def forward(self: nn.Linear, x: Tensor) -> Tensor:
            return adapter.beside(x, self)

        self._linear, self._forward = linear, MethodType(forward, linear)
        linear.forward = self._forward  # type: ignore[method-assign]

    def remove(self) -> None:
        """Restores the forward of the map's class. A second call does nothing."""
        if vars(self._linear).get("forward") is self._forward:
            del self._linear.forward


def can_override(module: nn.Module) -> bool:
    """Returns whether a module is a plain linear map with its class's own forward, which can be restored later."""
    return type(module) is nn.Linear and "forward" not in vars(module)
