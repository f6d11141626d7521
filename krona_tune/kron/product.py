"""The operator x ↦ x(Σ A⊗B)ᵀ, alone or beside a frozen linear map.

One term is KronA (arXiv 2212.10650). Several of one shape reach from LoRA (arXiv 2106.09685: A a column, B a row, as
many terms as the rank) over CDKA (arXiv 2602.01267) to any matrix.
"""

import torch
from torch import Tensor
from torch.nn.functional import linear

from krona_tune.kron.apply import beside
from krona_tune.kron.contract import sum_shape
from krona_tune.kron.factors import FactorShape
from krona_tune.kron.materialized import kron_matrix


def kron_linear(x: Tensor, a: Tensor, b: Tensor, scale: float | Tensor = 1.0) -> Tensor:
    """Returns scale · x(Σᵢ Aᵢ⊗Bᵢ)ᵀ by the path that costs least.

    With x read as a matrix X (a_in, b_in), row by row, (A⊗B)x is A X Bᵀ (the identity of vec, row-major). For the
    backward nothing is kept but x and the factors; it can't be differentiated a second time.

    Args:
        x: (..., a_in·b_in). Any number of leading dimensions.
        a: (a_out, a_in); or (terms, a_out, a_in), summed over the terms; or (trials, terms, a_out, a_in) for several
            adapters at once.
        b: (b_out, b_in), with the leading dimensions of a. With trials, x is (trials, ..., a_in·b_in).
        scale: a plain factor; a tensor (trials, 1, 1, 1) gives each trial its own.

    Returns:
        (..., a_out·b_out), on x's device and in its dtype, or in autocast's where that is on.

    Raises:
        ValueError: x's last dimension is not a_in·b_in, or the factors' dimensions do not pair.
    """
    shape = _checked(x, a, b)
    trials = a.shape[:-3]
    flat = _compute(x).reshape(*trials, x.shape[len(trials) : -1].numel(), shape.d_in)
    return beside(flat, None, None, _terms(a) * scale, _terms(b)).view(*x.shape[:-1], shape.d_out)


def kron_beside(
    x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float | Tensor = 1.0
) -> Tensor:
    """Returns x Wᵀ + bias + scale · x(Σᵢ Aᵢ⊗Bᵢ)ᵀ in one: the adapter beside a linear map.

    A map that is not frozen is taken as it is and the adapter added, so that it gets its gradients.

    Args:
        x: (..., d_in).
        weight: (d_out, d_in). `bias`: (d_out), or None.
        a, b, scale: of one adapter, as `kron_linear` takes them, with d_out = a_out·b_out and d_in = a_in·b_in.

    Returns:
        (..., d_out), as `linear` gives it.

    Raises:
        ValueError: the sizes do not fit each other.
    """
    shape = _checked(x, a, b)
    if a.dim() > 3 or weight.shape != (shape.d_out, shape.d_in):
        raise ValueError(f"one adapter {shape} beside a weight of its size; the weight is {tuple(weight.shape)}")
    if weight.requires_grad or (bias is not None and bias.requires_grad):
        return linear(x, weight, bias) + kron_linear(x, a, b, scale)
    wide = _compute(x)
    weight, bias = weight.to(wide.dtype), None if bias is None else bias.to(wide.dtype)
    flat = beside(wide.reshape(-1, shape.d_in), weight, bias, _terms(a) * scale, _terms(b))
    return flat.view(*x.shape[:-1], shape.d_out)


def kron_weight(a: Tensor, b: Tensor, scale: float | Tensor = 1.0) -> Tensor:
    """Returns scale · Σᵢ Aᵢ⊗Bᵢ (a_out·b_out, a_in·b_in) as a matrix, to become part of a weight."""
    shape_of(a, b)
    with torch.autocast(a.device.type, enabled=False):  # a weight is exact, whatever precision products are made in
        return kron_matrix(_terms(a) * scale, _terms(b))


def shape_of(a: Tensor, b: Tensor) -> FactorShape:
    """Returns the sizes of the factors a (..., a_out, a_in) and b (..., b_out, b_in).

    Raises:
        ValueError: they are not both matrices, or not both the same number of matrices.
    """
    if a.dim() not in {2, 3, 4} or a.dim() != b.dim() or a.shape[:-2] != b.shape[:-2]:
        raise ValueError(
            "factors are two matrices, or (terms, ...) or (trials, terms, ...) of them; "
            f"got {tuple(a.shape)} and {tuple(b.shape)}"
        )
    return sum_shape(_terms(a), _terms(b))


def _terms(factors: Tensor) -> Tensor:
    """The factors with their dimension of terms, which a single term may leave out."""
    return factors.unsqueeze(0) if factors.dim() == 2 else factors


def _checked(x: Tensor, a: Tensor, b: Tensor) -> FactorShape:
    shape = shape_of(a, b)
    if x.shape[-1] != shape.d_in:
        raise ValueError(
            f"x has {x.shape[-1]} features, A⊗B takes a_in·b_in = {shape.a_in}·{shape.b_in} = {shape.d_in}"
        )
    if a.dim() == 4 and (x.dim() < 2 or x.shape[0] != a.shape[0]):
        raise ValueError(f"{a.shape[0]} adapters at once take x (trials, ..., {shape.d_in}); x is {tuple(x.shape)}")
    return shape


def _compute(x: Tensor) -> Tensor:
    """x in the dtype that products are made in: its own, or autocast's."""
    kind = x.device.type
    return x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x
