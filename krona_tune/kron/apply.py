"""The step of autograd: y and dx from the frozen weight and the factors together, dA and dB, with only x kept."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

from krona_tune.kron.contract import add_product, gradients, sum_shape
from krona_tune.kron.materialized import gradients_by_matrix, kron_matrix, weight_plus_kron
from krona_tune.kron.path import Path, path


class Beside(torch.autograd.Function):
    """y = x Wᵀ + bias + x(Σ A⊗B)ᵀ, with W and bias frozen.

    x (*, tokens, d_in); W (d_out, d_in) and bias (d_out) in x's dtype, or None; A (*, terms, a_out, a_in) and
    B (*, terms, b_out, b_in) in theirs. Several adapters at once, * = (trials), stand beside no W.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, a: Tensor, b: Tensor) -> Tensor:
        ctx.shape = shape = sum_shape(a, b)
        ctx.path = way = path(shape, x.shape[-2], x.dtype, None if weight is None else weight.dtype)
        ctx.save_for_backward(x, weight, a, b)
        if weight is None:
            return _plus_product(x.new_zeros(*x.shape[:-1], shape.d_out), x, a, b, way)
        if way.folded:
            return linear(x, weight_plus_kron(weight, a, b), bias)
        return _plus_product(linear(x, weight, bias), x, a, b, way)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, a, b = ctx.saved_tensors
        dx = da = db = None
        if ctx.needs_input_grad[0]:
            dx = _back(dy, weight, a, b, ctx.path)
        if any(ctx.needs_input_grad[3:]):
            da, db = gradients_by_matrix(dy, x, a, b) if ctx.path.formed_gradient else gradients(dy, x, a, b, ctx.shape)
        return dx, None, None, da, db


beside: Callable[..., Tensor] = Beside.apply
"""`Beside.apply`, which torch leaves untyped."""


def _back(dy: Tensor, weight: Tensor | None, a: Tensor, b: Tensor, way: Path) -> Tensor:
    """dx (*, tokens, d_in) = dy (W + Σ A⊗B)."""
    if weight is None:
        dx = dy.new_zeros(*dy.shape[:-1], a.shape[-1] * b.shape[-1])
        return _plus_product(dx, dy, a.mT, b.mT, way)
    if way.folded:
        return dy @ weight_plus_kron(weight, a, b)
    return _plus_product(dy @ weight, dy, a.mT, b.mT, way)


def _plus_product(y: Tensor, x: Tensor, a: Tensor, b: Tensor, way: Path) -> Tensor:
    """y + x(Σ A⊗B)ᵀ, in y's memory."""
    if way.formed:
        add = y.addmm_ if y.dim() == 2 else y.baddbmm_
        return add(x, kron_matrix(a.to(x), b.to(x)).mT)
    add_product(y, x, a.to(x), b.to(x))
    return y
