"""Computes in integers how PEFT's LoKr divides a weight into two factors."""

from collections.abc import Iterable
from math import isqrt

from krona_tune.kron.factors import FactorShape, divisors


def lokr_sides(dimension: int, decompose_factor: int) -> tuple[int, int]:
    """Returns one side of the first and the second factor; their product is `dimension`.

    A decompose factor that divides the dimension is used as it is; else the largest divisor up to it and up to the
    square root of the dimension. -1 means as square as possible.
    """
    if decompose_factor > 0 and dimension % decompose_factor == 0:
        return decompose_factor, dimension // decompose_factor
    limit = isqrt(dimension) if decompose_factor == -1 else min(decompose_factor, isqrt(dimension))
    first = max(size for size in divisors(dimension) if size <= limit)
    return first, dimension // first


def lokr_cost(d_out: int, d_in: int, rank: int, decompose_factor: int) -> int:
    """Counts the parameters at a weight (d_out, d_in): a full first factor, a second one full or of low rank."""
    (out_first, out_second), (in_first, in_second) = (lokr_sides(d, decompose_factor) for d in (d_out, d_in))
    is_full = rank >= max(out_second, in_second) / 2
    return out_first * in_first + (out_second * in_second if is_full else rank * (out_second + in_second))


def lokr_factor(shapes: Iterable[FactorShape]) -> int | None:
    """Returns a decompose factor with which LoKr divides each of these weights as its shape does; None if none does.

    LoKr has one factor for both sides and all sites, so many KronA shapes have none: 24x32⊗32x24 for example.
    """
    wanted = {(d, first) for s in shapes for d, first in ((s.d_out, s.a_out), (s.d_in, s.a_in))}
    factors = (-1, *range(1, 1 + max(dimension for dimension, _ in wanted)))
    return next((f for f in factors if all(lokr_sides(d, f)[0] == first for d, first in wanted)), None)
