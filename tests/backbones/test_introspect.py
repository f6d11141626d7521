"""Tests what introspection finds against tables written by hand, and what it refuses or leaves out."""

import copy
from typing import Any

import pytest
import transformers

from krona_tune.backbones import introspect as introspection
from krona_tune.backbones import map_roles
from krona_tune.backbones.geometry import Geometry, LeftOut, Role, Rows, Stack
from krona_tune.backbones.introspect import introspect
from krona_tune.backbones.map_roles import regular_rows
from krona_tune.refusal import Refusal
from tests.backbones.expected_maps import EXPECTED, Expected
from tests.models import BART, CONFIGS, ENCODER, GPT, OWN_HEADS


def of(name: str) -> Geometry:
    model_type, values = CONFIGS[name]
    return introspect({"model_type": model_type, **values}, name)


def found(shape: Geometry, stack: Stack, layer: int) -> dict[Role, set[str]]:
    names: dict[Role, set[str]] = {}
    for site in shape.sites:
        if (site.stack, site.layer) == (stack, layer) and site.role is not Role.FEED_FORWARD:
            names.setdefault(site.role, set()).add(site.name.removeprefix(f"{site.layer_name}."))
    return names


@pytest.mark.parametrize("name", CONFIGS)
def test_each_map_has_the_role_that_a_person_gives_it(name: str) -> None:
    shape = of(name)
    table = EXPECTED.get(name, EXPECTED.get(CONFIGS[name][0]))
    assert table is not None
    tables: list[Expected] = list(table) if isinstance(table, tuple) else [table]
    for (stack, depth), expected in zip(shape.depths.items(), tables, strict=True):
        for layer in range(depth):
            assert found(shape, stack, layer) == {role: set(names) for role, names in expected.items()}


@pytest.mark.parametrize("name", CONFIGS)
def test_each_layer_has_a_feed_forward_block_between_its_maps(name: str) -> None:
    shape = of(name)
    blocks = [site for site in shape.sites if site.role is Role.FEED_FORWARD]
    assert len(blocks) == sum(shape.depths.values())
    for site in blocks:
        inside = [each for each in shape.sites if each.layer_name == site.layer_name]
        ends = {"enters": Role.FEED_FORWARD_IN, "name": Role.FEED_FORWARD_OUT}
        for end, role in ends.items():
            at = getattr(site, end)
            assert any(each.role is role and (each.name == at or each.name.startswith(f"{at}.")) for each in inside)


FIRST_OF_FOUR_HEADS = {
    Role.QUERY: Rows(start=0, block=6, stride=18, count=4, total=72),
    Role.KEY: Rows(start=6, block=6, stride=18, count=4, total=72),
    Role.VALUE: Rows(start=12, block=6, stride=18, count=4, total=72),
}
ONE_AFTER_THE_OTHER = {
    Role.QUERY: Rows(start=0, block=24, stride=24, count=1, total=72),
    Role.KEY: Rows(start=24, block=24, stride=24, count=1, total=72),
    Role.VALUE: Rows(start=48, block=24, stride=24, count=1, total=72),
}
ONE_KEY_HEAD = {
    Role.QUERY: Rows(start=0, block=24, stride=24, count=1, total=36),
    Role.KEY: Rows(start=24, block=6, stride=6, count=1, total=36),
    Role.VALUE: Rows(start=30, block=6, stride=6, count=1, total=36),
}


@pytest.mark.parametrize(
    ("config", "rows"),
    [
        ({"model_type": "deberta", **ENCODER}, FIRST_OF_FOUR_HEADS),
        ({"model_type": "gpt_neox", **ENCODER}, FIRST_OF_FOUR_HEADS),
        ({"model_type": "bloom", "vocab_size": 97, "hidden_size": 24, "n_layer": 2, "n_head": 4}, FIRST_OF_FOUR_HEADS),
        ({"model_type": "gpt2", **GPT}, ONE_AFTER_THE_OTHER),
        ({"model_type": "modernbert", **ENCODER, "pad_token_id": 0}, ONE_AFTER_THE_OTHER),
        ({"model_type": "mpt", "vocab_size": 97, "d_model": 24, "n_heads": 4, "n_layers": 2}, ONE_AFTER_THE_OTHER),
        ({"model_type": "gpt_bigcode", **GPT}, ONE_KEY_HEAD),
        ({"model_type": "falcon", **ENCODER}, ONE_KEY_HEAD),
    ],
    ids=lambda value: value.get("model_type") if "model_type" in value else "",
)
def test_the_rows_of_a_fused_map_are_told_by_gradients(config: dict[str, Any], rows: dict[Role, Rows]) -> None:
    sites = introspect(config, "here").sites
    assert {site.role: site.rows for site in sites if site.rows and site.layer == 1} == rows


