"""Tests that a fresh adapter changes nothing, a trained one only its sites, and that detaching restores the model."""

import copy
import io
import itertools
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers

from krona_tune.adapters.frozen_model import fingerprint
from krona_tune.adapters.inject import SETS, Adapters
from krona_tune.adapters.method_table import METHODS
from krona_tune.adapters.placement import count, sites
from krona_tune.backbones.find_geometry import geometry
from krona_tune.backbones.geometry import Site
from krona_tune.kron.product import kron_weight
from krona_tune.refusal import Refusal
from krona_tune.study.request.trial import AdapterConfig
from tests.cases import case
from tests.models import CONFIGS, build, of_each_kind, tokens
from tests.trained_adapters import outputs, shaped, trained

ADAPTING = [name for name in METHODS if name != "head_only"]


def numbers(site: Site) -> list[int]:
    """Returns the numbers of the map's rows that a site has, in their order."""
    if site.rows is None:
        return list(range(site.d_out))
    starts = range(site.rows.start, site.rows.total, site.rows.stride)[: site.rows.count]
    return [start + i for start in starts for i in range(site.rows.block)]


@pytest.mark.parametrize("name", of_each_kind())
def test_fresh_changes_no_bit_trained_changes_and_detached_restores(name: str) -> None:
    shape, model, base = build(name)
    before = outputs(model, shape)
    weights = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    for method in ADAPTING:
        with case(method):
            adapters = Adapters(base, shape, shaped(shape, method, layer_norms=True), torch.Generator().manual_seed(0))
            assert torch.equal(outputs(model, shape), before)
            trained(adapters)
            assert not torch.allclose(outputs(model, shape), before, atol=1e-3)
            adapters.detach()
            assert SETS not in vars(base)
            assert torch.equal(outputs(model, shape), before)
            assert all(torch.equal(tensor, weights[key]) for key, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("method", "norms", "before", "after"),
    [
        ("krona", True, torch.float32, torch.float64),
        ("krona", True, torch.float32, torch.bfloat16),
        ("krona", True, torch.bfloat16, torch.float32),
        ("full", False, torch.float32, torch.bfloat16),
    ],
)
def test_a_model_that_was_cast_beside_its_adapters_is_whole_without_them(
    method: str, norms: bool, before: torch.dtype, after: torch.dtype
) -> None:
    shape, model, base = build("bert")
    model.to(before)
    expected = copy.deepcopy(model).to(after)
    adapters = Adapters(base, shape, shaped(shape, method, layer_norms=norms), torch.Generator().manual_seed(0))
    model.to(after)
    adapters.detach()
    assert torch.equal(outputs(model, shape), outputs(expected, shape))


NORMS = (False, True, "adapted")


@pytest.mark.parametrize("name", of_each_kind())
def test_every_counted_parameter_is_trained_and_no_other(name: str) -> None:
    """Tries every pair of a family, a method and a choice of norms; the choices take turns."""
    shape, model, base = build(name)
    for number, method in enumerate(ADAPTING, start=list(CONFIGS).index(name)):
        norms = NORMS[number % 3]
        config = shaped(shape, method, layer_norms=norms, layers="last 1" if norms == "adapted" else "all")
        counted = count(shape, config, outputs=3)
        with case(method, norms), Adapters(base, shape, config, torch.Generator().manual_seed(0)) as adapters:
            parameters = list(trained(adapters).parameters())
            assert sum(p.numel() for p in parameters) == counted.adapter + counted.norms
            model(**tokens(shape)).logits.square().sum().backward()
            assert all(p.grad is not None for p in parameters)
            assert all(p.grad is None for p in model.parameters() if not any(p is own for own in parameters))


@pytest.mark.parametrize("name", of_each_kind())
def test_norms_of_adapted_layers_are_those_inside_them(name: str) -> None:
    shape, _, base = build(name)
    config = shaped(shape, "krona", layer_norms="adapted", layers="last 1")
    every = shaped(shape, "krona", layer_norms=True, layers="last 1")
    adapters = Adapters(base, shape, config, torch.Generator())
    own = set(adapters.backbone_parameters)
    adapters.detach()
    adapters = Adapters(base, shape, every, torch.Generator())
    inside = {
        key for key in adapters.backbone_parameters if any(f"{site.layer_name}." in key for site in adapters.sites)
    }
    adapters.detach()
    assert own == inside < set(adapters.backbone_parameters)


