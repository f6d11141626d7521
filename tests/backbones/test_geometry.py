"""Tests that the integers read from a config equal what transformers builds from it, module by module."""

import pytest
import torch
import transformers

from krona_tune.backbones.find_geometry import geometry
from krona_tune.backbones.geometry import Role, Stack
from krona_tune.refusal import Refusal
from tests.backbones.families import build as build_family
from tests.models import CONFIGS, HEADED, OWN_HEADS, T5_BASE_SIZES, build, build_from


@pytest.mark.parametrize("name", CONFIGS)
def test_each_site_is_a_map_of_that_size(name: str) -> None:
    shape, _, base = build(name, device="meta")
    maps = [site for site in shape.sites if site.role is not Role.FEED_FORWARD]
    for site in maps:
        module = base.get_submodule(site.name)
        assert type(module).__name__ == ("Conv1D" if site.transposed else "Linear")
        assert tuple(module.get_parameter("weight").shape) == site.weight_shape
        assert site.biased == (getattr(module, "bias", None) is not None)
        assert site.rows is None or site.rows.block * site.rows.count == site.d_out
        assert site.name.startswith(f"{site.layer_name}.")
    assert len({site.key for site in maps}) == len(maps)
    blocks = [site for site in shape.sites if site.role is Role.FEED_FORWARD]
    assert {(site.d_out, site.d_in) for site in blocks} <= {(shape.width, shape.width)}


@pytest.mark.parametrize("name", CONFIGS)
def test_parameters_norms_and_head_are_counted_exactly(name: str) -> None:
    shape, model, base = build(name, device="meta")
    assert shape.parameters == sum(p.numel() for p in base.parameters())
    norms = [m for m in base.modules() if type(m).__name__.endswith("Norm")]
    assert shape.norms == sum(p.numel() for m in norms for p in m.parameters())
    for stack, counted in shape.norms_of_layer.items():
        layers = dict.fromkeys(site.layer_name for site in shape.sites if site.stack is stack)
        inside = [[m for m in base.get_submodule(name).modules() if m in norms] for name in layers]
        assert counted == tuple(sum(p.numel() for m in each for p in m.parameters()) for each in inside)
    assert shape.head_parameters(3) == sum(p.numel() for p in model.parameters()) - shape.parameters


@pytest.mark.parametrize("name", ["gpt2", "llama", "opt", "gpt_neox"])
@pytest.mark.parametrize("tied", [True, False])
def test_a_decoder_that_writes_has_its_output_embeddings_too(name: str, tied: bool) -> None:
    model_type, values = CONFIGS[name]
    config = transformers.AutoConfig.for_model(model_type, **values, tie_word_embeddings=tied)
    with torch.device("meta"):
        whole = transformers.AutoModelForCausalLM.from_config(config)
    shape = geometry(config.to_dict())
    assert shape.writing().parameters == sum(p.numel() for p in whole.parameters())
    assert shape.parameters == sum(p.numel() for p in whole.base_model.parameters())
    assert shape.writing().writing() == shape.writing()


@pytest.mark.parametrize("name", [name for name, (_, sizes) in CONFIGS.items() if "tie_word_embeddings" not in sizes])
def test_a_config_that_says_only_its_sizes_is_counted_as_it_is_built(name: str) -> None:
    model_type, sizes = CONFIGS[name]
    base = build(name, device="meta")[2]
    assert geometry({"model_type": model_type, **sizes}).parameters == sum(p.numel() for p in base.parameters())


def test_t5_base_has_the_papers_numbers() -> None:
    shape, _, _ = build_from("t5", T5_BASE_SIZES, device="meta")
    assert shape.parameters == 222_903_552
    assert shape.norms == 62 * 768 == 47_616
    adapted = {Role.QUERY, Role.VALUE, Role.CROSS_QUERY, Role.CROSS_VALUE}
    assert sum(site.role in adapted for site in shape.sites) == 72
    assert shape.depths == {Stack.ENCODER: 12, Stack.DECODER: 12}


def test_an_unknown_family_is_refused_with_a_suggestion() -> None:
    with pytest.raises(Refusal, match=r"x/config.json: unknown model_type 'robert', did you mean 'roberta'\?"):
        geometry({"model_type": "robert"}, "x/config.json")
    with pytest.raises(Refusal, match="states no model_type"):
        geometry({"vocab_size": 10})


@pytest.mark.parametrize(
    ("name", "key", "value", "said"),
    [
        ("bert", "hidden_act", "gleu", "unknown activation 'gleu', did you mean 'gelu'"),
        ("deberta-v2", "pooler_hidden_act", "gated-gleu", "pooler_hidden_act: unknown activation"),
        ("distilbert", "activation", ["relu"], "unknown activation"),
        ("t5", "feed_forward_proj", "gated-rleu", "unknown activation 'gated-rleu'"),
    ],
)
def test_an_unknown_activation_is_refused(name: str, key: str, value: object, said: str) -> None:
    model_type, sizes = CONFIGS[name]
    with pytest.raises(Refusal, match=said):
        geometry({"model_type": model_type, **sizes, key: value})


def test_a_key_that_a_family_does_not_read_is_left_alone() -> None:
    model_type, sizes = CONFIGS["bert"]
    assert geometry({"model_type": model_type, **sizes, "activation_function": "swiglu"}).sites


def test_each_layer_may_have_a_width_of_its_own() -> None:
    config = {"model_type": "gemma3n_text", **OWN_HEADS, "num_kv_shared_layers": 0, "pad_token_id": 0}
    named = {Role.NAMED: r".*mlp\.down_proj"}
    with pytest.raises(Refusal, match=r"intermediate_size is \[40, 0, 48\]; it is a whole number from 1 to"):
        geometry({**config, "intermediate_size": [40, 0, 48]})
    sites = geometry({**config, "intermediate_size": [40, 44, 48]}, corrections=named).sites
    assert [site.d_in for site in sites] == [40, 44, 48]


@pytest.mark.parametrize("name", [*HEADED, "nystromformer", "yoso"])
def test_the_longest_input_is_read_and_no_longer_one(name: str) -> None:
    shape, model = build(name)[:2] if name in HEADED else build_family(name)
    longest = shape.positions or 60
    ids = torch.full((1, longest), 7)
    assert torch.isfinite(model(input_ids=ids).logits).all()
    if shape.positions:
        with pytest.raises((IndexError, RuntimeError)):
            model(input_ids=torch.full((1, longest + 1), 7))
