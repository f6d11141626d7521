"""Tests the singular vectors of a matrix: those of a small rank are found by a projection, others by the whole."""

import pytest
import torch

from krona_tune.adapters import nearest_lora
from krona_tune.adapters.nearest_lora import leading_parts

LOW = torch.randn(96, 3, generator=torch.Generator().manual_seed(1)).double()
SMALL_RANK = LOW @ LOW[:70].T * torch.linspace(1, 2, 70)


@pytest.mark.parametrize("delta", [SMALL_RANK, SMALL_RANK.T, torch.zeros(96, 70).double()])
def test_a_matrix_of_small_rank_needs_no_whole_decomposition(
    delta: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nearest_lora, "SPARE", 2)
    left, values, right = leading_parts(delta.float().double(), 4)
    assert len(values) == 6, "of 70 parts"
    torch.testing.assert_close((left * values) @ right, delta, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rank", [2, 4, 60])
def test_the_leading_parts_of_any_matrix_are_the_nearest_of_their_rank(rank: int) -> None:
    delta = SMALL_RANK + 0.1 * torch.randn(96, 70, generator=torch.Generator().manual_seed(2)).double()
    left, values, right = leading_parts(delta, rank)
    torch.testing.assert_close(values[:rank], torch.linalg.svdvals(delta)[:rank])
    near = (left[:, :rank] * values[:rank]) @ right[:rank]
    lost = (delta - near).square().sum()
    torch.testing.assert_close(lost, torch.linalg.svdvals(delta)[rank:].square().sum())


def test_the_projection_leaves_the_random_state_as_it_was() -> None:
    before = torch.random.get_rng_state()
    leading_parts(SMALL_RANK, 2)
    assert torch.equal(torch.random.get_rng_state(), before)
