"""Tests that the projection is the nearest sum, and exact for what a sum can hold."""

import pytest
import torch

from krona_tune.kron.factors import FactorShape, factor_shapes
from krona_tune.kron.product import kron_weight
from krona_tune.kron.projection import project


def matrix(d_out: int, d_in: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(d_out, d_in, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def drawn(shape: FactorShape) -> torch.Tensor:
    """Returns a random sum of that shape."""
    terms = shape.terms
    return kron_weight(
        matrix(terms * shape.a_out, shape.a_in).view(terms, shape.a_out, -1),
        matrix(terms * shape.b_out, shape.b_in, seed=1).view(terms, shape.b_out, -1),
    )


@pytest.mark.parametrize("shape", factor_shapes(12, 18, terms=2))
def test_a_sum_of_the_shape_comes_back_exactly(shape: FactorShape) -> None:
    wanted = drawn(shape)
    found = project(wanted, shape)
    torch.testing.assert_close(kron_weight(found.a, found.b), wanted)
    assert found.relative_error < 1e-12


@pytest.mark.parametrize("shape", factor_shapes(6, 8))
def test_as_many_terms_as_the_shape_holds_give_every_matrix(shape: FactorShape) -> None:
    full = FactorShape(shape.a_out, shape.a_in, shape.b_out, shape.b_in, shape.max_terms)
    found = project(matrix(6, 8), full)
    torch.testing.assert_close(kron_weight(found.a, found.b), matrix(6, 8))
    assert found.relative_error == 0.0


def test_a_column_and_a_row_are_the_truncated_decomposition_of_the_matrix_itself() -> None:
    wanted = matrix(9, 7)
    left, values, right = torch.linalg.svd(wanted, full_matrices=False)
    found = project(wanted, FactorShape(9, 1, 1, 7, 3))
    torch.testing.assert_close(kron_weight(found.a, found.b), left[:, :3] * values[:3] @ right[:3])
    assert found.relative_error == pytest.approx((values[3:].norm() / values.norm()).item())


@pytest.mark.parametrize("shape", [FactorShape(4, 3, 3, 6, 2), FactorShape(6, 9, 2, 2, 3), FactorShape(2, 1, 6, 18)])
def test_no_step_from_the_projection_comes_nearer(shape: FactorShape) -> None:
    wanted = matrix(12, 18)
    found = project(wanted, shape)
    a, b = found.a.requires_grad_(), found.b.requires_grad_()
    distance = (kron_weight(a, b) - wanted).norm()
    assert distance.item() == pytest.approx(found.relative_error * wanted.norm().item())
    slopes = torch.autograd.grad(distance, (a, b))
    assert max(slope.abs().max().item() for slope in slopes) < 1e-12


def test_a_column_times_a_row_is_one_term_of_many_shapes() -> None:
    rank_one = torch.kron(matrix(4, 1), matrix(3, 1)) @ torch.kron(matrix(1, 3), matrix(1, 6))
    for shape in (FactorShape(12, 1, 1, 18), FactorShape(4, 3, 3, 6)):
        assert project(rank_one, shape).relative_error < 1e-12


def test_a_matrix_of_zeros_and_one_in_bfloat16_are_taken() -> None:
    shape = FactorShape(4, 3, 3, 6)
    assert project(torch.zeros(12, 18), shape).relative_error == 0.0
    low = project(matrix(12, 18).bfloat16(), shape)
    assert {low.a.dtype, low.b.dtype} == {torch.bfloat16}


def test_a_parameter_is_projected_without_its_graph() -> None:
    found = project(torch.nn.Linear(18, 12).weight, FactorShape(4, 3, 3, 6))
    assert not found.a.requires_grad
    with pytest.raises(ValueError, match=r"a matrix of torch.int64 can't be projected"):
        project(torch.ones(12, 18, dtype=torch.int64), FactorShape(4, 3, 3, 6))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"4x3⊗3x6 makes 12x18, the matrix is \(18, 12\)"):
        project(matrix(18, 12), FactorShape(4, 3, 3, 6))
    with pytest.raises(ValueError, match="more than 12 terms"):
        project(matrix(12, 18), FactorShape(4, 3, 3, 6, 13))
