"""Tests that the order of a product is chosen from integers and a precision alone."""

import itertools
from fractions import Fraction

import pytest
import torch

from krona_tune.kron.contraction import choose_contraction
from krona_tune.kron.factors import FactorShape, divisors


def test_the_path_follows_from_integers_and_precision() -> None:
    shape = FactorShape(24, 32, 32, 24)
    exact = choose_contraction(shape, 2048, torch.float32, torch.float32)
    assert (exact.folded, exact.formed_gradient) == (True, False)
    assert choose_contraction(FactorShape(2, 2, 384, 384), 2048, torch.float32, torch.float32).formed_gradient
    assert choose_contraction(
        FactorShape(24, 32, 32, 24, 8), 2048, torch.float32, torch.float32
    ).formed_gradient  # 8 of them
    assert not choose_contraction(FactorShape(384, 8, 2, 96, 4), 2048, torch.float32, torch.float32).formed_gradient
    assert not choose_contraction(
        shape, 2, torch.float32, torch.float32
    ).formed  # two tokens would not pay for 768 × 768 numbers
    assert not choose_contraction(shape, 2048, torch.float32, None).formed
    assert choose_contraction(shape, 2048, torch.bfloat16, torch.bfloat16).formed
    assert not choose_contraction(FactorShape(64, 64, 64, 64), 4096, torch.bfloat16, torch.bfloat16).formed


@pytest.mark.parametrize("terms", [2, 3])
def test_the_gradients_of_a_sum_are_formed_from_two_fifths_of_the_dense_count_on(terms: int) -> None:
    shapes = [FactorShape(a, b, 40 // a, 160 // b, terms) for a, b in itertools.product(divisors(40), divisors(160))]
    for shape in shapes:
        formed = choose_contraction(shape, 2048, torch.float32, None).formed_gradient
        assert formed == (2 * shape.multiply_adds >= Fraction(2, 5) * 40 * 160)
    at_two_fifths = [str(shape) for shape in shapes if 5 * shape.multiply_adds == 40 * 160]
    assert at_two_fifths == (["2·(2x20⊗20x8)", "2·(20x8⊗2x20)"] if terms == 2 else [])
