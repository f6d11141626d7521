"""Tests that LoRA here and in PEFT are the same adapter: equal weights give equal outputs."""

import peft
import pytest
import torch

from krona_tune.adapters.inject import Adapters
from krona_tune.study.request.trial import AdapterConfig
from tests.models import build, tokens
from tests.trained_adapters import outputs, trained


@pytest.mark.parametrize(
    ("name", "targets"),
    [("bert", r".*encoder\.layer\.[12]\..*\.(query|value)"), ("t5", r"decoder\.block\.[12]\..*SelfAttention\.(q|v)")],
)
def test_the_same_weights_give_pefts_outputs(name: str, targets: str) -> None:
    shape, model, base = build(name)
    config = AdapterConfig(method="lora", rank=3, scale=3.5, roles="query+value", layers="last 2")
    if name == "t5":
        config = config.model_copy(update={"stacks": "decoder"})
    before = outputs(model, shape)
    with trained(Adapters(base, shape, config, torch.Generator().manual_seed(0))) as adapters:
        ours, state = outputs(model, shape), adapters.state()
    theirs = peft.get_peft_model(model, peft.LoraConfig(r=3, lora_alpha=3.5 * 3, target_modules=targets))
    sites = {
        site.name: theirs.base_model.model.get_submodule(_whole(model, base, site.name)) for site in adapters.sites
    }
    assert len(sites) == sum(
        type(module).__name__ == "Linear" and hasattr(module, "lora_A") for module in theirs.modules()
    )
    with torch.no_grad():
        for site, layer in sites.items():
            layer.lora_A["default"].weight.copy_(state[f"adapter.{site}.a"])
            layer.lora_B["default"].weight.copy_(state[f"adapter.{site}.b"])
    assert not torch.allclose(ours, before, atol=1e-3)
    torch.testing.assert_close(outputs(theirs, shape), ours)


def test_a_sum_of_columns_times_rows_takes_pefts_first_steps() -> None:
    """LoRA is a case of krona: A a column, B a row, as many terms as the rank, and CDKA's start, which is LoRA's."""
    shape, model, base = build("bert")
    rank, places = 3, {"roles": "query+value", "scale": 3.5}
    sizes = {"a_out": 24, "a_in": 1, "terms": rank, "init": "cdka"}
    ours = Adapters(base, shape, AdapterConfig(method="krona", **sizes, **places), torch.Generator().manual_seed(0))
    _, twin, twin_base = build("bert")
    targets = peft.LoraConfig(r=rank, lora_alpha=3.5 * rank, target_modules=["query", "value"])
    theirs = peft.get_peft_model(twin, targets).eval()
    layers = {
        site.name: theirs.base_model.model.get_submodule(_whole(twin, twin_base, site.name)) for site in ours.sites
    }
    modules = {site.name: module for site, module in ours.by_site()}
    with torch.no_grad():
        for name, layer in layers.items():
            assert not layer.lora_B["default"].weight.any()
            layer.lora_A["default"].weight.copy_(modules[name].b.squeeze(1))
    optimisers = [
        torch.optim.AdamW([p for p in parameters if p.requires_grad], lr=1e-2)
        for parameters in (ours.parameters(), theirs.parameters())
    ]
    for _ in range(3):
        for each, optimiser in zip((model, theirs), optimisers, strict=True):
            optimiser.zero_grad()
            each(**tokens(shape), labels=torch.tensor([0, 1, 2, 0, 1])).loss.backward()
            optimiser.step()
        for name, layer in layers.items():
            torch.testing.assert_close(modules[name].b.squeeze(1), layer.lora_A["default"].weight)
            torch.testing.assert_close(modules[name].a.squeeze(2).T, layer.lora_B["default"].weight)
    torch.testing.assert_close(outputs(model, shape), outputs(theirs, shape))


def _whole(model: torch.nn.Module, base: torch.nn.Module, name: str) -> str:
    return name if model is base else f"{model.base_model_prefix}.{name}"
