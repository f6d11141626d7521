"""Tests that every method of peft that adapts linear maps trains, is saved, merged and exported like one of ours."""

from importlib.metadata import version
from pathlib import Path
from typing import cast

import pytest
import torch
from peft import PEFT_TYPE_TO_TUNER_MAPPING, PeftType
from torch import nn

from krona_tune.adapters.inject import Adapters
from krona_tune.adapters.merge import merge, unmerge
from krona_tune.adapters.peft_maps import PeftMap
from krona_tune.adapters.placement import count
from krona_tune.study.request.trial import AdapterConfig
from tests.adapters.peft_methods import MODELS, PLACES, STARTS_ELSEWHERE, attempt, names, why_not
from tests.models import CONFIGS, build
from tests.trained_adapters import outputs, trained

RUNNING = [name for name in names() if why_not(name) is None]
PAIRS = [
    pytest.param(name, family, marks=() if (number + at) % len(MODELS) == 0 else pytest.mark.long)
    for number, name in enumerate(RUNNING)
    for at, family in enumerate(MODELS)
]
"""Every method with every family: the families take turns, and the pairs that are not theirs are `long`."""

TABLE = Path(__file__).parents[2] / "docs" / "peft_methods.md"


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
@pytest.mark.parametrize(("name", "family"), PAIRS)
def test_a_method_of_peft_is_like_one_of_ours(name: str, family: str) -> None:
    tried = attempt(name, family)
    assert tried.foretold == tried.built
    assert tried.started < 1e-5 or name in STARTS_ELSEWHERE
    assert tried.last_loss < tried.first_loss
    assert tried.restored
    assert tried.again == 0.0
    assert tried.unmerged < 1e-5
    for apart in (tried.merged, tried.exported):
        assert isinstance(apart, str) or apart < 1e-4


def test_the_table_names_every_method_of_this_peft() -> None:
    told = TABLE.read_text(encoding="utf-8")
    if version("peft") not in told:
        pytest.skip("the table was printed with another version of peft")
    for name in names():
        assert (f"| `peft:{name}` |" in told) == (name in RUNNING), name
        assert (f"- `peft:{name}`: " in told) == (name not in RUNNING), name


@pytest.mark.parametrize("family", CONFIGS)
def test_dora_runs_on_every_family(family: str) -> None:
    """DoRA reads the frozen weights, so it shows whether fused and transposed maps reach peft as linear ones."""
    shape, model, base = build(family)
    config, before = AdapterConfig(method="peft:DoRA", peft={"r": 2}, **PLACES), outputs(model, shape)
    with trained(Adapters(base, shape, config, torch.Generator().manual_seed(0))) as adapters:
        assert sum(p.numel() for p in adapters.parameters()) == count(shape, config, 0).adapter
        assert not torch.allclose(outputs(model, shape), before, rtol=0, atol=1e-6)
    assert torch.equal(outputs(model, shape), before)


@pytest.mark.parametrize("method", ["peft:DoRA", "peft:Lora"])
def test_a_method_of_peft_follows_a_model_that_is_cast(method: str) -> None:
    shape, model, base = build("bert")
    config = AdapterConfig(method=method, peft={"r": 2}, **PLACES)
    with trained(Adapters(base, shape, config, torch.Generator().manual_seed(0))):
        before = outputs(model, shape)
        assert torch.allclose(outputs(model.bfloat16(), shape).float(), before, atol=0.05)
        assert torch.allclose(outputs(model.float(), shape), before, atol=0.05)


def test_a_model_that_was_cast_while_its_adapter_was_merged_is_unmerged_right() -> None:
    shape, model, base = build("bert")
    config = AdapterConfig(method="peft:Lora", peft={"r": 2}, **PLACES)
    with trained(Adapters(base, shape, config, torch.Generator().manual_seed(0))) as adapters:
        before = outputs(model, shape)
        merge(adapters)
        model.double()
        unmerge(adapters)
        assert torch.allclose(outputs(model, shape).float(), before, atol=1e-4)


def test_krona_as_a_method_of_peft_gives_what_ours_gives() -> None:
    shape, model, base = build("bert")
    sizes = {"a_out": 4, "a_in": 2, "terms": 2}
    ours = AdapterConfig(method="krona", scale=1.5, **sizes, **PLACES)
    theirs = AdapterConfig(method="peft:krona_tune.peft_method.KronAConfig", peft={"scale": 1.5, **sizes}, **PLACES)
    with trained(Adapters(base, shape, ours, torch.Generator().manual_seed(0))) as adapters:
        expected = outputs(model, shape)
        factors = [(module.get_parameter("a"), module.get_parameter("b")) for _, module in adapters.by_site()]
    with Adapters(base, shape, theirs, torch.Generator().manual_seed(0)) as adapters, torch.no_grad():
        for (_, module), (a, b) in zip(adapters.by_site(), factors, strict=True):
            layer = cast(PeftMap, module).layer
            layer.krona_a["default"].copy_(a)
            layer.krona_b["default"].copy_(b)
        assert torch.allclose(outputs(model, shape), expected, atol=1e-6)
    assert count(shape, theirs, 0) == count(shape, ours, 0)


def test_dropout_of_peft_acts_in_training_only() -> None:
    shape, model, base = build("bert")
    config = AdapterConfig(method="peft:LoRA", peft={"r": 2, "lora_dropout": 0.5}, **PLACES)
    with trained(Adapters(base, shape, config, torch.Generator().manual_seed(0))):
        assert torch.equal(outputs(model, shape), outputs(model, shape))
        for module in base.modules():
            module.training = isinstance(module, nn.Linear)
        assert not torch.equal(outputs(model, shape), outputs(model, shape))


def test_a_field_that_decides_nothing_about_sizes_is_not_counted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    shape, _, _ = build("bert")

    def counted(**fields: float) -> int:
        return count(shape, AdapterConfig(method="peft:LoRA", peft={"r": 2, **fields}, **PLACES), 0).adapter

    first = counted()
    counted(lora_dropout=0.5)  # asks once whether it decides about sizes
    monkeypatch.setitem(PEFT_TYPE_TO_TUNER_MAPPING, PeftType.LORA, lambda *_: pytest.fail("counted"))
    assert counted(lora_dropout=0.5) == first
