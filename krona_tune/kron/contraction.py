"""Chooses how Σ A⊗B is applied, by one rule over integers and precision, and computes with the factors.

docs/measurements.md has the costs.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from krona_tune.kron.factors import FactorShape

FULL = frozenset({torch.float32, torch.float64})
"""Precisions in which W + s·ΣA⊗B keeps a small adapter; in the others it would be rounded away."""

LOW_FORMED = 1024
"""Up to this d_out·d_in / (d_out + d_in), low precision multiplies a formed product faster than it moves the
activations that the factors need between their two products."""

SUM_FORMED = (2, 5)
"""From two fifths of d_out·d_in on, the gradients of a sum cost more by its factors than by the formed dyᵀx: each term
adds narrow products. One term costs less for the same count, and is formed from the whole of it.

The share is two whole numbers: with dynamic sizes torch.compile makes a float an input, and then fails to pass it on.
"""

CHUNK = {"cpu": 3 << 15}
"""How many activations are processed at a time, so that the intermediate results stay in a core's cache. Other devices
process all at once."""


@dataclass(frozen=True, kw_only=True)
class Contraction:
    """Says how one application of Σ A⊗B is computed.

    `formed`: y and dx come from one product with a formed matrix, W + s·ΣA⊗B where `folded`, else from the factors.
    `formed_gradient`: dA and dB are read from the formed dyᵀx, else contracted with the factors.
    """

    formed: bool
    folded: bool
    formed_gradient: bool


def choose_contraction(shape: FactorShape, tokens: int, dtype: torch.dtype, weight: torch.dtype | None) -> Contraction:
    """Returns how to compute for `tokens` inputs in precision `dtype` beside a weight of that dtype, or beside none.

    By counting, y or dx from the factors costs `shape.multiply_adds` a token, and dA with dB twice that; from a
    formed matrix each of them costs d_out·d_in.
    """
    dense = shape.d_out * shape.d_in
    crowded = tokens * (shape.d_out + shape.d_in) >= dense  # forming is no more work than reading x and writing y
    if dtype in FULL:
        folded = crowded and weight in FULL
        share, whole = (1, 1) if shape.terms == 1 else SUM_FORMED
        formed_gradient = whole * 2 * shape.multiply_adds >= share * dense
        return Contraction(formed=folded, folded=folded, formed_gradient=formed_gradient)
    formed = crowded and dense <= LOW_FORMED * (shape.d_out + shape.d_in)
    return Contraction(formed=formed, folded=False, formed_gradient=formed)


def chunk_tokens(shape: FactorShape, device: str) -> int | None:
    """Returns how many tokens to contract at a time, or None for all."""
    numbers = CHUNK.get(device)
    return None if numbers is None else max(1, numbers // max(shape.d_out, shape.d_in, shape.between))


def sum_shape(a: Tensor, b: Tensor) -> FactorShape:
    """Returns the sizes of a (*, terms, a_out, a_in) and b (*, terms, b_out, b_in)."""
    (terms, a_out, a_in), (b_out, b_in) = a.shape[-3:], b.shape[-2:]
    return FactorShape(a_out, a_in, b_out, b_in, terms)


def add_product(y: Tensor, x: Tensor, a: Tensor, b: Tensor) -> None:
    """y += x(Σ A⊗B)ᵀ, x (*, tokens, a_in·b_in), y (*, tokens, a_out·b_out), in the cheaper order.

    a (*, terms, a_out, a_in), b (*, terms, b_out, b_in).
    """
    shape = sum_shape(a, b)
    for part_x, part_y in _chunks(x, y, shape):
        if shape.b_first:
            _add_turned(part_y, _narrow(part_x, b, shape.a_in), _side_by_side(a))
        else:
            _add_rows(part_y, _each_term(_turned(part_x, shape.a_in), a.mT), b.mT)


def gradients(dy: Tensor, x: Tensor, a: Tensor, b: Tensor, shape: FactorShape) -> tuple[Tensor, Tensor]:
    """dA (*, terms, a_out, a_in) and dB (*, terms, b_out, b_in), in the cheaper order, summed in at least float32."""
    if not shape.b_first:
        da, db = _gradients(x, dy, a.mT, b.mT, shape.transposed)
        return da.mT, db.mT
    return _gradients(dy, x, a, b, shape)


def _gradients(dy: Tensor, x: Tensor, a: Tensor, b: Tensor, shape: FactorShape) -> tuple[Tensor, Tensor]:
    wide = torch.promote_types(x.dtype, torch.float32)
    a, b = a.to(x), b.to(x)
    da = torch.zeros_like(_side_by_side(a), dtype=wide)
    db = torch.zeros_like(b.flatten(-3, -2), dtype=wide)
    for part_x, part_dy in _chunks(x, dy, shape):
        turned = _turned(part_dy, shape.a_out)
        da += turned.mT @ _narrow(part_x, b, shape.a_in)
        back = _rows_of_b(_each_term(turned, a), shape.b_out)
        db += back @ part_x.reshape(*x.shape[:-2], -1, shape.b_in)
    return torch.unflatten(da, -1, (shape.terms, -1)).movedim(-2, -3), torch.unflatten(db, -2, (shape.terms, -1))


def _chunks(x: Tensor, y: Tensor, shape: FactorShape) -> list[tuple[Tensor, Tensor]]:
    """Returns the parts of both with the same tokens. A generator would stop torch.compile on Python 3.13."""
    if x.numel() == 0:
        return []
    tokens = chunk_tokens(shape, x.device.type) or x.shape[-2]
    return list(zip(torch.split(x, tokens, -2), torch.split(y, tokens, -2), strict=True))


def _narrow(x: Tensor, b: Tensor, a_in: int) -> Tensor:
    """x (*, tokens, a_in·b_in) times every Bᵀ, by B's rows: (*, b_out·tokens, terms·a_in)."""
    rows = x.reshape(*x.shape[:-2], -1, b.shape[-1])
    return _side_by_side((b.flatten(-3, -2) @ rows.mT).reshape(*b.shape[:-2], -1, a_in))


