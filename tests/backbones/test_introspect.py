"""Tests what introspection finds against tables written by hand, and what it refuses or leaves out."""

from typing import Any

import pytest

from krona_tune.backbones import introspect as introspection
from krona_tune.backbones import map_roles
from krona_tune.backbones.geometry import Role, Stack, UnadaptedMap
from krona_tune.backbones.introspect import introspect
from krona_tune.refusal import Refusal
from tests.backbones.families import tiny
from tests.backbones.introspected import of
from tests.models import BART, CONFIGS, ENCODER, GPT, OWN_HEADS, T5GEMMA


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


@pytest.mark.parametrize(
    ("family", "enters", "leaves"),
    [
        ("fnet", "intermediate.dense", "output.dense"),
        ("funnel", "ffn.linear_1", "ffn.linear_2"),  # the module around them adds its input and has a norm
    ],
)
def test_a_block_is_entered_and_left_at_its_maps_where_no_module_holds_them_alone(
    family: str, enters: str, leaves: str
) -> None:
    blocks = [site for site in introspect(tiny(family), "here").sites if site.role is Role.FEED_FORWARD]
    assert {(site.enters, site.name) for site in blocks} == {
        (f"{site.layer_name}.{enters}", f"{site.layer_name}.{leaves}") for site in blocks
    }
    assert blocks


@pytest.mark.parametrize(
    ("config", "sizes"),
    [
        ({"model_type": "t5gemma", **T5GEMMA}, {Stack.ENCODER: (24, 24), Stack.DECODER: (36, 36)}),
        ({**tiny("mobilebert"), "num_feedforward_networks": 1}, {Stack.ENCODER: (12, 12)}),
    ],
)
def test_a_block_is_as_wide_as_the_maps_at_its_ends(
    config: dict[str, Any], sizes: dict[Stack, tuple[int, int]]
) -> None:
    """Which is less than the model's width in the narrower half of a T5Gemma, or behind a MobileBERT's bottleneck."""
    blocks = [site for site in introspect(config, "here").sites if site.role is Role.FEED_FORWARD]
    assert {site.stack: (site.d_out, site.d_in) for site in blocks} == sizes


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
    assert shape.left_out == (
        UnadaptedMap("attention.self.query", "its name says value, its gradients a query", Role.VALUE),
    )
    assert Role.QUERY not in {site.role for site in shape.sites}


def test_a_map_whose_size_contradicts_the_config_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    config = {"model_type": "mobilebert", "num_hidden_layers": 1}
    assert Role.QUERY in {site.role for site in introspect(config, "here").sites}
    monkeypatch.setattr(map_roles, "WIDTHS", ("hidden_size",))
    shape = introspect(config, "here")
    assert "attention.self.query" in {each.name for each in shape.left_out}


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (
            {"model_type": "mamba", "num_hidden_layers": 2},
            r"mixes tokens without attention .*target_modules: \[dt_proj",
        ),
        ({"model_type": "whisper"}, "transformers neither classifies nor answers with whisper"),
        ({"model_type": "jamba", "num_hidden_layers": 4}, "mixes tokens without attention"),
        ({"model_type": "clip"}, "clip reads more than text; give its text model, clip_text_model"),
        ({"model_type": "squeezebert"}, "has 0 lists of layers with linear maps: its weights are in Conv1d"),
        ({"model_type": "robert"}, "unknown model_type 'robert', did you mean 'roberta'"),
        ({"model_type": "bert", **ENCODER, "num_attention_heads": 5}, "describes no bert"),
        ({"model_type": "bert", **ENCODER, "num_hidden_layers": 0}, "has 0 lists of layers"),
        ({"model_type": "llama", **OWN_HEADS, "hidden_size": 10**7, "intermediate_size": 10**7}, "parameters"),
    ],
)
def test_a_model_without_maps_to_adapt_is_refused_by_name(config: dict[str, Any], said: str) -> None:
    with pytest.raises(Refusal, match=said):
        introspect(config, "here")


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
    said = r"bart can't be run on a few tokens \(RuntimeError: needs an image\); .* if transformers can run it, name"
    with pytest.raises(Refusal, match=said):
        introspect(config, "here")
    shape = introspect(config, "here", {Role.QUERY: "*.q_proj"})
    assert {site.role for site in shape.sites} == {Role.QUERY, Role.CROSS_QUERY}


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (
            {**tiny("t5"), "is_encoder_decoder": False},
            "^x: it says is_encoder_decoder: false, .*; give the whole model",
        ),
        (
            tiny("llama4_text"),
            "^x: the library's Llama4ForCausalLM has no base model named 'language_model'.*; give an",
        ),
    ],
)
def test_a_model_without_what_is_adapted_is_refused_with_the_cause(config: dict[str, Any], said: str) -> None:
    with pytest.raises(Refusal, match=said):
        introspect(config, "x")


def test_a_bert_reads_its_first_token_and_a_decoder_does_not() -> None:
    assert [of(name).reads_first_token for name in ("bert", "roberta", "llama", "gpt2", "t5")] == [
        True,
        True,
        *[False] * 3,
    ]
