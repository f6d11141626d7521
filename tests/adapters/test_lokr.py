"""Tests that LoKr has the sizes, parameter counts and whole-model outputs of PEFT's."""

import copy
import subprocess
import sys

import peft
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from krona_tune.adapters.inject import Adapters
from krona_tune.adapters.method_modules import Lokr
from krona_tune.adapters.method_table import lokr_cost, lokr_sides
from krona_tune.backbones.geometry import Role, Site, Stack
from krona_tune.study.request.trial import AdapterConfig
from tests.models import build
from tests.trained_adapters import outputs, trained

DIMENSIONS = st.integers(1, 240)
FACTORS = st.one_of(st.just(-1), st.integers(1, 260))


def site(d_out: int, d_in: int) -> Site:
    return Site(
        name="map", enters="map", role=Role.QUERY, stack=Stack.ENCODER, layer=0, layer_name="0", d_out=d_out, d_in=d_in
    )


def lokr(d_out: int = 12, d_in: int = 30, seed: int = 0, **knobs: object) -> Lokr:
    generator = torch.Generator().manual_seed(seed)
    return Lokr(site(d_out, d_in), AdapterConfig(method="lokr", **knobs), generator)


@settings(max_examples=400)
@given(DIMENSIONS, DIMENSIONS, st.integers(1, 40), FACTORS)
def test_the_cost_in_integers_is_what_peft_makes(d_out: int, d_in: int, rank: int, factor: int) -> None:
    with torch.device("meta"):
        config = peft.LoKrConfig(r=rank, decompose_factor=factor)
        layer = peft.tuners.lokr.Linear(nn.Linear(d_in, d_out), "default", config=config, r=rank, alpha=1.0)
    tensors = [tensor for name, tensor in layer.named_parameters() if name.startswith("lokr_")]
    assert sum(tensor.numel() for tensor in tensors) == lokr_cost(d_out, d_in, rank, factor)
    first = (lokr_sides(d_out, factor)[0], lokr_sides(d_in, factor)[0])
    assert tuple(layer.lokr_w1["default"].shape) == first


@pytest.mark.parametrize(
    ("knobs", "shapes"),
    [
        ({"decompose_factor": 4, "rank": 2}, {"w1": (4, 3), "w2_a": (3, 2), "w2_b": (2, 10)}),
        ({"decompose_factor": 4, "rank": 5}, {"w1": (4, 3), "w2": (3, 10)}),
        ({"decompose_factor": 2, "rank": 3}, {"w1": (2, 2), "w2_a": (6, 3), "w2_b": (3, 15)}),
        ({"rank": 9}, {"w1": (3, 5), "w2": (4, 6)}),
    ],
)
def test_the_tensors_have_short_names_and_nothing_else_is_kept(
    knobs: dict[str, object], shapes: dict[str, tuple[int, ...]]
) -> None:
    module = lokr(**knobs)
    assert {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()} == shapes
    assert module.state_dict().keys() == dict(module.named_parameters()).keys()
    assert [name for name, _ in module.named_modules()] == [""]


def test_the_delta_is_the_scaled_product_and_the_scale_is_a_plain_factor() -> None:
    module = lokr(rank=2, decompose_factor=4, scale=2.5)
    with torch.no_grad():
        module.w1.normal_()
    expected = 2.5 * torch.kron(module.w1, module.w2_a @ module.w2_b)
    torch.testing.assert_close(module.delta(), expected)
    x = torch.randn(2, 7, 30)
    torch.testing.assert_close(module(x), x @ expected.T)


def test_fresh_changes_nothing_and_the_first_values_come_from_the_generator_alone() -> None:
    state = torch.get_rng_state()
    first, again, other = lokr(rank=2, seed=3), lokr(rank=2, seed=3), lokr(rank=2, seed=4)
    assert torch.equal(torch.get_rng_state(), state)
    assert not first.delta().any()
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.w2_a, other.w2_a)