@pytest.mark.parametrize("name", of_each_kind())
def test_a_sum_starts_at_nothing_is_counted_and_adds_its_terms(name: str) -> None:
    shape, model, base = build(name)
    before = outputs(model, shape)
    for method in ("krona", "cdka", "krona_b", "krona_b_res"):
        start = {} if method == "cdka" else {"scaling": "stable", "init": "cdka"}
        config = shaped(shape, method, terms=3, **start)
        with case(method), Adapters(base, shape, config, torch.Generator().manual_seed(0)) as adapters:
            assert torch.equal(outputs(model, shape), before)
            assert sum(p.numel() for p in adapters.parameters()) == count(shape, config, outputs=3).adapter
            site, module = next(trained(adapters).by_site())
            assert module.a.shape == (3, 4, 2)
            x = torch.randn(5, site.d_in)
            terms = [torch.kron(a, b) for a, b in zip(module.a, module.b, strict=True)]
            expected = 1.5 / math.sqrt(3 * 2) * x @ torch.stack(terms).sum(0).T
            expected = expected + (module.residual_scale * x if method == "krona_b_res" else 0)
            torch.testing.assert_close(module(x), expected)
            model(**tokens(shape)).logits.square().sum().backward()
            assert all(p.grad is not None for p in adapters.parameters())


