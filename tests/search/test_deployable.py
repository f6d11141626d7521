"""Tests that the space of a study that is deployed holds what its targets hold, all of it and nothing else."""

import random
from itertools import product
from typing import Any

import pytest

from krona_tune.adapters.exact_forms import PlacedAdapter, misfit
from krona_tune.refusal import Refusal
from krona_tune.search.planning.deployable import Deployable, deployable
from krona_tune.search.planning.resolved_space import resolve
from krona_tune.search.planning.space import adapter_of
from krona_tune.study.request.deploy_target import read_target
from krona_tune.study.request.domain import Choice, Fixed, Range
from krona_tune.study.request.loader import build_spec
from tests.models import build


def limited(name: str, deploy: str, adapter: dict[str, Any], writes: bool = False, **sections: Any) -> Deployable:
    shape = build(name)[0]
    shape = shape.writing() if writes else shape
    spec = build_spec({"model": "m", "adapter": adapter, "deploy": deploy, **sections}, "x.yaml")
    return deployable(resolve(spec, shape, "x.yaml"), spec, "x.yaml")


@pytest.mark.parametrize("biases", [[True, False], [False, True]])
def test_a_bias_that_a_merged_map_has_no_place_for_is_left_out_whatever_the_order(biases: list[bool]) -> None:
    made = limited("t5", "merged", {"method": "peft:LoRA", "peft_r": 2, "peft_lora_bias": biases})
    assert made.space.knobs["peft:LoRA"]["peft_lora_bias"] == Fixed(False)


def test_a_study_without_targets_keeps_its_space() -> None:
    spec = build_spec({"model": "m", "adapter": {"a_out": "divisors"}}, "x.yaml")
    space = resolve(spec, build("bert")[0], "x.yaml")
    assert deployable(space, spec, "x.yaml") == Deployable(space=space)


@pytest.mark.parametrize("deploy", ["peft", "krona", "merged,peft"])
def test_just_the_points_that_the_targets_hold_are_feasible(deploy: str) -> None:
    sizes = {"a_out": [2, 4], "a_in": [2, 3, 4, 24], "terms": [1, 2]}
    limited_space = limited("bert", deploy, sizes | {"roles": ["query", "query+feed_forward_in"]}).space
    unlimited = limited("bert", "merged", sizes | {"roles": ["query", "query+feed_forward_in"]}).space
    roles = ("query", "query+feed_forward_in")
    held = 0
    for a_out, a_in, terms, role in product(*sizes.values(), roles):
        values = {"a_out": a_out, "a_in": a_in, "terms": terms, "roles": role}
        point = unlimited.draw(random.Random(0)) | values
        it = PlacedAdapter(geometry=unlimited.geometry, adapter=adapter_of(point))
        is_held = all(misfit(read_target(word), it) is None for word in deploy.split(","))
        held += is_held
        assert limited_space.feasible(point) == is_held
        knobs = limited_space.knobs["krona"]
        assert not is_held or all(knobs[name].equal_value(value) is not None for name, value in values.items())
    assert held > 0
    assert limited_space.feasible_share() > 0.2


def test_methods_that_a_target_lacks_are_left_out_and_said_together() -> None:
    made = limited("bert", "peft", {"method": ["krona", "bitfit", "krona_b", "lora"], "a_out": 4, "a_in": [4, 6]})
    assert made.space.methods == ("krona", "lora")
    assert made.space.knobs.keys() == {"krona", "lora"}
    assert made.left_out == ("bitfit, krona_b (peft has no bitfit)", "a_in 6 of krona")
    assert made.space.knobs["krona"]["a_in"] == Fixed(4)


@pytest.mark.parametrize(
    ("rank", "kept"),
    [([2, 8, 12], Choice((2, 8))), ({"low": 2, "high": 16, "log": True}, Range(2, 9, log=True)), ([9, 12], Fixed(9))],
)
def test_ranks_beyond_the_targets_are_left_out(rank: Any, kept: Any) -> None:
    made = limited("llama", "vllm:9", {"method": "lora", "rank": rank, "roles": "query"}, writes=True)
    assert made.space.knobs["lora"]["rank"] == kept
    assert len(made.left_out) == 1
    assert made.left_out[0].startswith("rank 1")


def test_a_fused_map_is_left_out_of_the_places() -> None:
    made = limited("gpt2", "peft", {"method": "lora", "roles": ["query", "output"]})
    assert made.space.knobs["lora"]["roles"] == Fixed("output")
    assert made.left_out == ("roles query of lora",)


@pytest.mark.parametrize(
    ("name", "deploy", "adapter", "sections", "message"),
    [
        ("bert", "merged", {"method": "krona_b"}, {}, "merged: krona_b can't be added .*; choose another target"),
        ("bert", "vllm:8", {}, {}, "vLLM serves LoRA on decoders that write, not on a model with a task's head"),
        ("bert", "gguf", {}, {}, r"gguf: llama\.cpp's LoRA has no head of a task, and this bert answers with one"),
        ("bert", "peft", {"a_out": 4, "a_in": 6}, {}, "peft's LoKr, .*has no 4x6⊗6x4"),
        ("bert", "peft,vllm:8", {"a_out": 4, "a_in": [6, 4]}, {}, "vLLM serves LoRA on decoders that write"),
        ("bert", "vllm:8,peft", {"a_out": 4, "a_in": [6, 4]}, {}, "vLLM serves LoRA on decoders that write"),
        (
            "bert",
            "peft",
            {"a_out": 4, "a_in": [4, 6]},
            {"search": {"max_params": "300"}},
            "no adapter of krona that peft holds was drawn within the other limits; raise --max-params",
        ),
    ],
)
def test_a_target_that_holds_nothing_is_refused_at_once(
    name: str, deploy: str, adapter: dict[str, Any], sections: dict[str, Any], message: str
) -> None:
    with pytest.raises(Refusal, match=rf"x\.yaml: deploy: {message}"):
        limited(name, deploy, adapter, **sections)