def _side_by_side(terms: Tensor) -> Tensor:
    """(*, terms, rows, columns) side by side: (*, rows, terms·columns)."""
    return terms.movedim(-3, -2).flatten(-2)


def _each_term(turned: Tensor, factors: Tensor) -> Tensor:
    """turned (*, rows, p) times the factor (p, q) of each term: (*, terms, rows, q)."""
    if factors.shape[-3] == 1:
        return (turned @ factors.squeeze(-3)).unsqueeze(-3)
    return turned.unsqueeze(-3) @ factors


def _rows_of_b(turned: Tensor, rows: int) -> Tensor:
    """(*, terms, rows·tokens, a) as (*, terms·rows, tokens·a)."""
    return torch.unflatten(turned, -2, (rows, -1)).flatten(-2).flatten(-3, -2)


def _turned(y: Tensor, a_out: int) -> Tensor:
    """y (*, tokens, a_out·b_out) as (*, b_out·tokens, a_out): the one copy that the products need."""
    return torch.unflatten(y, -1, (a_out, -1)).movedim(-1, -3).flatten(-3, -2)


def _add_turned(y: Tensor, narrow: Tensor, a: Tensor) -> None:
    """y (*, tokens, a_out·b_out) += narrow (*, b_out·tokens, terms·a_in) times the A's side by side, turned back."""
    turned = torch.unflatten(narrow @ a.mT, -2, (-1, y.shape[-2]))
    torch.unflatten(y, -1, (a.shape[-2], -1)).add_(turned.movedim(-3, -1))


def _add_rows(y: Tensor, turned: Tensor, b: Tensor) -> None:
    """y (*, tokens, a·b_in) += turned (*, terms, b_out·tokens, a), whose rows are B's, times the B's stacked."""
    y += (_rows_of_b(turned, b.shape[-2]).mT @ b.flatten(-3, -2)).reshape(y.shape)
