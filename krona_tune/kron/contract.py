"""Computes the products with the factors themselves: few, large matrix products, over a chunk of tokens at a time.

Everything here takes any leading dimensions (*, ...): one if several adapters act at once. The terms of a sum are one
product with the B's stacked, (terms·b_out, b_in), and one with the A's side by side, (a_out, terms·a_in).
The order is B first; A first is the transposed problem, in which x and y change places and A⊗B becomes Aᵀ⊗Bᵀ.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from krona_tune.kron.factors import FactorShape
from krona_tune.kron.path import chunk_tokens


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
            _add_turned(part_y, _narrow(part_x, b, shape.a_in), _beside(a))
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
    da = torch.zeros_like(_beside(a), dtype=wide)
    db = torch.zeros_like(b.flatten(-3, -2), dtype=wide)
    for part_x, part_dy in _chunks(x, dy, shape):
        turned = _turned(part_dy, shape.a_out)
        da += turned.mT @ _narrow(part_x, b, shape.a_in)
        back = _rows_of_b(_each_term(turned, a), shape.b_out)
        db += back @ part_x.reshape(*x.shape[:-2], -1, shape.b_in)
    return torch.unflatten(da, -1, (shape.terms, -1)).movedim(-2, -3), torch.unflatten(db, -2, (shape.terms, -1))


def _chunks(x: Tensor, y: Tensor, shape: FactorShape) -> Iterator[tuple[Tensor, Tensor]]:
    if x.numel() == 0:
        return
    tokens = chunk_tokens(shape, x.device.type) or x.shape[-2]
    yield from zip(torch.split(x, tokens, -2), torch.split(y, tokens, -2), strict=True)


def _narrow(x: Tensor, b: Tensor, a_in: int) -> Tensor:
    """x (*, tokens, a_in·b_in) times every Bᵀ, by B's rows: (*, b_out·tokens, terms·a_in)."""
    rows = x.reshape(*x.shape[:-2], -1, b.shape[-1])
    return _beside((b.flatten(-3, -2) @ rows.mT).reshape(*b.shape[:-2], -1, a_in))


def _beside(terms: Tensor) -> Tensor:
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
