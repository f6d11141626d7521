"""Tests that each module computes what its paper writes, at its place in a model."""

import pytest
import torch

from krona_tune.adapters.inject import Adapters
from tests.models import build
from tests.trained_adapters import outputs, shaped, trained


def test_a_block_adapter_reads_what_enters_the_feed_forward_network_and_adds_before_the_residual() -> None:
    shape, _, base = build("bert")
    with Adapters(base, shape, shaped(shape, "krona_b_res"), torch.Generator().manual_seed(0)) as adapters:
        trained(adapters)
        layer = base.encoder.layer[1]
        x = torch.randn(2, 5, 24)
        _, adapter = list(adapters.by_site())[1]
        assert adapter.residual_scale.item() != 0
        with torch.no_grad():
            got = layer.feed_forward_chunk(x)
            delta = 1.5 * x @ torch.kron(adapter.a, adapter.b).T + adapter.residual_scale * x
            own = torch.nn.functional.linear(layer.intermediate(x), layer.output.dense.weight, layer.output.dense.bias)
            torch.testing.assert_close(got, layer.output.LayerNorm(own + delta + x))


@pytest.mark.parametrize("name", ["bert", "t5"])
def test_a_sequential_adapter_adds_to_what_each_sublayer_gives(name: str) -> None:
    shape, _, base = build(name)
    config = shaped(shape, "adapter", stacks="encoder", layers="1")
    with trained(Adapters(base, shape, config, torch.Generator().manual_seed(0))) as adapters:
        places = [site.name for site, _ in adapters.by_site()]
        for site, adapter in adapters.by_site():
            module = base.get_submodule(site.name)
            x = torch.randn(2, 5, next(module.parameters()).shape[1] if name == "bert" or "SelfA" in site.name else 24)
            with torch.no_grad():
                y = module.forward(x)  # bypasses the hooks
                inside = torch.nn.functional.gelu(y @ adapter.down.T + adapter.down_bias)
                torch.testing.assert_close(module(x), y + inside @ adapter.up.T + adapter.up_bias)
    layer = {"bert": "encoder.layer.1", "t5": "encoder.block.1.layer"}[name]
    ends = {"bert": ("attention.output.dense", "output.dense"), "t5": ("0.SelfAttention.o", "1.DenseReluDense")}[name]
    assert places == [f"{layer}.{end}" for end in ends]


def test_a_parallel_adapter_scales_what_two_layers_make_of_the_blocks_input() -> None:
    shape, _, base = build("t5")
    config = shaped(shape, "parallel_adapter", stacks="decoder", layers="2")
    with trained(Adapters(base, shape, config, torch.Generator().manual_seed(0))) as adapters:
        ((site, adapter),) = adapters.by_site()
        block, x = base.get_submodule(site.name), torch.randn(2, 5, 24)
        with torch.no_grad():
            inside = (x @ adapter.down.T + adapter.down_bias).relu()
            expected = block.forward(x) + 1.5 * (inside @ adapter.up.T + adapter.up_bias)
            torch.testing.assert_close(block(x), expected)


def test_a_hypercomplex_layer_is_the_sum_of_its_kronecker_products() -> None:
    shape, _, base = build("bert")
    config = shaped(shape, "compacter", phm=3, bottleneck=9)
    with trained(Adapters(base, shape, config, torch.Generator().manual_seed(0))) as adapters:
        assert adapters.sites
        for _, adapter in adapters.by_site():
            for layer, d_out, d_in in ((adapter.down, 9, 24), (adapter.up, 24, 9)):
                x = torch.randn(4, 5, d_in)
                terms = [torch.kron(layer.rules[i], torch.outer(layer.left[i], layer.right[i])) for i in range(3)]
                assert sum(terms).shape == (d_out, d_in)
                torch.testing.assert_close(layer(x), x @ sum(terms).T + layer.bias, atol=1e-5, rtol=1e-4)


def test_compacters_share_their_rules_also_after_their_state_comes_back() -> None:
    shape, model, base = build("t5")
    config = shaped(shape, "compacter")
    with trained(Adapters(base, shape, config, torch.Generator().manual_seed(0))) as adapters:
        state, adapted = adapters.state(), outputs(model, shape)
    assert [name for name in state if name.endswith("rules")] == [
        "adapter.encoder.block.0.layer.0.SelfAttention.o.down.rules"
    ]
    with Adapters(base, shape, config, torch.Generator().manual_seed(5)) as again:
        again.load_state(state)
        assert torch.equal(outputs(model, shape), adapted)
        assert len({id(layer.rules) for _, a in again.by_site() for layer in (a.down, a.up)}) == 1
