"""Computes x ↦ x(Σ A⊗B)ᵀ, alone or beside a frozen linear map, with its first factors and its step of autograd."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

from krona_tune.kron.contraction import Contraction, add_product, choose_contraction, gradients, sum_shape
from krona_tune.kron.factors import FactorShape, Init, refuse_unknown_word

__all__ = ["first_factors", "kron_linear", "kron_weight", "linear_plus_kron"]

META = "meta"
"""The device of tensors without memory, which knows no autocast."""
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
    a, b = a.to(weight), b.to(weight)
    if a.shape[-3] > TERM_BY_TERM:
        products = _products(a, b).movedim(-3, -2)
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


class FrozenLinearPlusKron(torch.autograd.Function):
    """y = x Wᵀ + bias + x(Σ A⊗B)ᵀ, with W and bias frozen.

    x (*, tokens, d_in); W (d_out, d_in) and bias (d_out) in x's dtype, or None; A (*, terms, a_out, a_in) and
    B (*, terms, b_out, b_in) in theirs. Several adapters at once, * = (trials), stand beside no W.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, a: Tensor, b: Tensor) -> Tensor:
        ctx.shape = shape = sum_shape(a, b)
        ctx.contraction = way = choose_contraction(
            shape, x.shape[-2], x.dtype, None if weight is None else weight.dtype
        )
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
            dx = _back(dy, weight, a, b, ctx.contraction)
        if any(ctx.needs_input_grad[3:]):
            da, db = (
                gradients_by_matrix(dy, x, a, b)
                if ctx.contraction.formed_gradient
                else gradients(dy, x, a, b, ctx.shape)
            )
        return dx, None, None, da, db


frozen_linear_plus_kron: Callable[..., Tensor] = FrozenLinearPlusKron.apply
"""`FrozenLinearPlusKron.apply`, which torch leaves untyped."""


def _back(dy: Tensor, weight: Tensor | None, a: Tensor, b: Tensor, way: Contraction) -> Tensor:
    """dx (*, tokens, d_in) = dy (W + Σ A⊗B)."""
    if weight is None:
        dx = dy.new_zeros(*dy.shape[:-1], a.shape[-1] * b.shape[-1])
        return _plus_product(dx, dy, a.mT, b.mT, way)
    if way.folded:
        return dy @ weight_plus_kron(weight, a, b)
    return _plus_product(dy @ weight, dy, a.mT, b.mT, way)


def _plus_product(y: Tensor, x: Tensor, a: Tensor, b: Tensor, way: Contraction) -> Tensor:
    """y + x(Σ A⊗B)ᵀ, in y's memory."""
    if way.formed:
        add = y.addmm_ if y.dim() == 2 else y.baddbmm_
        return add(x, kron_matrix(a.to(x), b.to(x)).mT)
    add_product(y, x, a.to(x), b.to(x))
    return y


