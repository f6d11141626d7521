"""Tests that a last layer which computes the first token alone changes neither logits nor gradients in any family."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from krona_tune.adapters.first_token_maps import MAPS, first_token_maps
from krona_tune.adapters.inject import Adapters
from krona_tune.backbones.find_geometry import geometry
from krona_tune.backbones.geometry import Geometry, Role
from krona_tune.study.request.trial import AdapterConfig
from krona_tune.train.backbone import freeze
from krona_tune.train.device import Device
from krona_tune.train.first_token import FirstTokenOnly
from krona_tune.train.loop import TrialRun
from tests.backbones.families import KINDS, tiny
from tests.models import CONFIGS, build, of_each_kind, tokens
from tests.train.conftest import tiny_backbone, tiny_trial, tiny_work

KRONA: dict[str, Any] = {"method": "krona", "a_out": 4, "a_in": 2, "scale": 2.0}
EVERYWHERE = "query+key+value+output+feed_forward_in+feed_forward_out"
ADAPTERS = {
    "maps": AdapterConfig(roles=EVERYWHERE, **KRONA),
    "rank": AdapterConfig(method="lora", rank=2, roles="query+value", scale=2.0, layers="last 1"),
    "block": AdapterConfig(method="parallel_adapter", bottleneck=3, scale=2.0),
    "behind": AdapterConfig(method="adapter", bottleneck=3),
    "all": AdapterConfig(method="full"),
}


@contextmanager
def counted(base: nn.Module, names: list[str]) -> Iterator[list[int]]:
    """Counts the tokens of a text that each call of these maps computes."""
    found: list[int] = []

    def note(_: nn.Module, inputs: tuple[Tensor, ...], __: Tensor) -> None:
        found.append(inputs[0].shape[1])

    handles = [base.get_submodule(name).register_forward_hook(note) for name in names]
    yield found
    for handle in handles:
        handle.remove()


def answered(model: nn.Module, adapters: Adapters, inputs: dict[str, Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Returns logits, and the gradients of a sum that weighs them differently."""
    logits: Tensor = model(**inputs).logits
    trained = list(adapters.parameters())
    weights = torch.linspace(-1, 2, logits.numel()).view(logits.shape)
    return logits, list(torch.autograd.grad((weights * logits).sum(), trained, allow_unused=True))


def refuse_difference(model: nn.Module, base: nn.Module, shape: Geometry, adapter: AdapterConfig, config: Any) -> None:
    """Asserts that the shortened layer gives the same, that it is shortened, and that its maps compute all later."""
    maps = first_token_maps(shape, config, adapter.method)
    names = list(maps)
    assert names
    inputs = tokens(shape)
    with Adapters(base, shape, adapter, torch.Generator().manual_seed(0)) as adapters, counted(base, names) as lengths:
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in adapters.modules.parameters():  # a fresh adapter adds nothing
                parameter.normal_(std=0.3, generator=generator)
        expected = answered(model, adapters, inputs)
        assert set(lengths) == {11}
        lengths.clear()
        shortened = FirstTokenOnly(base, maps)
        found = answered(model, adapters, inputs)
        assert lengths == [1] * len(names)
        shortened.close()
        lengths.clear()
        again = answered(model, adapters, inputs)
        assert set(lengths) == {11}
    torch.testing.assert_close(found[0], expected[0])
    torch.testing.assert_close(again[0], expected[0], rtol=0, atol=0)
    assert expected[0].std() > 0
    for each, other in zip(found[1], expected[1], strict=True):
        if other is None:  # a parameter that the model does not use
            assert each is None
        else:
            torch.testing.assert_close(each, other, rtol=1e-4, atol=1e-5 * max(1.0, float(other.abs().max())))


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_neither_logits_nor_gradients_change(adapter: str) -> None:
    shape, model, base = build("bert")
    refuse_difference(model, base, shape, ADAPTERS[adapter], model.config.to_dict())


@pytest.mark.parametrize("name", of_each_kind([name for name, (kind, _) in CONFIGS.items() if kind in MAPS]))
def test_they_change_in_no_family_of_the_tests(name: str) -> None:
    shape, model, base = build(name)
    refuse_difference(model, base, shape, ADAPTERS["maps"], model.config.to_dict())


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in KINDS else pytest.mark.long) for n in sorted(MAPS)])
def test_they_change_in_no_family(name: str) -> None:
    config = transformers.AutoConfig.for_model(**tiny(name), num_labels=3)
    torch.manual_seed(0)
    whole = transformers.AutoModelForSequenceClassification.from_config(config)
    backbone = freeze(whole, geometry(config.to_dict()), Device(kind="cpu", dtype=torch.float32))
    for adapter in ("maps", "block", "behind"):
        refuse_difference(whole, backbone.base, backbone.geometry, ADAPTERS[adapter], config.to_dict())


def test_a_model_whose_head_reads_more_is_left_alone() -> None:
    found = {name: _maps(name) for name in ("llama", "albert", "bart", "modernbert")}
    assert not any(found.values())
    assert _maps("bert")
    assert not _maps("bert", chunk_size_feed_forward=2)


def test_a_method_of_peft_gets_all_tokens() -> None:
    """Its router may average over them, and its dropout draws for each."""
    assert not _maps("bert", "peft:lily")


def test_a_role_that_a_person_states_shortens_no_map_of_keys_and_values() -> None:
    shape, model, _ = build("bert")
    config = model.config.to_dict()
    stated = geometry(config, corrections={Role.QUERY: "*attention.self.*"})
    assert stated != shape
    assert first_token_maps(stated, config, "krona") == first_token_maps(shape, config, "krona")


def test_a_trial_computes_its_last_layer_of_the_first_token() -> None:
    backbone = tiny_backbone()
    names = list(first_token_maps(backbone.geometry, backbone.config.to_dict(), "krona"))
    run = TrialRun("t", tiny_trial(), tiny_work(), backbone)
    with counted(backbone.base, names) as lengths:
        report = run.advance()
        assert set(lengths) == {1}
        assert report.scored
        run.close()
        backbone.base(**tokens(backbone.geometry))
        assert max(lengths) == 11


def _maps(name: str, method: str = "krona", **changes: Any) -> dict[str, Role]:
    shape, model, _ = build(name)
    return first_token_maps(shape, {**model.config.to_dict(), **changes}, method)
