"""Tests which factor shapes fit, what they cost and which rank they can reach."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from krona_tune.kron.factors import FactorShape, divisors, factor_shape, factor_shapes

dimensions = st.integers(1, 2048)


def test_a_768_square_has_324_shapes_and_26_budgets() -> None:
    shapes = factor_shapes(768, 768)
    assert len(set(shapes)) == 324
    assert len({s.parameters for s in shapes}) == 26
    assert shapes[0].parameters == 1536


def test_equal_cost_shapes_differ_in_the_rank_they_reach() -> None:
    assert FactorShape(24, 32, 32, 24).max_rank == 576
    full = FactorShape(24, 24, 32, 32)
    assert (full.max_rank, full.parameters) == (768, 1600)


def test_the_cheaper_order_is_chosen() -> None:
    assert FactorShape(32, 24, 24, 32).multiply_adds == 36_864
    column_times_row = FactorShape(1, 768, 768, 1)
    assert not column_times_row.b_first
    assert column_times_row.multiply_adds == 1536
    row_times_column = FactorShape(768, 1, 1, 768)
    assert row_times_column.b_first
    assert row_times_column.multiply_adds == 1536


@given(dimensions, dimensions)
def test_every_shape_multiplies_to_the_weight_once(d_out: int, d_in: int) -> None:
    shapes = factor_shapes(d_out, d_in)
    assert all((s.d_out, s.d_in) == (d_out, d_in) for s in shapes)
    assert len(shapes) == len(set(shapes)) == len(divisors(d_out)) * len(divisors(d_in))
    assert [s.parameters for s in shapes] == sorted(s.parameters for s in shapes)


@given(dimensions, dimensions, st.integers(1, 4000), st.integers(1, 64))
def test_limits_keep_exactly_the_shapes_within_them(d_out: int, d_in: int, most: int, rank: int) -> None:
    kept = set(factor_shapes(d_out, d_in, max_parameters=most, min_rank=rank))
    assert kept == {s for s in factor_shapes(d_out, d_in) if s.parameters <= most and s.max_rank >= rank}


@given(st.integers(1, 5000))
def test_divisors_are_all_and_only_the_divisors(number: int) -> None:
    assert divisors(number) == tuple(i for i in range(1, number + 1) if number % i == 0)


def test_a_shape_that_does_not_divide_is_refused_with_the_choices() -> None:
    with pytest.raises(ValueError, match=r"a_in 7 does not divide d_in 12; divisors: 1, 2, 3, 4, 6, 12"):
        factor_shape(10, 12, 5, 7)
    with pytest.raises(ValueError, match="b_out is 0"):
        FactorShape(1, 2, 0, 4)


def test_factors_need_no_torch() -> None:
    code = "import sys, krona_tune.kron.factors; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
