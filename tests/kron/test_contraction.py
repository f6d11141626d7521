"""Tests that the order of a product is chosen from integers and a precision alone."""

import torch

from krona_tune.kron.contraction import choose_contraction
from krona_tune.kron.factors import FactorShape


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