def test_the_first_values_spread_as_pefts_do() -> None:
    ours = lokr(d_out=600, d_in=900, rank=10, decompose_factor=2)
    theirs = peft.tuners.lokr.Linear(
        nn.Linear(900, 600), "default", config=peft.LoKrConfig(decompose_factor=2), r=10, alpha=10
    )
    for name in ("w2_a", "w2_b"):
        mine, reference = getattr(ours, name), getattr(theirs, f"lokr_{name}")["default"]
        assert mine.shape == reference.shape
        assert mine.abs().max().item() == pytest.approx(reference.abs().max().item(), rel=0.02)
        assert mine.std().item() == pytest.approx(reference.std().item(), rel=0.05)


@pytest.mark.parametrize("move", [copy.deepcopy, lambda module: module.double()])
def test_a_copied_or_converted_module_computes_with_its_own_numbers(move: object) -> None:
    module = lokr(rank=2, decompose_factor=4)
    moved = move(module)
    with torch.no_grad():
        moved.w1.fill_(1.0)
    assert moved.delta().any()
    assert moved.delta().dtype == moved.w1.dtype
    moved.delta().sum().backward()
    assert moved.w2_a.grad is not None


def test_a_bfloat16_backbone_or_autocast_keeps_float32_factors() -> None:
    module = lokr(rank=2)
    assert module(torch.randn(3, 30, dtype=torch.bfloat16)).dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        assert module(torch.randn(3, 30)).dtype == torch.bfloat16
    assert {parameter.dtype for parameter in module.parameters()} == {torch.float32}


@pytest.mark.parametrize("rank", [2, 9])
@pytest.mark.parametrize(
    ("name", "roles", "targets"),
    [
        ("bert", "value+feed_forward_in", r"bert\.encoder\.layer\.[12]\.(.*\.value|intermediate\.dense)"),
        ("t5", "query+feed_forward_out", r"(en|de)coder\.block\.\d\.(.*SelfAttention\.q|.*\.wo)"),
    ],
)
def test_the_same_weights_give_pefts_logits(name: str, roles: str, targets: str, rank: int) -> None:
    shape, model, base = build(name)
    layers = "last 2" if name == "bert" else "all"
    config = AdapterConfig(method="lokr", rank=rank, decompose_factor=4, scale=6.5, roles=roles, layers=layers)
    before = outputs(model, shape)
    with trained(Adapters(base, shape, config, torch.Generator().manual_seed(0))) as adapters:
        ours = outputs(model, shape)
        assert (ours - before).abs().max() > 1e-3
        state = {site.name: module.state_dict() for site, module in adapters.by_site()}
    sizes = peft.LoKrConfig(r=rank, alpha=6.5 * rank, decompose_factor=4, target_modules=targets)
    theirs = peft.get_peft_model(model, sizes)
    layers_of_peft = [module for module in theirs.modules() if isinstance(module, peft.tuners.lokr.LoKrLayer)]
    assert len(layers_of_peft) == len(state)
    for path, tensors in state.items():
        whole = path if model is base else f"{model.base_model_prefix}.{path}"
        layer = theirs.base_model.model.get_submodule(whole)
        for key, tensor in tensors.items():
            getattr(layer, f"lokr_{key}")["default"].data = tensor
    torch.testing.assert_close(outputs(theirs, shape), ours)


def test_without_peft_the_rooms_import_and_lokr_is_refused() -> None:
    code = """
import sys
sys.modules["peft"] = None
import torch
import krona_tune.adapters.inject
from krona_tune.adapters.method_modules import Lokr
from krona_tune.refusal import Refusal
from krona_tune.backbones.geometry import Role, Site, Stack
from krona_tune.study.request.trial import AdapterConfig
site = Site(name="map", enters="map", role=Role.QUERY, stack=Stack.ENCODER, layer=0, layer_name="0", d_out=6, d_in=4)
try:
    Lokr(site, AdapterConfig(method="lokr"), torch.Generator())
except Refusal as refusal:
    print(refusal)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == ("adapter: method: lokr: the package peft is not installed; pip install 'krona_tune[peft]'")
