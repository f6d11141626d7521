"""Tests that a merged model gives the adapted model's outputs without an adapter, and that unmerging restores it."""

import pytest
import torch

from krona_tune.adapters.inject import Adapters
from krona_tune.adapters.merge import merge, unmerge
from krona_tune.refusal import Refusal
from tests.cases import case
from tests.models import build, of_each_kind, tokens
from tests.trained_adapters import outputs, shaped, trained

SUM = {"terms": 3, "scaling": "stable", "init": "cdka"}


METHODS = [("krona", {}), ("krona", SUM), ("cdka", {"terms": 3}), ("lora", {}), ("lokr", {}), ("full", {})]


@pytest.mark.parametrize("name", of_each_kind())
def test_merged_equals_adapted_and_unmerged_equals_the_start(name: str) -> None:
    shape, model, base = build(name)
    plain = build(name)[1]
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    for method, knobs in METHODS:
        with case(method, knobs):
            model.load_state_dict(before)
            adapters = trained(Adapters(base, shape, shaped(shape, method, **knobs), torch.Generator().manual_seed(0)))
            adapted = outputs(model, shape)
            merge(adapters)
            merged = outputs(model, shape)
            assert (merged - adapted).norm() < 2e-5 * adapted.norm()
            plain.load_state_dict(model.state_dict())
            assert torch.equal(outputs(plain, shape), merged)
            unmerge(adapters)
            assert (outputs(model, shape) - adapted).norm() < 2e-5 * adapted.norm()
            adapters.detach()
            for key, tensor in model.state_dict().items():
                torch.testing.assert_close(tensor, before[key], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["bert", "distilbert", "deberta-v2"])
def test_biases_merge_where_there_are_biases(name: str) -> None:
    shape, model, base = build(name)
    with trained(Adapters(base, shape, shaped(shape, "bitfit"), torch.Generator())) as adapters:
        adapted = outputs(model, shape)
        merge(adapters)
        torch.testing.assert_close(outputs(model, shape), adapted)
        unmerge(adapters)
        torch.testing.assert_close(outputs(model, shape), adapted)


@pytest.mark.parametrize(("name", "site"), [("t5", "SelfAttention.q"), ("deberta", "in_proj")])
def test_a_map_without_a_bias_takes_none_up_and_nothing_is_changed(name: str, site: str) -> None:
    shape, model, base = build(name)
    with trained(Adapters(base, shape, shaped(shape, "bitfit"), torch.Generator())) as adapters:
        adapted = outputs(model, shape)
        with pytest.raises(Refusal, match=f"{site} has no bias to merge it into; use it as an adapter"):
            merge(adapters)
        assert torch.equal(outputs(model, shape), adapted)


def test_merging_twice_or_unmerging_what_is_not_merged_is_refused() -> None:
    shape, _, base = build("bert")
    with trained(Adapters(base, shape, shaped(shape, "krona"), torch.Generator().manual_seed(0))) as adapters:
        with pytest.raises(Refusal, match="not merged"):
            unmerge(adapters)
        merge(adapters)
        with pytest.raises(Refusal, match="merged already; unmerge them first"):
            merge(adapters)


def test_a_detached_set_is_neither_merged_nor_unmerged() -> None:
    """It trains norms, too, which are the model's own again: merged, the model would be no one's."""
    shape, model, base = build("bert")
    before = outputs(model, shape)
    adapters = trained(Adapters(base, shape, shaped(shape, "krona", layer_norms=True), torch.Generator()))
    adapters.detach()
    with pytest.raises(Refusal, match="merge: the adapters are detached from their model; load them again"):
        merge(adapters)
    assert torch.equal(outputs(model, shape), before)
    again = trained(Adapters(base, shape, shaped(shape, "krona"), torch.Generator().manual_seed(0)))
    merge(again)
    again.detach()
    merged = outputs(model, shape)
    with pytest.raises(Refusal, match="detached from their model, whose weights stay merged; load the model again"):
        unmerge(again)
    assert torch.equal(outputs(model, shape), merged)


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn])
def test_a_weight_in_few_bits_is_refused(dtype: torch.dtype) -> None:
    shape, _, base = build("bert")
    with trained(Adapters(base, shape, shaped(shape, "krona"), torch.Generator().manual_seed(0))) as adapters:
        site, _ = next(adapters.by_site())
        module = base.get_submodule(site.name)
        module.weight = torch.nn.Parameter(module.weight.to(dtype), requires_grad=False)
        with pytest.raises(Refusal, match=f"{site.name} is quantised; use it as an adapter, on the quantised weights"):
            merge(adapters)


