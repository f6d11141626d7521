"""The operator x ↦ x(A⊗B)ᵀ, without ever forming A⊗B."""

import torch
from torch import Tensor

from krona_tune.kron.factors import FactorShape


def kron_linear(x: Tensor, a: Tensor, b: Tensor, scale: float | Tensor = 1.0) -> Tensor:
    """scale · x(A⊗B)ᵀ by two small products, in the order that needs fewer multiply-adds.

    With x read as a matrix X (a_in, b_in), row by row, (A⊗B)x is A X Bᵀ (the identity of vec, row-major).

    Args:
        x: (..., a_in·b_in). Any number of leading dimensions.
        a: (a_out, a_in), or (trials, a_out, a_in) for several adapters at once.
        b: (b_out, b_in), or (trials, b_out, b_in); x is then (trials, ..., a_in·b_in).
        scale: a plain factor; a tensor (trials, 1, 1) gives each trial its own.

    Returns:
        (..., a_out·b_out), in x's dtype and on its device, to which the factors are cast.

    Raises:
        ValueError: x's last dimension is not a_in·b_in, or the factors' dimensions do not pair.
    """
    shape = shape_of(a, b)
    if x.shape[-1] != shape.d_in:
        raise ValueError(
            f"x has {x.shape[-1]} features, A⊗B takes a_in·b_in = {shape.a_in}·{shape.b_in} = {shape.d_in}"
        )
    leading = x.shape[:-1]
    if a.dim() == 3 and (x.dim() < 2 or x.shape[0] != a.shape[0]):
        raise ValueError(f"{a.shape[0]} adapters at once take x (trials, ..., {shape.d_in}); x is {tuple(x.shape)}")
    a, b = (a * scale).to(x), b.to(x)  # the scale on the factor: fewer numbers than the result
    # (trials or 1, tokens, a_in, b_in); each product below multiplies the last dimension, A's after a transpose.
    trials = a.shape[0] if a.dim() == 3 else 1
    grid = x.reshape(trials, -1, shape.a_in, shape.b_in)
    if shape.b_first:
        grid = _times(_times(grid, b).transpose(-1, -2), a).transpose(-1, -2)
    else:
        grid = _times(_times(grid.transpose(-1, -2), a).transpose(-1, -2), b)
    return grid.reshape(*leading, shape.d_out)


def _times(grid: Tensor, factor: Tensor) -> Tensor:
    """grid (trials, tokens, rows, n) · factorᵀ, factor (m, n) or (trials, m, n), as one product a trial."""
    trials, tokens, rows, n = grid.shape
    flat = torch.matmul(grid.reshape(trials, tokens * rows, n), factor.transpose(-1, -2))
    return flat.view(trials, tokens, rows, flat.shape[-1])


def kron_weight(a: Tensor, b: Tensor, scale: float | Tensor = 1.0) -> Tensor:
    """scale · A⊗B (a_out·b_out, a_in·b_in) as a matrix: for merging into a weight, never for applying it."""
    shape = shape_of(a, b)
    product = (a * scale)[..., :, None, :, None] * b[..., None, :, None, :]
    return product.reshape(*a.shape[:-2], shape.d_out, shape.d_in)


def shape_of(a: Tensor, b: Tensor) -> FactorShape:
    """The sizes of the factors a (..., a_out, a_in) and b (..., b_out, b_in).

    Raises:
        ValueError: they are not both matrices, or not both the same number of matrices.
    """
    if a.dim() not in {2, 3} or a.dim() != b.dim() or a.shape[:-2] != b.shape[:-2]:
        raise ValueError(f"factors are two matrices, or one each a trial; got {tuple(a.shape)} and {tuple(b.shape)}")
    return FactorShape(*a.shape[-2:], *b.shape[-2:])
