"""Computes in integers which factor shapes fit a weight, what each costs, and which rank it can reach."""

from dataclasses import dataclass, replace
from functools import lru_cache
from math import sqrt
from operator import index
from typing import Any, Literal, get_args

__all__ = ["FactorShape", "effective_scale", "factor_shape", "factor_shapes", "first_step"]

Init = Literal["krona", "cdka"]
"""Which factors start at zero: all B's, or all A's."""
Scaling = Literal["plain", "stable"]
"""Whether the scale is divided by √(terms·a_in)."""


def refuse_unknown_word(name: str, word: str, known: Any) -> None:
    """Raises ValueError if a word is none of a Literal's."""
    if word not in get_args(known):
        raise ValueError(f"{name} is one of {', '.join(get_args(known))}; this is {word!r}")


def whole_size(value: Any) -> int | None:
    """Returns a size as an int, whatever type of whole number it has; None if it is no whole number from 1."""
    try:
        size = 0 if isinstance(value, bool) else index(value)
    except TypeError:
        return None
    return size if size >= 1 else None


@dataclass(frozen=True, order=True)
class FactorShape:
    """Holds the sizes of a sum Σᵢ Aᵢ⊗Bᵢ, a matrix of a_out·b_out rows and a_in·b_in columns.

    Raises:
        ValueError: a size is not a whole number from 1.
    """

    a_out: int
    """The rows of each A."""
    a_in: int
    """The columns of each A."""
    b_out: int
    """The rows of each B."""
    b_in: int
    """The columns of each B."""
    terms: int = 1
    """The number of products A⊗B that are summed."""

    def __post_init__(self) -> None:
        for name in ("a_out", "a_in", "b_out", "b_in", "terms"):
            size = whole_size(given := getattr(self, name))
            if size is None:
                raise ValueError(f"{name} is {given!r}; write a whole number from 1")
            object.__setattr__(self, name, size)

    def __str__(self) -> str:
        product = f"{self.a_out}x{self.a_in}⊗{self.b_out}x{self.b_in}"
        return product if self.terms == 1 else f"{self.terms}·({product})"

    @property
    def d_out(self) -> int:
        """Returns the sum's rows, a_out·b_out."""
        return self.a_out * self.b_out

    @property
    def d_in(self) -> int:
        """Returns the sum's columns, a_in·b_in."""
        return self.a_in * self.b_in

    @property
    def parameters(self) -> int:
        """Counts the trainable numbers in all A's and B's together."""
        return self.terms * (self.a_out * self.a_in + self.b_out * self.b_in)

    @property
    def max_terms(self) -> int:
        """Returns the number of terms that reaches every matrix.

        Rearranged to a row per entry of A and a column per entry of B, a sum of t products is a matrix of rank t at
        most (Van Loan and Pitsianis, 1993).
        """
        return min(self.a_out * self.a_in, self.b_out * self.b_in)

    @property
    def max_rank(self) -> int:
        """Returns the highest rank that the sum can reach, which almost all factors do: rank(A)·rank(B) of one term."""
        return _rank(self.terms, self.a_in, self.a_out, self.b_in, self.b_out)

    @property
    def transposed(self) -> "FactorShape":
        """Returns the shape of (A⊗B)ᵀ = Aᵀ⊗Bᵀ."""
        return FactorShape(self.a_in, self.a_out, self.b_in, self.b_out, self.terms)

    @property
    def b_first(self) -> bool:
        """Returns whether contracting with B before A needs fewer multiply-adds, or as many."""
        return self._multiply_adds_b_first <= self._multiply_adds_a_first

    @property
    def between(self) -> int:
        """Counts the numbers per input vector between the two products, in the cheaper order."""
        return self.terms * (self.a_in * self.b_out if self.b_first else self.a_out * self.b_in)

    @property
    def multiply_adds(self) -> int:
        """Counts the multiply-adds for one input vector in the cheaper order."""
        return self.terms * min(self._multiply_adds_b_first, self._multiply_adds_a_first)

    @property
    def _multiply_adds_b_first(self) -> int:
        return self.a_in * self.b_in * self.b_out + self.a_out * self.a_in * self.b_out

    @property
    def _multiply_adds_a_first(self) -> int:
        return self.a_out * self.a_in * self.b_in + self.a_out * self.b_in * self.b_out


def _rank(terms: int, a_in: int, a_out: int, b_in: int, b_out: int) -> int:
    """Returns the rank of a sum of products of generic factors.

    Let α: (terms·a_in) → a_out be the A's side by side and β: b_in → (terms·b_out) the B's stacked; the sum is β, then
    α. If α is injective or β surjective, the rank follows. Else the sum has the kernel of another sum, with the kernel
    of α and the cokernel of β in place of A and B, which are generic again (the reflections of Bernstein, Gelfand and
    Ponomarev, 1973). The same holds for the transposed sum. If neither other sum is smaller, the rank is full.
    """
    sides = ((a_in, a_out, b_in, b_out), (a_out, a_in, b_out, b_in))
    for inner, outer, start, end in sides:
        if terms * inner <= outer:
            return inner * min(start, terms * end)
        if start >= terms * end:
            return min(outer, terms * inner) * end
    for inner, outer, start, end in sides:
        if terms * (inner + end) < 2 * (outer + start):
            kernel = terms * inner - outer
            return inner * start - kernel * end + _rank(terms, kernel, inner, end, terms * end - start)
    return min(a_in * b_in, a_out * b_out)


