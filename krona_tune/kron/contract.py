"""Computes the products with the factors themselves: few, large matrix products, over a chunk of tokens at a time.

Everything here takes any leading dimensions (*, ...); several adapters at once are one such dimension. The order is B
first; A first is the transposed problem, in which x and y change places and A⊗B becomes Aᵀ⊗Bᵀ.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from krona_tune.kron.factors import FactorShape
from krona_tune.kron.path import chunk_tokens


def add_product(y: Tensor, x: Tensor, a: Tensor, b: Tensor) -> None:
    """y += x(A⊗B)ᵀ, x (*, tokens, a_in·b_in), y (*, tokens, a_out·b_out), in the cheaper order."""
    shape = FactorShape(*a.shape[-2:], *b.shape[-2:])
    for part_x, part_y in _chunks(x, y, shape):
        if shape.b_first:
            _add_turned(part_y, _narrow(part_x, b, shape.a_in), a)
        else:
            _add_rows(part_y, _turned(part_x, shape.a_in) @ a.mT, b.mT)


def gradients(dy: Tensor, x: Tensor, a: Tensor, b: Tensor, shape: FactorShape) -> tuple[Tensor, Tensor]:
    """dA (*, a_out, a_in) and dB (*, b_out, b_in), in the cheaper order, summed in at least float32."""
    if not shape.b_first:
        da, db = _gradients(x, dy, a.mT, b.mT, shape.transposed)
        return da.mT, db.mT
    return _gradients(dy, x, a, b, shape)


def _gradients(dy: Tensor, x: Tensor, a: Tensor, b: Tensor, shape: FactorShape) -> tuple[Tensor, Tensor]:
    wide = torch.promote_types(x.dtype, torch.float32)
    a, b = a.to(x), b.to(x)
    da, db = torch.zeros_like(a, dtype=wide), torch.zeros_like(b, dtype=wide)
    for part_x, part_dy in _chunks(x, dy, shape):
        turned = _turned(part_dy, shape.a_out)
        da += turned.mT @ _narrow(part_x, b, shape.a_in)
        back = torch.unflatten(turned @ a, -2, (shape.b_out, -1)).flatten(-2)
        db += back @ part_x.reshape(*x.shape[:-2], -1, shape.b_in)
    return da, db


def _chunks(x: Tensor, y: Tensor, shape: FactorShape) -> Iterator[tuple[Tensor, Tensor]]:
    if x.numel() == 0:
        return
    tokens = chunk_tokens(shape, x.device.type) or x.shape[-2]
    yield from zip(torch.split(x, tokens, -2), torch.split(y, tokens, -2), strict=True)


def _narrow(x: Tensor, b: Tensor, a_in: int) -> Tensor:
    """x (*, tokens, a_in·b_in) times Bᵀ, by B's rows: (*, b_out·tokens, a_in)."""
    rows = x.reshape(*x.shape[:-2], -1, b.shape[-1])
    return (b @ rows.mT).reshape(*x.shape[:-2], -1, a_in)


def _turned(y: Tensor, a_out: int) -> Tensor:
    """y (*, tokens, a_out·b_out) as (*, b_out·tokens, a_out): the one copy that the products need."""
    return torch.unflatten(y, -1, (a_out, -1)).movedim(-1, -3).flatten(-3, -2)


def _add_turned(y: Tensor, narrow: Tensor, a: Tensor) -> None:
    """y (*, tokens, a_out·b_out) += narrow (*, b_out·tokens, a_in) Aᵀ, turned back."""
    turned = torch.unflatten(narrow @ a.mT, -2, (-1, y.shape[-2]))
    torch.unflatten(y, -1, (a.shape[-2], -1)).add_(turned.movedim(-3, -1))


def _add_rows(y: Tensor, turned: Tensor, b: Tensor) -> None:
    """y (*, tokens, a·b_in) += turned (*, b_out·tokens, a), whose rows are B's, times B (b_out, b_in)."""
    rows = torch.unflatten(turned, -2, (b.shape[-2], -1)).flatten(-2)
    y += (rows.mT @ b).reshape(y.shape)
