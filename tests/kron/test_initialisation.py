"""Tests the first factors and the scale against the formulas of KronA, CDKA and LoRA."""

import math
from typing import get_args

import pytest
import torch
from scipy.stats import spearmanr

from krona_tune.kron.factors import FactorShape, Init, effective_scale, factor_shapes, first_step
from krona_tune.kron.product import first_factors, kron_weight

SHAPES = [FactorShape(24, 16, 16, 24), FactorShape(192, 8, 2, 48, 4)]


@pytest.mark.parametrize("shape", SHAPES)
def test_krona_starts_with_normal_a_and_no_b(shape: FactorShape) -> None:
    a, b = first_factors(shape, "krona", torch.Generator().manual_seed(0))
    assert a.std().item() == pytest.approx(shape.a_in**-0.5, rel=0.1)
    assert not b.any()


@pytest.mark.parametrize("shape", SHAPES)
def test_cdka_starts_with_kaiming_b_and_no_a(shape: FactorShape) -> None:
    """Compares with torch's own Kaiming initialisation, which CDKA calls with a = √5."""
    a, b = first_factors(shape, "cdka", torch.Generator().manual_seed(0))
    expected = torch.empty(shape.b_out, shape.b_in)
    torch.nn.init.kaiming_uniform_(expected, a=math.sqrt(5), generator=torch.Generator().manual_seed(0))
    assert not a.any()
    torch.testing.assert_close(b.view(-1, *expected.shape)[0], expected)
    assert b.abs().max() <= shape.b_in**-0.5


def test_one_term_has_no_dimension_of_terms() -> None:
    assert [tuple(t.shape) for t in first_factors(SHAPES[0], "krona")] == [(24, 16), (16, 24)]
    assert [tuple(t.shape) for t in first_factors(SHAPES[1], "cdka")] == [(4, 192, 8), (4, 2, 48)]


def test_stable_scaling_divides_by_the_root_of_terms_times_a_in() -> None:
    assert effective_scale(SHAPES[1], 16.0, "plain") == 16.0
    assert effective_scale(SHAPES[1], 16.0, "stable") == pytest.approx(16.0 / math.sqrt(4 * 8))


def test_the_sum_is_cdkas_formula_by_loops() -> None:
    """CDKA: ΔW = α/√(r·r₂) Σᵢ B⁽ⁱ⁾⊗A⁽ⁱ⁾ with B⁽ⁱ⁾ (d_out/r₁, r₂) and A⁽ⁱ⁾ (r₁, d_in/r₂)."""
    d_out, d_in, r, r_1, r_2, alpha = 12, 10, 3, 2, 5, 16.0
    generator = torch.Generator().manual_seed(1)
    theirs_b = torch.randn(r, d_out // r_1, r_2, generator=generator, dtype=torch.float64)
    theirs_a = torch.randn(r, r_1, d_in // r_2, generator=generator, dtype=torch.float64)
    expected = torch.zeros(d_out, d_in, dtype=torch.float64)
    for i in range(r):
        for row in range(d_out):
            for column in range(d_in):
                left = theirs_b[i, row // r_1, column // (d_in // r_2)]
                expected[row, column] += left * theirs_a[i, row % r_1, column % (d_in // r_2)]
    shape = FactorShape(d_out // r_1, r_2, r_1, d_in // r_2, r)
    found = kron_weight(theirs_b, theirs_a, effective_scale(shape, alpha, "stable"))
    torch.testing.assert_close(found, alpha / math.sqrt(r * r_2) * expected)


@pytest.mark.parametrize("init", get_args(Init))
@pytest.mark.parametrize("terms", [1, 4])
def test_the_first_step_is_foretold_over_shapes_that_differ_by_far(init: Init, terms: int) -> None:
    """Compares with a step of signs, as Adam's first is, along a gradient of rank two."""
    generator = torch.Generator().manual_seed(0)
    gradient = torch.randn(48, 2, generator=generator) @ torch.randn(2, 48, generator=generator)
    shapes = [s for s in factor_shapes(48, 48, terms=terms) if min(s.a_out * s.a_in, s.b_out * s.b_in) > 4]
    foretold = [first_step(shape, init) for shape in shapes]
    real = []
    for shape in shapes:
        factors = [each.requires_grad_() for each in first_factors(shape, init, generator)]
        (kron_weight(*factors, 1.0) * gradient).sum().backward()
        moved = [each.detach() if each.any() else each.grad.sign() for each in factors]
        real.append(float(torch.linalg.matrix_norm(kron_weight(*moved, 1.0), 2)))
    assert max(foretold) > 15 * min(foretold)
    assert spearmanr(real, foretold).statistic > 0.85
    assert all(0.1 < each < 1.2 for each in torch.tensor(real) / torch.tensor(foretold))