def divisors(number: int) -> tuple[int, ...]:
    """Returns all divisors of a whole number from 1, ascending. Raises a ValueError for anything else."""
    size = whole_size(number)
    if size is None:
        raise ValueError(f"{number!r} has no divisors here; dimensions are whole numbers from 1")
    small = [i for i in range(1, int(size**0.5) + 1) if size % i == 0]
    return tuple(sorted({*small, *(size // i for i in small)}))


@lru_cache(maxsize=4096)
def factor_shape(d_out: int, d_in: int, a_out: int, a_in: int, terms: int = 1) -> FactorShape:
    """Returns the shape with `terms` factors A (a_out, a_in) for a weight (d_out, d_in); B's sizes follow.

    Args:
        d_out: the weight's rows.
        d_in: the weight's columns.
        a_out: the rows of each A, a divisor of d_out.
        a_in: the columns of each A, a divisor of d_in.
        terms: the number of products that are summed.

    Raises:
        ValueError: a_out does not divide d_out, a_in does not divide d_in, or fewer terms hold every matrix already.
    """
    for name, size, whole, dimension in (("a_out", a_out, d_out, "d_out"), ("a_in", a_in, d_in, "d_in")):
        if size < 1 or whole % size:
            choices = ", ".join(map(str, divisors(whole)))
            raise ValueError(f"{name} {size} does not divide {dimension} {whole}; divisors: {choices}")
    shape = FactorShape(a_out, a_in, d_out // a_out, d_in // a_in, terms)
    if terms > shape.max_terms:
        product = str(replace(shape, terms=1))
        raise ValueError(f"terms {terms}: {shape.max_terms} of {product} reach every matrix; write at most that")
    return shape


def factor_shapes(
    d_out: int, d_in: int, *, terms: int = 1, max_parameters: int | None = None, min_rank: int = 1
) -> list[FactorShape]:
    """Returns the factor shapes of a weight (d_out, d_in), cheapest first and, at equal cost, highest rank first.

    Args:
        d_out: the weight's rows.
        d_in: the weight's columns.
        terms: the number of products that are summed; shapes that hold every matrix with fewer are left out.
        max_parameters: keep only the shapes of at most this many trainable numbers; None: no limit.
        min_rank: keep only the shapes whose sum can reach this rank.

    Raises:
        ValueError: a dimension is not a whole number from 1.
    """
    sizes = ((a_out, a_in) for a_out in divisors(d_out) for a_in in divisors(d_in))
    shapes = (FactorShape(a_out, a_in, d_out // a_out, d_in // a_in, terms) for a_out, a_in in sizes)
    kept = [
        s
        for s in shapes
        if terms <= s.max_terms
        and s.max_rank >= min_rank
        and (max_parameters is None or s.parameters <= max_parameters)
    ]
    return sorted(kept, key=lambda s: (s.parameters, -s.max_rank, s))


def effective_scale(shape: FactorShape, scale: float, scaling: Scaling) -> float:
    """Returns what the sum is multiplied by: the scale, or with "stable" scale / √(terms·a_in).

    One number of y adds up terms·a_in products with an entry of A. If their signs are independent, it grows with the
    root of that count, and stable scaling keeps its size (arXiv 2602.01267). It belongs to the start "cdka": the A's of
    "krona" are divided by √a_in already.

    Args:
        shape: the sizes of the factors.
        scale: the plain factor of the adapter's contribution.
        scaling: "plain" or "stable".

    Raises:
        ValueError: the scaling is another word.
    """
    refuse_unknown_word("scaling", scaling, Scaling)
    return scale if scaling == "plain" else scale * float(shape.terms * shape.a_in) ** -0.5


def first_step(shape: FactorShape, init: Init, scale: float = 1.0, scaling: Scaling = "plain") -> float:
    """Returns about how far one step of Adam moves the weight: the spectral norm of s · Σ A⊗B at learning rate 1.

    The factor that starts at zero becomes a matrix of ±1, whose norm is at most the root of its size; the other one is
    random, and its norm is near its deviation times √rows + √columns. The terms are independent, so their norms add up
    by their squares. For a gradient of low rank nearly all shapes move by a quarter of it to all of it. What a layer
    gives changes in proportion to this norm (arXiv 2310.17813), which differs by 100 times between shapes of one map.

    Args:
        shape: the sizes of the factors.
        init: which factors start at zero: "krona" all B's, "cdka" all A's.
        scale: the plain factor of the adapter's contribution, s.
        scaling: "plain", or "stable" for s / √(terms·a_in).

    Raises:
        ValueError: the start or the scaling is another word.
    """
    refuse_unknown_word("init", init, Init)
    a, b = (shape.a_out, shape.a_in), (shape.b_out, shape.b_in)
    (rows, columns), (signs_out, signs_in) = (a, b) if init == "krona" else (b, a)
    deviation = 1 / sqrt(columns if init == "krona" else 3 * columns)
    norm = sqrt(shape.terms * signs_out * signs_in) * deviation * (sqrt(rows) + sqrt(columns))
    return effective_scale(shape, scale, scaling) * norm
