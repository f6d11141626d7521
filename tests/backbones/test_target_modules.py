"""Tests that a person names the maps that carry an adapter in peft's words, and that nothing is placed beside them."""

from pathlib import Path
from typing import Any

import pytest

from krona_tune.adapters.placement import frozen_layers, sites
from krona_tune.backbones.geometry import Role
from krona_tune.backbones.introspect import introspect
from krona_tune.refusal import Refusal
from krona_tune.search.planning.plan import make_plan
from krona_tune.study.request.loader import build_spec
from krona_tune.study.request.study_spec import BackboneSpec
from krona_tune.study.request.trial import AdapterConfig
from tests.backbone_folders import folder_of
from tests.backbones.families import tiny


def named(model_type: str, modules: Any) -> set[str]:
    spec = BackboneSpec.model_validate({"target_modules": modules})
    shape = introspect(tiny(model_type), "here", spec.corrections)
    assert {site.role for site in shape.sites} == {Role.NAMED}
    assert {site.name for site in sites(shape, AdapterConfig())} == {site.name for site in shape.sites}
    return {site.name for site in shape.sites}


@pytest.mark.parametrize(
    ("modules", "ends"),
    [
        (["query", "attention.self.value"], ("self.query", "self.value")),
        (r".*\.0\.attention\.self\.(query|key)", ("0.attention.self.query", "0.attention.self.key")),
        (["encoder.layer.1.output.dense"], ("layer.1.output.dense",)),
        (r"bert\.encoder\.layer\.\d\.intermediate\.dense", ("intermediate.dense",)),
    ],
)
def test_names_ends_and_expressions_choose_what_peft_would_choose(modules: Any, ends: tuple[str, ...]) -> None:
    import transformers
    from peft import LoraConfig, get_peft_model

    config = transformers.AutoConfig.for_model(**tiny("bert"))
    model = get_peft_model(
        transformers.AutoModelForSequenceClassification.from_config(config), LoraConfig(target_modules=modules)
    )
    theirs = {
        name.removeprefix("base_model.model.bert.").removesuffix(".lora_A.default")
        for name, _ in model.named_modules()
        if name.endswith(".lora_A.default")
    }
    found = named("bert", modules)
    assert found == theirs
    assert all(name.endswith(ends) for name in found)


def test_maps_of_a_family_without_attention_carry_adapters_if_they_are_named() -> None:
    assert named("mamba", ["in_proj", "x_proj"]) == {
        f"layers.{n}.mixer.{end}" for n in (0, 1) for end in ("in_proj", "x_proj")
    }
    assert len(named("xlm", "all-linear")) == 12  # of both lists of layers


def test_named_maps_have_their_place_in_the_model() -> None:
    shape = introspect(tiny("bert"), "here", BackboneSpec(target_modules=("layer.1.output.dense",)).corrections)
    assert frozen_layers(shape, AdapterConfig()) == 1
    assert (shape.sites[0].d_out, shape.sites[0].d_in) == (24, 40)
    for method in ("parallel_adapter", "adapter"):
        with pytest.raises(Refusal, match="no such site"):
            sites(shape, AdapterConfig(method=method))


def test_of_named_maps_those_in_the_chosen_stacks_and_layers_carry_adapters() -> None:
    shape = introspect(tiny("t5"), "here", BackboneSpec(target_modules=("SelfAttention.q",)).corrections)

    def places(method: str, **chosen: str) -> set[tuple[str, int]]:
        return {(str(site.stack), site.layer) for site in sites(shape, AdapterConfig(method=method, **chosen))}

    for method in ("krona", "bitfit"):
        both = places(method)
        assert places(method, layers="0") == {("encoder", 0), ("decoder", 0)} < both
        assert places(method, stacks="decoder") == {place for place in both if place[0] == "decoder"} < both
    first = introspect(tiny("bert"), "here", BackboneSpec(target_modules=("layer.0.output.dense",)).corrections)
    with pytest.raises(Refusal, match="layers 1: no such site in this bert; its roles are named; its stacks encoder"):
        sites(first, AdapterConfig(layers="1"))


def test_a_name_outside_the_layers_is_said_and_alone_refused() -> None:
    shape = introspect(tiny("bert"), "here", BackboneSpec(target_modules=("dense",)).corrections)
    assert [(each.name, each.reason) for each in shape.left_out] == [("pooler.dense", "it is in no layer")]
    for names in (("pooler.dense",), ("q_proj",)):
        with pytest.raises(Refusal, match=r"backbone: target_modules: they match no linear map.*maps: attention\."):
            introspect(tiny("bert"), "here", BackboneSpec(target_modules=names).corrections)


def test_each_name_names_a_map() -> None:
    """Else a study would leave out what was misspelt, and say nothing."""
    names = BackboneSpec(target_modules=("query", "valeu.x")).corrections
    with pytest.raises(
        Refusal, match=r"backbone: target_modules: 'valeu.x' names no linear map of this bert; maps: att"
    ):
        introspect(tiny("bert"), "here", names)


def test_layers_that_share_weights_are_counted_as_by_roles() -> None:
    named = introspect(tiny("albert"), "here", BackboneSpec(target_modules=("query",)).corrections)
    assert named.uses == introspect(tiny("albert"), "here").uses > 1


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"adapter": {"roles": ["query", "value"]}}, r"adapter.roles: backbone.target_modules fixes the maps"),
        ({"adapter": {"layers": "all"}}, r"adapter.layers: backbone.target_modules fixes the maps"),
        ({"backbone": {"target_modules": "("}}, r"is no regular expression"),
        ({"backbone": {"target_modules": ["all-linear", "pooler"]}}, r"all-linear is a word for all maps"),
        ({"backbone": {"target_modules": "(?x)(\nquery)"}}, r"several lines; write it in one"),
        ({"backbone": {"target_modules": []}}, r"it names nothing; write names of maps"),
        ({"backbone": {"target_modules": ["q"], "roles": {"query": "*.q"}}}, r"leave one of them out"),
        ({"backbone": {"roles": {"named": "*.q"}}}, r"backbone.target_modules names"),
        ({"backbone": {"target_modules": ["q_proj"]}}, r"they match no linear map"),
    ],
)
def test_what_says_nothing_is_refused_before_anything_starts(
    sections: dict[str, Any], said: str, tmp_path: Path
) -> None:
    model = str(folder_of(tiny("bert"), tmp_path / "bert"))
    asked = {
        "model": model,
        "data": "mini",
        "tasks": ["rte"],
        "backbone": {"target_modules": ["query"]},
        "examples": {"max_length": 32},
    }
    with pytest.raises(Refusal, match=said):
        make_plan(build_spec({**asked, **sections}, "x.yaml"), "x.yaml")
    plan = make_plan(build_spec(asked, "x.yaml"), "x.yaml")
    assert plan.space.sizes() == [2 * 577]
