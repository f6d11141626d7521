"""Forms the matrix Σ A⊗B itself for one product, and computes dA and dB from its gradient."""

import torch
from torch import Tensor

TERM_BY_TERM = 2
"""Up to this many terms the matrix is made term by term, in one pass each; more are multiplied at once, in two."""


def kron_matrix(a: Tensor, b: Tensor) -> Tensor:
    """Σ A⊗B (*, d_out, d_in) of a (*, terms, a_out, a_in) and b (*, terms, b_out, b_in)."""
    if a.shape[-3] > TERM_BY_TERM:
        return _products(a, b).movedim(-3, -2).reshape(*a.shape[:-3], *_size(a, b))
    (outer, inner), *others = _rows(a, b)
    total = outer * inner
    for outer, inner in others:
        total.addcmul_(outer, inner)
    return total.flatten(-3, -2)


def weight_plus_kron(weight: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """W + Σ A⊗B (d_out, d_in); a (terms, a_out, a_in) and b (terms, b_out, b_in)."""
    if a.shape[-3] > TERM_BY_TERM:
        products = _products(a.to(weight), b.to(weight)).movedim(-3, -2)
        return torch.add(weight.reshape(products.shape), products).view(weight.shape)
    (outer, inner), *others = _rows(a, b)
    total = torch.addcmul(torch.unflatten(weight, 0, (-1, b.shape[-2])), outer, inner)
    for outer, inner in others:
        total.addcmul_(outer, inner)
    return total.flatten(0, 1)


def gradients_by_matrix(dy: Tensor, x: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """dA and dB of a (*, terms, a_out, a_in) and b (*, terms, b_out, b_in) from dyᵀx, the gradient of their sum.

    x (*, tokens, d_in), dy (*, tokens, d_out).
    """
    sizes = (a.shape[-2], b.shape[-2], a.shape[-1], b.shape[-1])
    blocks = (dy.mT @ x).reshape(*a.shape[:-3], *sizes)
    by_b = blocks.movedim((-3, -1), (-4, -3)).flatten(-4, -3).flatten(-2).to(a.dtype)  # (*, b_out·b_in, a_out·a_in)
    entries_of_a = a.flatten(-3).unsqueeze(-1) if a.shape[-3] == 1 else a.flatten(-2).mT
    da = b.flatten(-2) @ by_b
    db = (by_b @ entries_of_a).mT
    return da.reshape(a.shape), db.reshape(b.shape)


def _size(a: Tensor, b: Tensor) -> tuple[int, int]:
    return a.shape[-2] * b.shape[-2], a.shape[-1] * b.shape[-1]


def _rows(a: Tensor, b: Tensor) -> list[tuple[Tensor, Tensor]]:
    """For each term A and B, both as wide as A⊗B: their product over (*, a_out, b_out, d_in) is A⊗B by whole rows."""
    outer = a.repeat_interleave(b.shape[-1], -1)
    inner = b.unsqueeze(-2).expand(*b.shape[:-1], a.shape[-1], b.shape[-1]).flatten(-2)
    return list(zip(outer.unsqueeze(-2).unbind(-4), inner.unsqueeze(-3).unbind(-4), strict=True))


def _products(a: Tensor, b: Tensor) -> Tensor:
    """Σ A⊗B as (*, a_out, a_in, b_out, b_in): every entry of A times every entry of B, in one matrix product."""
    products = a.flatten(-2).mT @ b.flatten(-2)
    return products.reshape(*a.shape[:-3], *a.shape[-2:], *b.shape[-2:])