def test_groups_of_heads_share_a_key_and_a_value() -> None:
    config = {"model_type": "falcon", **ENCODER, "new_decoder_architecture": True, "num_kv_heads": 2}
    rows = {site.role: site.rows for site in introspect(config, "here").sites if site.rows and site.layer == 0}
    assert rows == {
        Role.QUERY: Rows(start=0, block=12, stride=24, count=2, total=48),
        Role.KEY: Rows(start=12, block=6, stride=24, count=2, total=48),
        Role.VALUE: Rows(start=18, block=6, stride=24, count=2, total=48),
    }


@pytest.mark.parametrize(
    ("name", "stack"), [("llama", Stack.DECODER), ("opt", Stack.DECODER), ("eurobert", Stack.ENCODER)]
)
def test_a_decoder_is_told_by_tokens_that_reach_no_earlier_one(name: str, stack: Stack) -> None:
    assert of(name).depths == {stack: 3}


def test_one_layer_that_is_used_three_times_counts_once() -> None:
    shape = of("albert")
    assert (shape.depths, shape.uses) == ({Stack.ENCODER: 1}, 3)


def test_experts_and_low_rank_attention_are_left_out_by_name() -> None:
    mixtral = introspect({"model_type": "mixtral", **OWN_HEADS, "num_local_experts": 4}, "here")
    left = {each.name: each.reason for each in mixtral.left_out}
    assert left["mlp.experts.gate_up_proj"] == "it is a parameter of 3 dimensions, no linear map"
    assert {site.role for site in mixtral.sites} == {Role.QUERY, Role.KEY, Role.VALUE, Role.OUTPUT}
    deepseek = introspect(DEEPSEEK, "here")
    assert {each.name for each in deepseek.left_out} >= {"self_attn.q_a_proj", "self_attn.kv_b_proj"}
    assert {site.role for site in deepseek.sites} >= {Role.OUTPUT, Role.FEED_FORWARD_IN}


DEEPSEEK = {
    "model_type": "deepseek_v3", **ENCODER, "num_key_value_heads": 4, "q_lora_rank": 6, "kv_lora_rank": 5,
    "qk_rope_head_dim": 4, "qk_nope_head_dim": 6, "v_head_dim": 6, "n_routed_experts": 4, "num_experts_per_tok": 2,
    "n_group": 2, "topk_group": 1, "first_k_dense_replace": 1, "moe_intermediate_size": 20,
}  # fmt: skip


def test_a_map_whose_name_and_gradients_disagree_is_left_out_with_both_readings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours = map_roles.role_by_name
    monkeypatch.setattr(
        map_roles, "role_by_name", lambda name: Role.VALUE if name.endswith("self.query") else ours(name)
    )
    shape = introspect({"model_type": "bert", **ENCODER}, "here")
    assert shape.left_out == (LeftOut("attention.self.query", "its name says value, its gradients a query"),)
    assert Role.QUERY not in {site.role for site in shape.sites}


def test_a_map_whose_size_contradicts_the_config_is_left_out() -> None:
    shape = introspect({"model_type": "mobilebert", "num_hidden_layers": 1}, "here")
    assert "attention.self.query" in {each.name for each in shape.left_out}


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model_type": "mamba"}, "transformers neither classifies nor answers with a mamba"),
        ({"model_type": "jamba", "num_hidden_layers": 4}, "mixes tokens without attention"),
        ({"model_type": "clip"}, "a clip reads more than text; give its text model, a clip_text_model"),
        ({"model_type": "xlm"}, "has 2 lists of layers with linear maps, not 1: attentions, ffns"),
        ({"model_type": "robert"}, "unknown model_type 'robert', did you mean 'roberta'"),
        ({"model_type": "bert", **ENCODER, "num_attention_heads": 5}, "describes no bert"),
        ({"model_type": "bert", **ENCODER, "num_hidden_layers": 0}, "has 0 lists of layers"),
        ({"model_type": "llama", **OWN_HEADS, "hidden_size": 10**7, "intermediate_size": 10**7}, "parameters"),
    ],
)
def test_a_model_without_maps_to_adapt_is_refused_by_name(config: dict[str, Any], said: str) -> None:
    with pytest.raises(Refusal, match=said):
        introspect(config, "here")


