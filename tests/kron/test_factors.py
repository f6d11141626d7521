"""Tests which factor shapes fit, what they cost and which rank they can reach."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from krona_tune.kron.factors import FactorShape, divisors, effective_scale, factor_shape, factor_shapes, first_step
from krona_tune.kron.product import first_factors

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


def test_sums_have_the_counts_and_ranks_of_their_methods() -> None:
    assert FactorShape(384, 8, 2, 96, 4).parameters == 13_056  # CDKA with r 4, r1 2, r2 8
    assert FactorShape(384, 8, 2, 96, 4).max_rank == 4 * 2 * 8
    assert FactorShape(768, 1, 1, 768, 16).parameters == 16 * (768 + 768)  # LoRA of rank 16
    assert FactorShape(768, 1, 1, 768, 16).max_rank == 16
    assert FactorShape(24, 32, 32, 24, 2).max_rank == 768
    assert str(FactorShape(384, 8, 2, 96, 4)) == "4·(384x8⊗2x96)"


@given(*[st.integers(1, 8)] * 4, st.integers(1, 5))
@example(5, 3, 3, 5, 2)
@example(8, 5, 5, 8, 2)
@example(14, 5, 5, 14, 3)
@example(1, 3, 3, 1, 2)
def test_a_random_sum_reaches_the_highest_rank(a_out: int, a_in: int, b_out: int, b_in: int, terms: int) -> None:
    rng = np.random.default_rng(a_out + 5 * a_in + 25 * b_out + 125 * b_in)
    total = sum(np.kron(rng.normal(size=(a_out, a_in)), rng.normal(size=(b_out, b_in))) for _ in range(terms))
    assert np.linalg.matrix_rank(total) == FactorShape(a_out, a_in, b_out, b_in, terms).max_rank


def test_more_terms_than_hold_every_matrix_are_refused() -> None:
    assert factor_shape(12, 12, 2, 3, terms=6).max_terms == 6
    with pytest.raises(ValueError, match=r"terms 7: 6 of 2x3⊗6x4 reach every matrix; write at most that"):
        factor_shape(12, 12, 2, 3, terms=7)
    assert {s.max_terms >= 7 for s in factor_shapes(12, 12, terms=7)} == {True}
    assert len(factor_shapes(12, 12, terms=7)) < len(factor_shapes(12, 12))


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
    with pytest.raises(ValueError, match="b_out is 0; write a whole number from 1"):
        FactorShape(1, 2, 0, 4)


@pytest.mark.parametrize("size", [0, -4, 4.0, "4", None, True])
def test_a_size_that_is_no_whole_number_from_1_is_refused_by_name(size: object) -> None:
    with pytest.raises(ValueError, match=f"a_in is {size!r}; write a whole number from 1"):
        FactorShape(2, size, 3, 5)
    for dimensions in ((size, 12), (12, size)):
        with pytest.raises(ValueError, match=f"{size!r} has no divisors here; dimensions are whole numbers from 1"):
            factor_shapes(*dimensions)


def test_sizes_of_numpy_are_the_whole_numbers_that_they_are() -> None:
    shape = FactorShape(*np.array([2, 3, 4, 5]), terms=np.int8(2))
    assert json.loads(json.dumps(asdict(shape))) == asdict(FactorShape(2, 3, 4, 5, 2))
    assert factor_shapes(np.int16(12), np.int16(10)) == factor_shapes(12, 10)
    assert FactorShape(*np.array([100, 100, 2, 2], dtype=np.int8)).d_out == 200


def test_a_word_of_another_spelling_is_refused_with_those_that_are_known() -> None:
    shape = FactorShape(4, 2, 2, 4)
    for wrong in (lambda: first_step(shape, "Krona"), lambda: first_factors(shape, "foo")):  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="init is one of krona, cdka; this is '"):
            wrong()
    for wrong in (lambda: effective_scale(shape, 1.0, "foo"), lambda: first_step(shape, "cdka", 1.0, "foo")):  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="scaling is one of plain, stable; this is 'foo'"):
            wrong()
