"""The first values of the factors."""

import torch
from torch import Tensor

from krona_tune.kron.factors import FactorShape, Init


def first_factors(shape: FactorShape, init: Init, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Returns fresh factors in float32, a (a_out, a_in) and b (b_out, b_in), or (terms, ...) of each for a sum.

    "krona": B is zero, A normal with deviation 1/√a_in, so that A keeps the size of what passes through it whatever
    its shape (arXiv 2212.10650, with the choice that later ablations found best). "cdka": A is zero, B Kaiming-uniform
    with gain √(1/3), within ±1/√b_in (arXiv 2602.01267, in whose letters A and B change places). It is LoRA's start
    too, where A is a column and B a row.
    """
    terms = () if shape.terms == 1 else (shape.terms,)
    a, b = torch.zeros(*terms, shape.a_out, shape.a_in), torch.zeros(*terms, shape.b_out, shape.b_in)
    if init == "krona":
        a.normal_(generator=generator).mul_(shape.a_in**-0.5)
    else:
        bound: float = shape.b_in**-0.5
        b.uniform_(-bound, bound, generator=generator)
    return a, b
