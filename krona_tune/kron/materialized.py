"""Forms the matrix A⊗B itself for one product, and computes dA and dB from its gradient."""

import torch
from torch import Tensor


def kron_matrix(a: Tensor, b: Tensor) -> Tensor:
    """A⊗B (*, d_out, d_in) of a (*, a_out, a_in) and b (*, b_out, b_in)."""
    outer, inner = _rows(a, b)
    return (outer * inner).flatten(-3, -2)


def weight_plus_kron(weight: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """W + A⊗B (d_out, d_in), in one pass over W."""
    return torch.addcmul(torch.unflatten(weight, 0, (-1, b.shape[0])), *_rows(a, b)).flatten(0, 1)


def gradients_by_matrix(dy: Tensor, x: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """dA and dB from dyᵀx, the gradient of A⊗B; x (*, tokens, d_in), dy (*, tokens, d_out)."""
    sizes = (a.shape[-2], b.shape[-2], a.shape[-1], b.shape[-1])
    blocks = (dy.mT @ x).reshape(*a.shape[:-2], *sizes)
    by_b = blocks.movedim((-3, -1), (-4, -3)).flatten(-4, -3).flatten(-2).to(a.dtype)  # (*, b_out·b_in, a_out·a_in)
    da = b.flatten(-2).unsqueeze(-2) @ by_b
    db = by_b @ a.flatten(-2).unsqueeze(-1)
    return da.reshape(a.shape), db.reshape(b.shape)


def _rows(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """A and B, each as wide as A⊗B, so that their product over (*, a_out, b_out, d_in) is A⊗B by whole rows."""
    outer = a.repeat_interleave(b.shape[-1], -1)
    inner = b.unsqueeze(-2).expand(*b.shape[:-1], a.shape[-1], b.shape[-1]).flatten(-2)
    return outer.unsqueeze(-2), inner.unsqueeze(-3)
