"""Approximates any matrix by a sum of Kronecker products of a given shape."""

from dataclasses import dataclass

import torch
from torch import Tensor

from krona_tune.kron.factors import FactorShape


@dataclass(frozen=True)
class Projection:
    """The nearest sum: a (terms, a_out, a_in), b (terms, b_out, b_in), and the error in share of the matrix's norm."""

    a: Tensor
    b: Tensor
    relative_error: float


@torch.no_grad()
def project(matrix: Tensor, shape: FactorShape) -> Projection:
    """Returns the sum Σᵢ Aᵢ⊗Bᵢ of `shape.terms` products that is nearest to the matrix in the Frobenius norm.

    Rearranged to a row per entry of A and a column per entry of B, a sum of Kronecker products is a matrix of rank
    `terms`, so the nearest sum is a truncated singular value decomposition (Van Loan and Pitsianis, 1993; Eckart and
    Young, 1936). Each singular value is divided equally between its A and its B.

    Args:
        matrix: (d_out, d_in), of any floating-point dtype; it is decomposed in float64.

    Returns:
        Factors in the matrix's dtype on its device, the largest term first. `relative_error` is of the float64 sum.

    Raises:
        ValueError: the matrix is not (a_out·b_out, a_in·b_in) or not of floating-point numbers, or the shape has more
            terms than hold every matrix.
    """
    if not matrix.is_floating_point():
        raise ValueError(f"a matrix of {matrix.dtype} can't be projected; give floating-point numbers")
    if matrix.shape != (shape.d_out, shape.d_in):
        raise ValueError(f"{shape} makes {shape.d_out}x{shape.d_in}, the matrix is {tuple(matrix.shape)}")
    if shape.terms > shape.max_terms:
        raise ValueError(f"{shape} has more than {shape.max_terms} terms, which hold every matrix")
    sizes = (shape.a_out, shape.b_out, shape.a_in, shape.b_in)
    rearranged = matrix.double().view(sizes).movedim(1, 2).reshape(shape.a_out * shape.a_in, -1)
    left, values, right = torch.linalg.svd(rearranged, full_matrices=False)
    kept, lost = values[: shape.terms], values[shape.terms :]
    share = kept.sqrt()
    a = (left[:, : shape.terms] * share).mT.reshape(-1, shape.a_out, shape.a_in)
    b = (right[: shape.terms] * share.unsqueeze(-1)).reshape(-1, shape.b_out, shape.b_in)
    whole = values.norm()
    return Projection(a.to(matrix.dtype), b.to(matrix.dtype), float(lost.norm() / whole) if whole else 0.0)