@pytest.mark.parametrize("name", of_each_kind())
def test_the_adapted_output_is_the_map_plus_the_scaled_product_of_its_input(name: str) -> None:
    """Compares each adapted map with the dense map W + s(A⊗B) on the same input."""
    shape, model, base = build(name)
    with Adapters(base, shape, shaped(shape, "krona"), torch.Generator().manual_seed(0)) as adapters:
        trained(adapters)
        expected: list[torch.Tensor] = []

        def compare(module: torch.nn.Linear, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
            transposed = hasattr(module, "nf")
            weight = module.weight.T.clone() if transposed else module.weight.clone()
            for site, adapter in adapters.by_site():
                if base.get_submodule(site.name) is not module:
                    continue
                delta = 1.5 * torch.kron(adapter.a, adapter.b)
                torch.testing.assert_close(kron_weight(adapter.a, adapter.b, 1.5), delta)
                weight[numbers(site)] += delta
            torch.testing.assert_close(
                output, torch.nn.functional.linear(inputs[0], weight, module.bias), atol=1e-5, rtol=1e-4
            )
            expected.append(output)

        for module in {base.get_submodule(site.name) for site in adapters.sites}:
            module.register_forward_hook(compare)
        outputs(model, shape)
        assert len(expected) >= len({site.name for site in adapters.sites})


def test_bitfit_trains_the_biases_that_norms_have_and_with_layer_norms_their_weights_too() -> None:
    shape, _, base = build("bert")
    with Adapters(base, shape, shaped(shape, "bitfit"), torch.Generator()) as adapters:
        assert {name.rsplit(".", 1)[1] for name in adapters.backbone_parameters} == {"bias"}
        assert sum(p.numel() for p in adapters.backbone_parameters.values()) == shape.norm_biases == shape.norms // 2
    with Adapters(base, shape, shaped(shape, "bitfit", layer_norms=True), torch.Generator()) as adapters:
        assert sum(p.numel() for p in adapters.backbone_parameters.values()) == shape.norms


def test_full_trains_a_tied_parameter_once_wherever_it_stands() -> None:
    shape, model, base = build("t5")
    with Adapters(base, shape, shaped(shape, "full"), torch.Generator()) as adapters:
        assert model.shared.weight is model.lm_head.weight is model.encoder.embed_tokens.weight
        assert model.shared.weight is adapters.backbone_parameters["shared.weight"]
        assert sum(p.numel() for p in adapters.parameters()) == shape.parameters
    assert model.shared.weight is model.lm_head.weight is model.encoder.embed_tokens.weight
    assert not model.shared.weight.requires_grad


@pytest.mark.parametrize("tied", [True, False])
def test_full_trains_what_a_decoder_writes_with_and_keeps_it_tied(tied: bool) -> None:
    model_type, values = CONFIGS["llama"]
    config = transformers.AutoConfig.for_model(model_type, **values, tie_word_embeddings=tied)
    whole = transformers.AutoModelForCausalLM.from_config(config).requires_grad_(False)
    shape, own = geometry(config.to_dict()).writing(), whole.lm_head.weight
    adapters = Adapters(whole.model, shape, shaped(shape, "full"), torch.Generator(), whole)
    assert (whole.lm_head.weight is whole.model.embed_tokens.weight) == tied
    assert all(parameter.requires_grad for parameter in whole.parameters())
    assert sum(p.numel() for p in adapters.parameters()) == shape.parameters
    assert count(shape, adapters.config, outputs=2).percent == 100
    adapters.detach()
    assert whole.lm_head.weight is own


def test_a_model_without_a_site_is_refused_and_carries_no_hook() -> None:
    shape, model, base = build("bert")
    for method in ("krona", "krona_b", "adapter"):
        with pytest.raises(Refusal, match=r"model: a BertForSequenceClassification has no encoder\..*; give the base"):
            Adapters(model, shape, shaped(shape, method), torch.Generator())
    with pytest.raises(Refusal, match=r"has no encoder\.layer\.0"):
        fingerprint(model, shape)
    del base.encoder.layer[2]
    before = base(torch.tensor([[5, 6, 7]])).last_hidden_state
    with pytest.raises(Refusal, match=r"has no encoder\.layer\.2"):
        trained(Adapters(base, shape, shaped(shape, "krona"), torch.Generator()))
    assert torch.equal(base(torch.tensor([[5, 6, 7]])).last_hidden_state, before)
    assert not any("forward" in vars(module) for module in base.modules())


def test_two_sets_on_one_model_come_and_go_independently() -> None:
    shape, model, base = build("bert")
    before = outputs(model, shape)
    first = trained(Adapters(base, shape, shaped(shape, "krona"), torch.Generator().manual_seed(0)))
    alone = outputs(model, shape)
    second = trained(Adapters(base, shape, shaped(shape, "krona_b"), torch.Generator().manual_seed(1)))
    assert not torch.equal(outputs(model, shape), alone)
    second.detach()
    assert torch.equal(outputs(model, shape), alone)
    first.detach()
    assert torch.equal(outputs(model, shape), before)


def test_two_sets_on_the_same_maps_add_up_and_leave_in_either_order() -> None:
    shape, model, base = build("bert")
    before = outputs(model, shape)

    def entered(seed: int) -> Adapters:
        return trained(Adapters(base, shape, shaped(shape, "krona"), torch.Generator().manual_seed(seed)))

    for first_leaves in (True, False):
        first = entered(0)
        alone = outputs(model, shape)
        second = entered(1)
        assert not torch.allclose(outputs(model, shape), alone, atol=1e-3)
        (first if first_leaves else second).detach()
        again = outputs(model, shape)
        if not first_leaves:
            assert torch.equal(again, alone)
        first.detach()
        second.detach()
        assert torch.equal(outputs(model, shape), before)
        assert not any("forward" in vars(module) for module in base.modules())


OWN = {"krona": {"layer_norms": True}, "bitfit": {}, "full": {}}


@pytest.mark.parametrize("name", ["bert", "t5"])
def test_sets_that_train_the_models_own_parameters_leave_in_any_order(name: str) -> None:
    shape, model, base = build(name)
    own = dict(model.named_parameters(remove_duplicate=False))
    for methods in itertools.permutations(OWN):
        for leaving in itertools.permutations(range(3)):
            with case(methods, leaving):
                sets = [
                    trained(Adapters(base, shape, shaped(shape, method, **OWN[method]), torch.Generator()))
                    for method in methods
                ]
                for number in leaving:
                    sets[number].detach()
                    last = max((sets[n] for n in leaving if sets[n].attached), key=sets.index, default=None)
                    held = {id(parameter) for parameter in base.parameters()}
                    assert last is None or all(id(each) in held for each in last.backbone_parameters.values())
                now = dict(model.named_parameters(remove_duplicate=False))
                assert all(now[key] is parameter for key, parameter in own.items())


def test_an_adapter_is_where_the_first_weights_are_that_are_not_offloaded() -> None:
    shape, _, base = build("bert")
    for offloaded in (base.embeddings, base):
        offloaded.to("meta")
        with Adapters(base, shape, shaped(shape, "krona"), torch.Generator()) as adapters:
            assert {parameter.device.type for parameter in adapters.parameters()} == {"cpu"}


def test_a_copy_of_an_adapted_model_computes_with_its_own_weights() -> None:
    shape, model, base = build("bert")
    with trained(Adapters(base, shape, shaped(shape, "krona"), torch.Generator().manual_seed(0))):
        twin = copy.deepcopy(model)
        with torch.no_grad():
            twin.base_model.encoder.layer[0].attention.self.query.weight.zero_()
        assert not torch.allclose(outputs(twin, shape), outputs(model, shape), atol=1e-4)


def pickled(both: Any) -> Any:
    return pickle.loads(pickle.dumps(both))


@pytest.mark.parametrize("copied", [copy.deepcopy, pickled])
@pytest.mark.parametrize(
    ("name", "method"), [("bert", "krona"), ("bert", "krona_b"), ("bert", "adapter"), ("gpt2", "lora")]
)
def test_a_copy_of_an_adapted_model_has_its_own_adapters(name: str, method: str, copied: Callable[[Any], Any]) -> None:
    """They are replaced forwards, hooks that keep an input, hooks after a site, and hooks on rows of a map."""
    shape, model, base = build(name)
    with trained(Adapters(base, shape, shaped(shape, method), torch.Generator().manual_seed(0))) as adapters:
        adapted = outputs(model, shape)
        twin, own = copied((model, adapters))
        assert torch.equal(outputs(twin, shape), adapted)
        with torch.no_grad():
            for parameter in adapters.modules.parameters():
                parameter.add_(0.3)
        assert torch.equal(outputs(twin, shape), adapted), "what is trained on does not reach the copy"
        outputs(twin, shape)
        changed = outputs(model, shape)
        own.detach()
        assert torch.equal(outputs(model, shape), changed), "the copied set leaves the first model alone"
    assert torch.equal(outputs(twin, shape), outputs(model, shape)), "both are plain again"


def saved(both: Any) -> Any:
    file = io.BytesIO()
    torch.save(both, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("copied", [copy.deepcopy, pickled, saved])
@pytest.mark.parametrize("method", OWN)
def test_a_copy_gets_back_the_parameters_that_its_own_set_trained(method: str, copied: Callable[[Any], Any]) -> None:
    """Two sets are on the model, of which the one below leaves first."""
    shape, model, base = build("bert")
    before, own = outputs(model, shape), dict(model.named_parameters())
    below = trained(Adapters(base, shape, shaped(shape, "krona", layer_norms="adapted"), torch.Generator()))
    adapters = trained(Adapters(base, shape, shaped(shape, method, **OWN[method]), torch.Generator()))
    adapted = outputs(model, shape)
    twin, *sets = copied((model, below, adapters))
    assert torch.equal(outputs(twin, shape), adapted)
    for each in sets:
        each.detach()
    assert torch.equal(outputs(twin, shape), before)
    for name, parameter in twin.named_parameters():
        assert type(parameter) is type(own[name])
        assert (parameter.dtype, parameter.requires_grad) == (own[name].dtype, own[name].requires_grad)
        assert torch.equal(parameter, own[name])
    assert not any("krona_tune" in key for module in twin.modules() for key in vars(module))
    assert torch.equal(outputs(model, shape), adapted), "the copied sets leave the first model alone"
    below.detach()
    adapters.detach()
    assert all(parameter is own[name] for name, parameter in model.named_parameters())


def test_the_first_values_depend_on_the_generator_alone() -> None:
    shape, _, base = build("bert")

    def drawn(seed: int) -> torch.Tensor:
        torch.manual_seed(torch.randint(100, ()).item())
        with Adapters(base, shape, shaped(shape, "krona"), torch.Generator().manual_seed(seed)) as adapters:
            return torch.cat([p.flatten() for p in adapters.parameters()]).detach()

    assert torch.equal(drawn(3), drawn(3))
    assert not torch.equal(drawn(3), drawn(4))


def test_the_state_comes_back_and_another_shapes_is_refused() -> None:
    shape, model, base = build("deberta")
    config = shaped(shape, "krona", roles="query+value", layer_norms=True)
    with trained(Adapters(base, shape, config, torch.Generator().manual_seed(0))) as adapters:
        state, adapted = adapters.state(), outputs(model, shape)
    assert "adapter.encoder.layer.0.attention.self.in_proj#query.a" in state
    with Adapters(base, shape, config, torch.Generator().manual_seed(5)) as again:
        again.load_state(state)
        assert torch.equal(outputs(model, shape), adapted)
    other = config.model_copy(update={"a_out": 2})
    with (
        Adapters(base, shape, other, torch.Generator()) as adapters,
        pytest.raises(ValueError, match=r"in_proj#query.a is \(4, 2\), the model takes \(2, 2\)"),
    ):
        adapters.load_state(state)
    with (
        Adapters(base, shape, config.model_copy(update={"layers": "last 1"}), torch.Generator()) as adapters,
        pytest.raises(ValueError, match="on one side only"),
    ):
        adapters.load_state(state)


@pytest.mark.parametrize("name", ["bert", "t5", "deberta"])
def test_bfloat16_backbones_keep_float32_adapters(name: str) -> None:
    shape, model, base = build(name)
    model.bfloat16()
    before = outputs(model, shape)
    with Adapters(base, shape, shaped(shape, "krona"), torch.Generator().manual_seed(0)) as adapters:
        assert torch.equal(outputs(model, shape), before)
        assert {p.dtype for p in adapters.parameters()} == {torch.float32}
        assert outputs(model, shape).dtype == torch.bfloat16


@pytest.mark.parametrize("method", ["bitfit", "lora", "krona"])
def test_an_adapted_map_gives_its_own_dtype_also_for_a_float32_input_under_autocast(method: str) -> None:
    """Layer norms give float32 under autocast; families fill scores with the least number of the query's dtype."""
    shape, model, base = build("bert")
    model.bfloat16()
    with (
        Adapters(base, shape, shaped(shape, method), torch.Generator().manual_seed(0)) as adapters,
        torch.autocast("cpu", torch.bfloat16),
    ):
        assert adapters.sites
        for site, _ in adapters.by_site():
            width = base.get_submodule(site.name).weight.shape[1]
            assert base.get_submodule(site.name)(torch.randn(2, width)).dtype == torch.bfloat16


def test_sites_follow_roles_stacks_and_layers() -> None:
    shape, _, _ = build("t5")

    def names(**knobs: str) -> list[str]:
        return [site.name for site in sites(shape, AdapterConfig(**knobs))]

    assert names(roles="cross_query", layers="last 1") == ["decoder.block.2.layer.1.EncDecAttention.q"]
    assert names(roles="value", stacks="encoder", layers="0") == ["encoder.block.0.layer.0.SelfAttention.v"]
    assert len(names(roles="query+value")) == 2 * 5
    assert len(names(method="krona_b", layers="every other")) == 2


@pytest.mark.parametrize("method", ["krona", "lora", "lokr", "adapter", "compacter", "peft:VeRA"])
def test_fresh_adapters_are_the_same_whatever_torchs_default_device(method: str) -> None:
    shape, _, base = build("bert")
    states = []
    for device in ("cpu", "meta"):
        with torch.device(device):
            adapters = Adapters(base, shape, shaped(shape, method), torch.Generator("cpu").manual_seed(0))
        states.append(adapters.state())
        adapters.detach()
    one, other = states
    assert one.keys() == other.keys()
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