def first_factors(shape: FactorShape, init: Init, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Returns fresh factors in float32, a (a_out, a_in) and b (b_out, b_in), or (terms, ...) of each for a sum.

    "krona": B is zero, A normal with deviation 1/√a_in, so that A keeps the size of what passes through it whatever
    its shape (arXiv 2212.10650, with the choice that later ablations found best). "cdka": A is zero, B Kaiming-uniform
    with gain √(1/3), within ±1/√b_in (arXiv 2602.01267, in whose letters A and B change places). It is LoRA's start
    too, where A is a column and B a row.

    Args:
        shape: the sizes of the factors.
        init: "krona" or "cdka".
        generator: draws the values; None: torch's own.

    Raises:
        ValueError: the start is another word.
    """
    refuse_unknown_word("init", init, Init)
    terms = () if shape.terms == 1 else (shape.terms,)
    device = generator.device if generator else None
    a = torch.zeros(*terms, shape.a_out, shape.a_in, device=device)
    b = torch.zeros(*terms, shape.b_out, shape.b_in, device=device)
    if init == "krona":
        a.normal_(generator=generator).mul_(shape.a_in**-0.5)
    else:
        bound: float = shape.b_in**-0.5
        b.uniform_(-bound, bound, generator=generator)
    return a, b


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
        ValueError: x's last dimension is not a_in·b_in, the factors' dimensions do not pair, or the scale has other
            dimensions.
    """
    shape = _checked(x, a, b)
    trials = a.shape[:-3]
    flat = _compute(x).reshape(*trials, x.shape[len(trials) : -1].numel(), shape.d_in)
    product = frozen_linear_plus_kron(flat, None, None, *_factors(x, a, b, scale))
    return product.view(*x.shape[:-1], shape.d_out)


def linear_plus_kron(
    x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float | Tensor = 1.0
) -> Tensor:
    """Returns x Wᵀ + bias + scale · x(Σᵢ Aᵢ⊗Bᵢ)ᵀ in one: the adapter beside a linear map.

    A map that is not frozen is taken as it is and the adapter added, so that it gets its gradients.

    Args:
        x: (..., d_in), with d_in = a_in·b_in.
        weight: W (d_out, d_in), with d_out = a_out·b_out.
        bias: (d_out), or None.
        a: (a_out, a_in), or (terms, a_out, a_in).
        b: (b_out, b_in), or (terms, b_out, b_in).
        scale: a plain factor.

    Returns:
        (..., d_out), as `linear` gives it.

    Raises:
        ValueError: the sizes do not fit each other.
    """
    shape = _checked(x, a, b)
    if a.dim() > 3 or weight.shape != (shape.d_out, shape.d_in):
        raise ValueError(f"one adapter {shape} beside a weight of its size; the weight is {tuple(weight.shape)}")
    if bias is not None and bias.shape != (shape.d_out,):
        raise ValueError(f"a bias of {shape.d_out} numbers beside an adapter {shape}; the bias is {tuple(bias.shape)}")
    if weight.requires_grad or (bias is not None and bias.requires_grad):
        return linear(x, weight, bias) + kron_linear(x, a, b, scale)
    wide = _compute(x)
    weight, bias = weight.to(wide.dtype), None if bias is None else bias.to(wide.dtype)
    flat = frozen_linear_plus_kron(wide.reshape(-1, shape.d_in), weight, bias, *_factors(x, a, b, scale))
    return flat.view(*x.shape[:-1], shape.d_out)


def kron_weight(a: Tensor, b: Tensor, scale: float | Tensor = 1.0) -> Tensor:
    """Returns scale · Σᵢ Aᵢ⊗Bᵢ (a_out·b_out, a_in·b_in) as a matrix, to become part of a weight.

    Args:
        a: (a_out, a_in), or (terms, a_out, a_in).
        b: (b_out, b_in), or (terms, b_out, b_in).
        scale: a plain factor.

    Raises:
        ValueError: the factors' dimensions do not pair, or the scale is not one number.
    """
    shape_of(a, b)
    kind = a.device.type
    exact = nullcontext() if kind == META else torch.autocast(kind, enabled=False)
    with exact:  # a weight is, whatever precision products are made in
        return kron_matrix(_scaled(a, scale), _terms(b))


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


def _scaled(a: Tensor, scale: float | Tensor) -> Tensor:
    """The factors A with their dimension of terms, times the scale: one number, or one for each of the trials."""
    a = _terms(a)
    whole = (*a.shape[:-3], 1, 1, 1)
    if isinstance(scale, Tensor) and scale.shape != whole and (scale.numel() != 1 or scale.dim() > len(whole)):
        raise ValueError(f"the scale is one number or a tensor {whole}; it is {tuple(scale.shape)}")
    return a * scale


def _factors(x: Tensor, a: Tensor, b: Tensor, scale: float | Tensor) -> tuple[Tensor, Tensor]:
    """Returns A, scaled, and B with their dimension of terms, on x's device: autograd carries their gradients back."""
    return _scaled(a, scale).to(x.device), _terms(b).to(x.device)


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
    casts = kind != META and torch.is_autocast_enabled(kind)
    return x.to(torch.get_autocast_dtype(kind)) if casts else x
