"""Tests that a plan says which roles of its space the model lacks, and that a default space fits any model."""

from pathlib import Path
from typing import Any

import pytest

from krona_tune.api.shipped_spaces import space_file
from krona_tune.backbones.geometry import Role
from krona_tune.backbones.introspect import introspect
from krona_tune.refusal import Refusal
from krona_tune.search.planning.plan import Plan, make_plan
from krona_tune.study.request.domain import Choice, Fixed
from krona_tune.study.request.loader import build_spec
from tests.backbone_folders import folder_of
from tests.backbones.families import tiny
from tests.study.request.written_specs import load_changed


def plan(model_type: str, folder: Path, **sections: Any) -> Plan:
    model = str(folder_of(tiny(model_type), folder / model_type))
    asked = {"model": model, "data": "mini", "tasks": ["rte"], "examples": {"max_length": 32}, **sections}
    return make_plan(build_spec(asked, "x.yaml"), "x.yaml")


def test_a_role_that_the_space_asks_for_and_the_model_lacks_is_said(tmp_path: Path) -> None:
    [said] = plan("convbert", tmp_path, adapter={"roles": "query+value"}).lacking()
    assert said.startswith("adapter.roles asks for query, but attention.self.query is left out: its name says query")
    taken = introspect(tiny("convbert"), "here", {Role.QUERY: "*attention.self.query"}).sites
    assert sum(site.role is Role.QUERY for site in taken) == 2
    assert list(plan("convbert", tmp_path / "value", adapter={"roles": "value"}).lacking()) == []


def test_a_knob_that_no_searched_method_reads_is_said(tmp_path: Path) -> None:
    said = plan("bert", tmp_path, adapter={"rank": 8, "a_out": 4}).lacking()
    assert list(said) == ["adapter: rank has no effect on krona"]
    lora = plan("bert", tmp_path / "lora", adapter={"method": "lora", "rank": 8, "a_out": 4, "a_in": 4}).lacking()
    assert list(lora) == ["adapter: a_in, a_out have no effect on lora"]


def test_a_knob_that_every_method_overrides_is_said(tmp_path: Path) -> None:
    adapter = {"method": ["lora", "bitfit", "peft:HiRA"], "rank": 4, "r": 8}
    methods = {"lora": {"rank": 2}, "peft:HiRA": {"r": [1, 2]}}
    said = plan("bert", tmp_path, adapter=adapter, methods=methods).lacking()
    assert list(said) == ["adapter: r, rank have no effect: overridden in methods.lora and methods.peft:HiRA"]
    made = plan(
        "bert",
        tmp_path / "training",
        adapter={"method": ["lora", "bitfit"], "rank": 4},
        training={"learning_rate": 2e-3, "batch_size": 8},
        methods={name: {"learning_rate": 5e-3, "layers": "last 1"} for name in ("lora", "bitfit")},
    )
    [training] = made.lacking()
    assert training == "training: learning_rate has no effect: overridden in methods.lora and methods.bitfit"
    one = plan(
        "bert", tmp_path / "one", adapter={"method": ["lora", "krona"], "scale": 2}, methods={"lora": {"scale": 4}}
    )
    assert list(one.lacking()) == []


def test_methods_that_are_not_searched_are_said_where_they_have_knobs_of_their_own(tmp_path: Path) -> None:
    own = {"lora": {"rank": 4}, "bitfit": {"learning_rate": 5e-3}, "lokr": {"rank": 2}}
    said = plan("bert", tmp_path, adapter={"method": ["krona", "lora"]}, methods=own).lacking()
    assert list(said) == ["methods: bitfit, lokr have no effect: adapter.method is krona and lora"]


def test_a_given_knob_of_a_method_replaces_that_of_a_shipped_space(tmp_path: Path) -> None:
    model = str(folder_of({**tiny("bert"), "hidden_size": 32, "num_hidden_layers": 4}, tmp_path / "bert"))
    spec = load_changed(space_file("mini"), ("methods.krona.terms=3",), {"model": model, "tasks": ("rte",)})
    made = make_plan(spec, "mini.yaml")
    assert made.space.knobs["krona"]["terms"] == Fixed(3)
    assert "adapter: terms has no effect: overridden in methods.krona" in list(made.lacking())


