"""The operator equals the dense product that it never forms."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from krona_tune.kron.product import kron_linear, kron_weight, shape_of

sizes = st.integers(1, 7)


def factors(a_out: int, a_in: int, b_out: int, b_in: int, *trials: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(a_out + 10 * a_in + 100 * b_out + 1000 * b_in)
    draw = {"generator": generator, "dtype": torch.float64}
    return torch.randn(*trials, a_out, a_in, **draw), torch.randn(*trials, b_out, b_in, **draw)


@given(sizes, sizes, sizes, sizes, st.lists(st.integers(0, 3), max_size=3), st.floats(-4, 4))
@settings(deadline=None)
def test_it_equals_torch_kron(a_out: int, a_in: int, b_out: int, b_in: int, leading: list[int], scale: float) -> None:
    a, b = factors(a_out, a_in, b_out, b_in)
    x = torch.randn(*leading, a_in * b_in, dtype=torch.float64)
    y = kron_linear(x, a, b, scale)
    assert y.shape == (*leading, a_out * b_out)
    torch.testing.assert_close(y, scale * (x @ torch.kron(a, b).T))


@given(sizes, sizes, sizes, sizes)
@settings(deadline=None)
def test_several_trials_at_once_equal_one_after_the_other(a_out: int, a_in: int, b_out: int, b_in: int) -> None:
    a, b = factors(a_out, a_in, b_out, b_in, 3)
    x = torch.randn(3, 2, 5, a_in * b_in, dtype=torch.float64)
    scale = torch.tensor([0.5, 2.0, 3.0], dtype=torch.float64).view(3, 1, 1)
    together = kron_linear(x, a, b, scale)
    for i in range(3):
        torch.testing.assert_close(together[i], kron_linear(x[i], a[i], b[i], scale[i]))
        torch.testing.assert_close(kron_weight(a, b)[i], torch.kron(a[i], b[i]))


@pytest.mark.parametrize(("a_out", "a_in", "b_out", "b_in"), [(2, 3, 4, 5), (5, 4, 3, 2), (1, 6, 5, 1), (6, 1, 1, 5)])
def test_gradients_are_right_in_both_orders(a_out: int, a_in: int, b_out: int, b_in: int) -> None:
    a, b = (t.requires_grad_() for t in factors(a_out, a_in, b_out, b_in))
    x = torch.randn(2, 3, a_in * b_in, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda *tensors: kron_linear(*tensors, 1.7), (x, a, b))


def test_bfloat16_stays_bfloat16_and_close() -> None:
    a, b = (t.float() for t in factors(6, 4, 3, 5))
    x = torch.randn(11, 20)
    low = kron_linear(x.bfloat16(), a, b, 2.0)
    assert low.dtype == torch.bfloat16
    high = kron_linear(x, a, b, 2.0)
    assert (low.float() - high).norm() < 0.02 * high.norm()


def test_the_dense_product_is_never_formed() -> None:
    """A 40,000 × 40,000 product would need 6.4 GB."""
    a, b = torch.randn(200, 200), torch.randn(200, 200)
    assert kron_linear(torch.randn(2, 40_000), a, b).shape == (2, 40_000)


def test_the_weight_is_the_scaled_product() -> None:
    a, b = factors(2, 3, 4, 5)
    torch.testing.assert_close(kron_weight(a, b, 0.25), 0.25 * torch.kron(a, b))


def test_wrong_sizes_are_refused_with_the_numbers() -> None:
    a, b = factors(2, 3, 4, 5)
    with pytest.raises(ValueError, match=r"x has 14 features, A⊗B takes a_in·b_in = 3·5 = 15"):
        kron_linear(torch.randn(2, 14), a, b)
    with pytest.raises(ValueError, match="factors are two matrices"):
        shape_of(a[0], b)
    with pytest.raises(ValueError, match="4 adapters at once"):
        kron_linear(torch.randn(3, 2, 15), a.expand(4, 2, 3), b.expand(4, 4, 5))
