"""Tests that the operator equals the dense product, which it never forms."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck

from krona_tune.kron.contraction import choose_contraction
from krona_tune.kron.factors import FactorShape
from krona_tune.kron.product import kron_linear, kron_weight, linear_plus_kron, shape_of

sizes = st.integers(1, 7)


def factors(a_out: int, a_in: int, b_out: int, b_in: int, *leading: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(a_out + 10 * a_in + 100 * b_out + 1000 * b_in)
    draw = {"generator": generator, "dtype": torch.float64}
    return torch.randn(*leading, a_out, a_in, **draw), torch.randn(*leading, b_out, b_in, **draw)


def dense(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Returns Σᵢ Aᵢ⊗Bᵢ, term by term."""
    if a.dim() == 2:
        return torch.kron(a, b)
    return torch.stack([torch.kron(one_a, one_b) for one_a, one_b in zip(a, b, strict=True)]).sum(0)


@given(sizes, sizes, sizes, sizes, st.lists(st.integers(0, 3), max_size=3), st.floats(-4, 4))
def test_it_equals_torch_kron(a_out: int, a_in: int, b_out: int, b_in: int, leading: list[int], scale: float) -> None:
    a, b = factors(a_out, a_in, b_out, b_in)
    x = torch.randn(*leading, a_in * b_in, dtype=torch.float64)
    y = kron_linear(x, a, b, scale)
    assert y.shape == (*leading, a_out * b_out)
    torch.testing.assert_close(y, scale * (x @ torch.kron(a, b).T))


@given(sizes, sizes, sizes, sizes, st.integers(1, 5), st.integers(0, 3))
def test_terms_are_summed(a_out: int, a_in: int, b_out: int, b_in: int, terms: int, tokens: int) -> None:
    a, b = factors(a_out, a_in, b_out, b_in, terms)
    x = torch.randn(2, tokens, a_in * b_in, dtype=torch.float64)
    torch.testing.assert_close(kron_linear(x, a, b, 0.7), 0.7 * (x @ dense(a, b).T))
    torch.testing.assert_close(kron_weight(a, b, 0.7), 0.7 * dense(a, b))


@given(sizes, sizes, sizes, sizes, st.integers(1, 4))
def test_several_trials_at_once_equal_one_after_the_other(
    a_out: int, a_in: int, b_out: int, b_in: int, terms: int
) -> None:
    a, b = factors(a_out, a_in, b_out, b_in, 3, terms)
    x = torch.randn(3, 2, 5, a_in * b_in, dtype=torch.float64)
    scale = torch.tensor([0.5, 2.0, 3.0], dtype=torch.float64).view(3, 1, 1, 1)
    together = kron_linear(x, a, b, scale)
    for i in range(3):
        torch.testing.assert_close(together[i], kron_linear(x[i], a[i], b[i], scale[i]))
        torch.testing.assert_close(kron_weight(a, b)[i], dense(a[i], b[i]))


@pytest.mark.parametrize("leading", [(), (1,), (3,)])
@pytest.mark.parametrize(("a_out", "a_in", "b_out", "b_in"), [(2, 3, 4, 5), (5, 4, 3, 2), (1, 6, 5, 1), (6, 1, 1, 5)])
def test_gradients_are_right_in_both_orders(
    a_out: int, a_in: int, b_out: int, b_in: int, leading: tuple[int, ...]
) -> None:
    a, b = (t.requires_grad_() for t in factors(a_out, a_in, b_out, b_in, *leading))
    x = torch.randn(2, 3, a_in * b_in, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda *tensors: kron_linear(*tensors, 1.7), (x, a, b))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("tokens", [3, 300])
