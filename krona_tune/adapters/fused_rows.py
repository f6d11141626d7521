"""Puts what an adapter computes for one role in that role's place among the rows of a fused map."""

from torch import Tensor
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
