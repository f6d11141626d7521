"""Computes in integers which factor shapes fit a weight, what each costs, and which rank it can reach."""

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class FactorShape:
    """The sizes of A (a_out, a_in) and B (b_out, b_in), whose product A⊗B is (a_out·b_out, a_in·b_in)."""

    a_out: int
    a_in: int
    b_out: int
    b_in: int

    def __post_init__(self) -> None:
        for name in ("a_out", "a_in", "b_out", "b_in"):
            size = getattr(self, name)
            if not isinstance(size, int) or size < 1:
                raise ValueError(f"{name} is {size!r}; a factor's sizes are whole numbers from 1")

    def __str__(self) -> str:
        return f"{self.a_out}x{self.a_in}⊗{self.b_out}x{self.b_in}"

    @property
    def d_out(self) -> int:
        return self.a_out * self.b_out

    @property
    def d_in(self) -> int:
        return self.a_in * self.b_in

    @property
    def parameters(self) -> int:
        """Trainable numbers in A and B together."""
        return self.a_out * self.a_in + self.b_out * self.b_in

    @property
    def max_rank(self) -> int:
        """The highest rank that A⊗B can reach: rank(A⊗B) = rank(A)·rank(B)."""
        return min(self.a_out, self.a_in) * min(self.b_out, self.b_in)

    @property
    def transposed(self) -> "FactorShape":
        """The shape of (A⊗B)ᵀ = Aᵀ⊗Bᵀ."""
        return FactorShape(self.a_in, self.a_out, self.b_in, self.b_out)

    @property
    def b_first(self) -> bool:
        """Returns whether contracting with B before A needs fewer multiply-adds, or as many."""
        return self._multiply_adds_b_first <= self._multiply_adds_a_first

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds for one input vector in the cheaper order."""
        return min(self._multiply_adds_b_first, self._multiply_adds_a_first)

    @property
    def _multiply_adds_b_first(self) -> int:
        return self.a_in * self.b_in * self.b_out + self.a_out * self.a_in * self.b_out

    @property
    def _multiply_adds_a_first(self) -> int:
        return self.a_out * self.a_in * self.b_in + self.a_out * self.b_in * self.b_out


def divisors(number: int) -> tuple[int, ...]:
    """All divisors of a positive whole number, ascending."""
    if number < 1:
        raise ValueError(f"{number!r} has no divisors here; dimensions are whole numbers from 1")
    small = [i for i in range(1, int(number**0.5) + 1) if number % i == 0]
    return tuple(sorted({*small, *(number // i for i in small)}))


def factor_shape(d_out: int, d_in: int, a_out: int, a_in: int) -> FactorShape:
    """The shape with A (a_out, a_in) for a weight (d_out, d_in); B's sizes follow.

    Raises:
        ValueError: a_out does not divide d_out, or a_in does not divide d_in.
    """
    for name, size, whole, dimension in (("a_out", a_out, d_out, "d_out"), ("a_in", a_in, d_in, "d_in")):
        if size < 1 or whole % size:
            choices = ", ".join(map(str, divisors(whole)))
            raise ValueError(f"{name} {size} does not divide {dimension} {whole}; divisors: {choices}")
    return FactorShape(a_out, a_in, d_out // a_out, d_in // a_in)


def factor_shapes(d_out: int, d_in: int, *, max_parameters: int | None = None, min_rank: int = 1) -> list[FactorShape]:
    """Every factor shape of a weight (d_out, d_in), cheapest first and, at equal cost, highest reachable rank first.

    Args:
        d_out, d_in: the weight's dimensions.
        max_parameters: keep only the shapes that cost at most this.
        min_rank: keep only the shapes whose product can reach this rank.
    """
    shapes = (factor_shape(d_out, d_in, a_out, a_in) for a_out in divisors(d_out) for a_in in divisors(d_in))
    kept = [s for s in shapes if s.max_rank >= min_rank and (max_parameters is None or s.parameters <= max_parameters)]
    return sorted(kept, key=lambda s: (s.parameters, -s.max_rank, s))