@pytest.mark.parametrize("shape", [(4, 6, 6, 4), (1, 24, 24, 1), (24, 1, 1, 24), (2, 2, 12, 12), (24, 24, 1, 1)])
def test_one_term_is_the_product_bit_for_bit(shape: tuple[int, ...], tokens: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(5)
    x, weight, dy = (torch.randn(n, 24, generator=generator).to(dtype) for n in (tokens, 24, tokens))
    results = []
    for leading in ((), (1,)):
        a, b = (t.float().requires_grad_() for t in factors(*shape, *leading))
        inputs = x.clone().requires_grad_()
        y = linear_plus_kron(inputs, weight, None, a, b, 0.3) + kron_linear(inputs, a, b, 2.0)
        results.append([y, *torch.autograd.grad(y, (inputs, a, b), dy), kron_weight(a, b, 0.3)])
    for alone, term in zip(*results, strict=True):
        assert torch.equal(alone, term.view_as(alone))


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
        kron_linear(torch.randn(3, 2, 15), a.expand(4, 2, 2, 3), b.expand(4, 2, 4, 5))
    with pytest.raises(ValueError, match="factors are two matrices"):
        shape_of(a.expand(2, 2, 3), b.expand(3, 4, 5))


@pytest.mark.parametrize("leading", [(), (2,), (3, 2)])
def test_a_scale_of_other_dimensions_is_refused_with_them(leading: tuple[int, ...]) -> None:
    """Each of these tensors could be multiplied with A, and would give each entry, row or term a scale of its own."""
    a, b = factors(2, 3, 4, 5, *leading)
    x = torch.randn(*leading[:-1], 6, 15, dtype=torch.float64)
    trials = leading[:-1]
    torch.testing.assert_close(kron_linear(x, a, b, torch.tensor([0.5])), kron_linear(x, a, b, 0.5))
    torch.testing.assert_close(kron_weight(a, b, torch.tensor(0.5)), kron_weight(a, b, 0.5))
    for shape in ((3,), (2, 1), (2, 1, 1), (3, 1, 1), (1, *trials, 1, 1, 1), (2, 2, 3)):
        scale, said = torch.ones(shape), rf"scale is one number or a tensor .*; it is \({shape[0]},"
        with pytest.raises(ValueError, match=said):
            kron_linear(x, a, b, scale)
        with pytest.raises(ValueError, match=said):
            kron_weight(a, b, scale)
        if not trials:
            with pytest.raises(ValueError, match=said):
                linear_plus_kron(x, torch.zeros(8, 15, dtype=torch.float64), None, a, b, scale)


WIDE = (3, 6, 5, 4)
"""15 × 24 with a gradient that is contracted; shapes like (1, 1, 15, 24) form it."""


def map_of(shape: tuple[int, int, int, int], dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    d_out, d_in = shape[0] * shape[2], shape[1] * shape[3]
    weight, bias = torch.randn(d_out, d_in, generator=generator), torch.randn(d_out, generator=generator)
    return weight.to(dtype), bias.to(dtype)


@pytest.mark.parametrize("shape", [WIDE, (6, 3, 2, 5), (1, 1, 15, 24), (15, 24, 1, 1), (1, 24, 15, 1), (2, 8, 8, 2)])
@pytest.mark.parametrize("tokens", [1, 40])
@pytest.mark.parametrize("leading", [(), (2,), (5,)])
def test_beside_a_map_gives_both_and_the_gradients_of_the_factors_and_the_input(
    shape: tuple[int, int, int, int], tokens: int, leading: tuple[int, ...]
) -> None:
    a, b = (t.requires_grad_() for t in factors(*shape, *leading))
    weight, bias = map_of(shape)
    x = torch.randn(2, tokens, weight.shape[1], dtype=torch.float64, requires_grad=True)
    formed = torch.nn.functional.linear(x, weight + 1.7 * dense(a, b), bias)
    y = linear_plus_kron(x, weight, bias, a, b, 1.7)
    torch.testing.assert_close(y, formed)
    dy = torch.randn_like(y)
    expected = torch.autograd.grad(formed, (x, a, b), dy)
    torch.testing.assert_close(torch.autograd.grad(y, (x, a, b), dy), expected)
    if tokens == 1:
        assert gradcheck(lambda x, a, b: linear_plus_kron(x, weight, bias, a, b, 1.7), (x, a, b))


def test_chunks_of_tokens_add_up_to_the_whole() -> None:
    """There are more tokens than one chunk holds, in float64, for both orders."""
    for *shape, terms in ((16, 8, 10, 24, 1), (8, 16, 24, 10, 1), (48, 2, 4, 96, 2), (2, 48, 96, 4, 2)):
        assert not choose_contraction(FactorShape(*shape, terms), 1300, torch.float64, None).formed_gradient
        a, b = (t.requires_grad_() for t in factors(*shape, terms))
        x = torch.randn(1300, shape[1] * shape[3], dtype=torch.float64, requires_grad=True)
        y, formed = kron_linear(x, a, b, 0.6), 0.6 * x @ dense(a, b).T
        torch.testing.assert_close(y, formed)
        dy = torch.randn_like(y)
        expected = torch.autograd.grad(formed, (x, a, b), dy)
        torch.testing.assert_close(torch.autograd.grad(y, (x, a, b), dy), expected)


def test_gradients_of_several_trials_at_once_are_each_trials_own() -> None:
    for dtype in (torch.float64, torch.bfloat16):
        a, b = (t.float().to(torch.float64).requires_grad_() for t in factors(4, 3, 2, 5, 3, 2))
        x = torch.randn(3, 6, 15).to(dtype).requires_grad_()
        scale = torch.tensor([0.5, 2.0, 3.0], dtype=torch.float64).view(3, 1, 1, 1).requires_grad_()
        together = torch.autograd.grad(kron_linear(x, a, b, scale).sum(), (x, a, b, scale))
        for i in range(3):
            alone = torch.autograd.grad(kron_linear(x[i], a[i], b[i], scale[i]).sum(), (x, a, b, scale))
            for whole, part in zip(together, alone, strict=True):
                torch.testing.assert_close(whole[i], part[i], atol=0.1 if dtype != torch.float64 else 1e-9, rtol=2e-2)


def test_a_small_adapter_is_not_rounded_away_beside_a_bfloat16_weight() -> None:
    """Each number of s(A⊗B) is a thousandth of the weight's, and in bfloat16 1.001 is 1."""
    a, b = (0.001 + 0 * t.float() for t in factors(*WIDE))
    weight = torch.ones(15, 24, dtype=torch.bfloat16)
    weight[:, ::2] = -1
    y = linear_plus_kron(torch.ones(32, 24, dtype=torch.bfloat16), weight, None, a, b, 1000.0)
    torch.testing.assert_close(y.float(), torch.full((32, 15), 0.024), rtol=0.01, atol=0)
    assert not choose_contraction(FactorShape(*WIDE), 32, torch.bfloat16, torch.bfloat16).folded


def test_autocast_decides_the_precision_and_gradients_keep_their_own() -> None:
    a, b = (t.float().requires_grad_() for t in factors(*WIDE))
    weight, bias = map_of(WIDE, torch.bfloat16)
    x = torch.randn(7, 24, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = linear_plus_kron(x, weight, bias, a, b, 0.8)
    assert y.dtype == torch.bfloat16
    y.float().square().sum().backward()
    assert {t.grad.dtype for t in (x, a, b)} == {torch.float32}


@pytest.mark.parametrize("terms", [1, 3])
def test_a_weight_is_exact_also_where_autocast_is_on(terms: int) -> None:
    a, b = (t.float() for t in factors(*WIDE, terms))
    with torch.autocast("cpu", torch.bfloat16):
        weight = kron_weight(a, b, 0.8)
    torch.testing.assert_close(weight, 0.8 * dense(a, b))


def test_factors_of_low_precision_beside_a_float32_weight_are_summed_in_float32() -> None:
    a, b = (t.bfloat16() for t in factors(*WIDE, 5))
    weight, _ = map_of(WIDE, torch.float32)
    x = torch.randn(40, 24)
    expected = torch.nn.functional.linear(x, weight + dense(a.float(), b.float()))
    torch.testing.assert_close(linear_plus_kron(x, weight, None, a, b), expected)


@pytest.mark.parametrize("terms", [1, 3])
def test_factors_of_high_precision_give_the_dtype_of_the_input(terms: int) -> None:
    a, b = (t.requires_grad_() for t in factors(*WIDE, terms))
    weight, _ = map_of(WIDE, torch.float32)
    for tokens in (3, 500):
        x = torch.randn(tokens, 24, requires_grad=True)
        y = linear_plus_kron(x, weight, None, a, b)
        torch.testing.assert_close(y, torch.nn.functional.linear(x, weight + dense(a, b).float()))
        da, db, dx = torch.autograd.grad(y.sum(), (a, b, x))
        assert (da.dtype, db.dtype, dx.dtype) == (torch.float64, torch.float64, torch.float32)


def test_what_is_not_frozen_gets_its_gradient_too() -> None:
    a, b = factors(*WIDE)
    weight, bias = (t.requires_grad_() for t in map_of(WIDE))
    x = torch.randn(5, 24, dtype=torch.float64)
    linear_plus_kron(x, weight, bias, a, b, 0.8).sum().backward()
    torch.testing.assert_close(weight.grad, x.sum(0).expand(15, 24))
    torch.testing.assert_close(bias.grad, torch.full((15,), 5.0, dtype=torch.float64))


def test_only_the_input_is_kept_for_the_backward() -> None:
    a, b = (t.requires_grad_() for t in factors(*WIDE))
    weight, bias = map_of(WIDE)
    x = torch.randn(50, 24, dtype=torch.float64, requires_grad=True)
    kept: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        linear_plus_kron(x, weight, bias, a, b)
    assert {t.data_ptr() for t in kept if t.numel() > 30} == {x.data_ptr(), weight.data_ptr()}


def test_a_weight_of_another_size_is_refused() -> None:
    a, b = factors(*WIDE)
    with pytest.raises(ValueError, match=r"one adapter 3x6⊗5x4 beside a weight of its size; the weight is \(24, 15\)"):
        linear_plus_kron(torch.randn(2, 24), torch.randn(24, 15), None, a, b)


def test_a_bias_of_another_size_is_refused() -> None:
    a, b = factors(*WIDE)
    shape = shape_of(a, b)
    with pytest.raises(ValueError, match=rf"a bias of {shape.d_out} numbers .*; the bias is \(9,\)"):
        linear_plus_kron(torch.randn(2, shape.d_in), torch.randn(shape.d_out, shape.d_in), torch.randn(9), a, b)


@pytest.mark.parametrize("terms", [1, 3])
def test_shapes_are_computed_without_memory(terms: int) -> None:
    with torch.device("meta"):
        a, b = torch.randn(terms, 3, 6), torch.randn(terms, 5, 4)
        x, weight = torch.randn(7, 24), torch.randn(15, 24)
    assert kron_linear(x, a, b).shape == (7, 15)
    assert linear_plus_kron(x, weight, None, a, b).shape == (7, 15)
    assert kron_weight(a, b).is_meta


@pytest.mark.skipif(not torch.cuda.is_available(), reason="takes a second device")
@pytest.mark.parametrize("tokens", [3, 500])
def test_gradients_come_back_to_the_factors_of_another_device(tokens: int) -> None:
    a, b = (t.requires_grad_() for t in factors(*WIDE))
    weight, bias = map_of(WIDE)
    x = torch.randn(tokens, 24, dtype=torch.float64)
    for adapt in (kron_linear, lambda x, a, b: linear_plus_kron(x, weight.to(x), bias.to(x), a, b)):
        there = torch.autograd.grad(adapt(x.cuda(), a, b).sum(), (a, b))
        for one, other in zip(there, torch.autograd.grad(adapt(x, a, b).sum(), (a, b)), strict=True):
            torch.testing.assert_close(one, other)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # by torch's own compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("terms", [1, 3])
def test_two_maps_compile_for_batches_of_any_size_and_train_as_without(terms: int, dtype: torch.dtype) -> None:
    weight = torch.randn(24, 24, generator=torch.Generator().manual_seed(2)).to(dtype)
    own = [factor.float().requires_grad_() for factor in factors(4, 2, 6, 12, terms)]

    def twice(x: torch.Tensor) -> torch.Tensor:
        return linear_plus_kron(linear_plus_kron(x, weight, None, *own, 1.5), weight, None, *own, 0.5)

    torch.compiler.reset()
    compiled = torch.compile(twice, backend="aot_eager", dynamic=True, fullgraph=True)
    for rows in (2, 5):
        x = torch.randn(rows, 3, 24).to(dtype).requires_grad_()
        expected, found = (run(x) for run in (twice, compiled))
        torch.testing.assert_close(found, expected)
        gradients = [torch.autograd.grad(each.float().square().sum(), (x, *own)) for each in (expected, found)]
        torch.testing.assert_close(gradients[1], gradients[0])