@pytest.mark.parametrize(
    ("chosen", "rows"),
    [
        ("1100110011", (0, 2, 4, 3)),
        ("0111", (1, 3, 3, 1)),
        ("0101", (1, 1, 2, 2)),
        ("1101", None),
        ("1010010", None),
        ("0000", None),
    ],
)
def test_rows_are_regular_blocks_or_none(chosen: str, rows: tuple[int, ...] | None) -> None:
    named = regular_rows([each == "1" for each in chosen])
    assert (named and (named.start, named.block, named.stride, named.count)) == rows


def test_a_correction_gives_a_map_its_role_and_is_refused_if_it_names_none() -> None:
    config = {"model_type": "deberta-v2", **ENCODER, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]}
    shape = introspect(config, "here", {Role.KEY: "*.pos_key_proj"})
    assert sum(site.role is Role.KEY for site in shape.sites) == 6
    with pytest.raises(Refusal, match=r"backbone: roles: query: '\*.q_prj' names no map; maps: attention.output.dense"):
        introspect(config, "here", {Role.QUERY: "*.q_prj"})


def test_the_callers_random_state_stays() -> None:
    transformers.set_seed(3)
    import torch

    before = torch.random.get_rng_state()
    introspect({"model_type": "bert", **ENCODER}, "here")
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_in_half_precision_is_read_as_one_in_full(name: str) -> None:
    model_type, values = CONFIGS[name]
    assert introspect({"model_type": model_type, **values, "dtype": "float16"}, name) == of(name)


def test_the_callers_config_stays_as_it_is() -> None:
    config = {"model_type": "llama", **OWN_HEADS, "rope_scaling": {"rope_type": "linear", "factor": 2.0}}
    before = copy.deepcopy(config)
    introspect(config, "here")
    assert config == before


def test_an_expert_is_left_out_whichever_the_router_takes() -> None:
    sizes = {"vocab_size": 97, "d_model": 24, "d_ff": 40, "d_kv": 6, "num_heads": 4, "num_layers": 2, "num_experts": 4}
    shape = introspect({"model_type": "switch_transformers", **sizes, "num_sparse_encoder_layers": 1}, "here")
    assert not any("expert" in site.name for site in shape.sites)
    assert {each.reason for each in shape.left_out if "expert" in each.name} == {"it is one expert of several"}


def test_a_block_that_adds_the_residual_itself_is_left_before_it() -> None:
    shape = introspect({"model_type": "bloom", "vocab_size": 97, "hidden_size": 24, "n_layer": 1, "n_head": 4}, "here")
    [block] = [site for site in shape.sites if site.role is Role.FEED_FORWARD]
    assert (block.enters, block.name) == ("h.0.mlp.dense_h_to_4h", "h.0.mlp.dense_4h_to_h")


def test_computed_positions_end_too() -> None:
    shape = introspect(
        {"model_type": "gptj", **{k: v for k, v in GPT.items() if k != "n_inner"}, "rotary_dim": 4}, "here"
    )
    assert shape.positions == 40


def test_a_person_can_name_the_maps_of_a_model_that_can_not_be_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("needs an image")

    monkeypatch.setattr(introspection, "probe", fails)
    config = {"model_type": "bart", **BART}
    said = r"a bart can't be run on a few tokens \(RuntimeError: needs an image\); .* if transformers can run it, name"
    with pytest.raises(Refusal, match=said):
        introspect(config, "here")
    shape = introspect(config, "here", {Role.QUERY: "*.q_proj"})
    assert {site.role for site in shape.sites} == {Role.QUERY, Role.CROSS_QUERY}


def test_a_correction_that_an_earlier_one_leaves_nothing_is_refused() -> None:
    with pytest.raises(Refusal, match=r"roles: query: an earlier pattern has named all maps of '\*.query'; leave one"):
        introspect({"model_type": "bert", **ENCODER}, "here", {Role.KEY: "*.self.*", Role.QUERY: "*.query"})