def test_offloaded_weights_are_refused_before_any_is_changed() -> None:
    shape, _, base = build("bert")
    with trained(Adapters(base, shape, shaped(shape, "krona"), torch.Generator().manual_seed(0))) as adapters:
        *_, (last, _) = adapters.by_site()
        base.get_submodule(last.name).to("meta")
        site, _ = next(adapters.by_site())
        before = base.get_submodule(site.name).weight.clone()
        with pytest.raises(Refusal, match=rf"merge: the weights of {last.name} are offloaded; load the model whole"):
            merge(adapters)
        assert torch.equal(base.get_submodule(site.name).weight, before)


def test_a_bfloat16_weight_is_rounded_once() -> None:
    shape, model, base = build("bert")
    model.bfloat16()
    adapters = trained(Adapters(base, shape, shaped(shape, "krona"), torch.Generator().manual_seed(0)))
    site, adapter = next(adapters.by_site())
    weight = base.get_submodule(site.name).weight
    exact = weight.float() + 1.5 * torch.kron(adapter.a, adapter.b)
    merge(adapters)
    assert torch.equal(weight, exact.bfloat16())


@pytest.mark.parametrize("method", ["krona_b", "krona_b_res", "parallel_adapter", "adapter", "compacter"])
def test_what_is_not_linear_can_not_be_merged_and_the_refusal_says_why(method: str) -> None:
    shape, _, base = build("bert")
    with (
        Adapters(base, shape, shaped(shape, method), torch.Generator()) as adapters,
        pytest.raises(Refusal, match=f"merge: {method} can't be added to a linear map; use it as an adapter"),
    ):
        merge(adapters)


@pytest.mark.parametrize(("method", "knobs"), [("lora", {}), ("lokr", {"rank": 1}), ("krona", SUM), ("peft:LoRA", {})])
def test_a_merge_under_autocast_is_exact(method: str, knobs: dict[str, object]) -> None:
    shape, model, base = build("bert")
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    adapters = trained(Adapters(base, shape, shaped(shape, method, **knobs), torch.Generator().manual_seed(0)))
    merge(adapters)
    exact = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    unmerge(adapters)
    model.load_state_dict(before)
    with torch.autocast("cpu", torch.bfloat16):
        merge(adapters)
    assert all(torch.equal(tensor, exact[key]) for key, tensor in model.state_dict().items())


def test_a_merged_model_keeps_what_was_trained_of_its_own_when_it_is_left() -> None:
    shape, model, base = build("bert")
    asked = shaped(shape, "krona", layer_norms=True)
    with trained(Adapters(base, shape, asked, torch.Generator().manual_seed(0))) as adapters:
        merge(adapters)
        merged = outputs(model, shape)
    assert torch.equal(outputs(model, shape), merged)
    assert not any("krona_tune" in key for module in model.modules() for key in vars(module)), "it is the model's own"


class Logits(torch.nn.Module):
    """Gives a model's logits alone, which can be exported."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids=input_ids, attention_mask=attention_mask).logits


@pytest.mark.filterwarnings("ignore:While compiling, we found certain side effects:UserWarning")  # transformers' own
@pytest.mark.parametrize("strict", [pytest.param(True, marks=pytest.mark.slow), False])
def test_torch_exports_a_merged_model(strict: bool) -> None:
    shape, model, base = build("bert")
    asked = shaped(shape, "krona", terms=3, layer_norms=True)
    merge(trained(Adapters(base, shape, asked, torch.Generator().manual_seed(0))))
    with torch.no_grad():
        program = torch.export.export(Logits(model), (), tokens(shape), strict=strict)
        assert torch.equal(program.module()(**tokens(shape)), outputs(model, shape))