@pytest.mark.parametrize(
    ("model_type", "roles", "layers"),
    [
        ("bert", Choice(("query+value", "query+key+value")), Fixed("all")),
        ("fnet", Fixed("feed_forward_in+feed_forward_out"), Fixed("all")),
        ("convbert", Choice(("query+value", "query+key+value")), Fixed("all")),
    ],
)
def test_the_default_space_fits_models_of_two_layers_and_without_attention(
    model_type: str, roles: Any, layers: Any, tmp_path: Path
) -> None:
    model = str(folder_of({**tiny(model_type), "hidden_size": 32}, tmp_path / model_type))
    spec = load_changed(space_file("mini"), (), {"model": model, "tasks": ("rte",)})
    made = make_plan(spec, "mini.yaml")
    [knobs] = made.space.knobs.values()
    assert (knobs["roles"], knobs["layers"]) == (roles, layers)
    assert f"adapter.layers: last 4 left out, which this {model_type} lacks" in list(made.lacking())


@pytest.mark.parametrize("method", ["krona_b", "full"])
def test_a_placement_that_the_method_does_not_read_is_not_said_to_lack(method: str, tmp_path: Path) -> None:
    model = str(folder_of({**tiny("bert"), "hidden_size": 32, "num_hidden_layers": 4}, tmp_path / "bert"))
    spec = load_changed(space_file("mini"), (), {"model": model, "tasks": ("rte",), "adapter": {"method": method}})
    said = " ".join(make_plan(spec, "mini.yaml").lacking())
    assert "lacks" not in said


def test_another_space_is_refused_with_what_the_model_lacks(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="last 4"):
        plan("bert", tmp_path, adapter={"layers": ["all", "last 4"]})


@pytest.mark.parametrize("asked", ["adapter.layers=last 9", "adapter.roles=cross_query"])
def test_a_placement_that_is_asked_for_alone_is_refused_and_not_left_out(asked: str, tmp_path: Path) -> None:
    model = str(folder_of({**tiny("bert"), "hidden_size": 32}, tmp_path / "bert"))
    with pytest.raises(Refusal, match=asked.rpartition("=")[2]):
        make_plan(load_changed(space_file("mini"), (asked,), {"model": model, "tasks": ("rte",)}), "mini.yaml")


def test_more_tokens_than_rotary_positions_were_trained_on_are_said(tmp_path: Path) -> None:
    llama = {"max_position_embeddings": 24, "num_hidden_layers": 2}
    model = str(folder_of({**tiny("llama"), **llama}, tmp_path / "llama"))
    for length, said in ((24, []), (32, [f"examples.max_length: {model} was trained to read 24 tokens at once"])):
        asked = {"model": model, "data": "mini", "tasks": ["rte"], "examples": {"max_length": length}}
        made = make_plan(build_spec(asked, "x.yaml"), "x.yaml")
        assert made.positions == 24
        assert list(made.lacking()) == said


def test_a_range_that_holds_a_zero_which_its_knob_refuses_is_refused(tmp_path: Path) -> None:
    """Its ends are taken, and a trial between them would fail."""
    lokr = {"method": "lokr", "rank": 2}
    with pytest.raises(Refusal, match="adapter: decompose_factor: 0 is refused"):
        plan("bert", tmp_path / "a", adapter={**lokr, "decompose_factor": {"low": -1, "high": 16}})
    assert plan("bert", tmp_path / "b", adapter={**lokr, "decompose_factor": {"low": -1, "high": 3, "step": 2}})


def test_a_bert_whose_head_would_see_its_first_token_alone_is_refused(tmp_path: Path) -> None:
    model = str(folder_of({**tiny("bert"), "is_decoder": True}, tmp_path / "bert"))
    asked = {"model": model, "data": "mini", "tasks": ["rte"], "examples": {"max_length": 32}}
    with pytest.raises(
        Refusal, match=r'config\.json: is_decoder: a head reads the first token, .*; write "is_decoder": fa'
    ):
        make_plan(build_spec(asked, "x.yaml"), "x.yaml")
