"""Tests what gradients tell of a model: the rows of a fused map, and whether a token reads later ones."""

from typing import Any

import pytest
import torch
import transformers

from krona_tune.backbones.geometry import Role, RoleRows, Stack
from krona_tune.backbones.introspect import introspect
from tests.backbones.families import tiny
from tests.backbones.introspected import of
from tests.models import ENCODER, GPT

FIRST_OF_FOUR_HEADS = {
    Role.QUERY: RoleRows(start=0, block=6, stride=18, count=4, total=72),
    Role.KEY: RoleRows(start=6, block=6, stride=18, count=4, total=72),
    Role.VALUE: RoleRows(start=12, block=6, stride=18, count=4, total=72),
}


ONE_AFTER_THE_OTHER = {
    Role.QUERY: RoleRows(start=0, block=24, stride=24, count=1, total=72),
    Role.KEY: RoleRows(start=24, block=24, stride=24, count=1, total=72),
    Role.VALUE: RoleRows(start=48, block=24, stride=24, count=1, total=72),
}


ONE_KEY_HEAD = {
    Role.QUERY: RoleRows(start=0, block=24, stride=24, count=1, total=36),
    Role.KEY: RoleRows(start=24, block=6, stride=6, count=1, total=36),
    Role.VALUE: RoleRows(start=30, block=6, stride=6, count=1, total=36),
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
def test_the_rows_of_a_fused_map_are_told_by_gradients(config: dict[str, Any], rows: dict[Role, RoleRows]) -> None:
    sites = introspect(config, "here").sites
    assert {site.role: site.rows for site in sites if site.rows and site.layer == 1} == rows


def test_groups_of_heads_share_a_key_and_a_value() -> None:
    config = {"model_type": "falcon", **ENCODER, "new_decoder_architecture": True, "num_kv_heads": 2}
    rows = {site.role: site.rows for site in introspect(config, "here").sites if site.rows and site.layer == 0}
    assert rows == {
        Role.QUERY: RoleRows(start=0, block=12, stride=24, count=2, total=48),
        Role.KEY: RoleRows(start=12, block=6, stride=24, count=2, total=48),
        Role.VALUE: RoleRows(start=18, block=6, stride=24, count=2, total=48),
    }


@pytest.mark.parametrize(
    ("name", "stack"), [("llama", Stack.DECODER), ("opt", Stack.DECODER), ("eurobert", Stack.ENCODER)]
)
def test_a_decoder_is_told_by_tokens_that_reach_no_earlier_one(name: str, stack: Stack) -> None:
    assert of(name).depths == {stack: 3}


def test_the_callers_random_state_stays() -> None:
    transformers.set_seed(3)
    import torch

    before = torch.random.get_rng_state()
    introspect({"model_type": "bert", **ENCODER}, "here")
    assert torch.equal(before, torch.random.get_rng_state())


def test_an_expert_is_left_out_whichever_the_router_takes() -> None:
    sizes = {"vocab_size": 97, "d_model": 24, "d_ff": 40, "d_kv": 6, "num_heads": 4, "num_layers": 2, "num_experts": 4}
    shape = introspect({"model_type": "switch_transformers", **sizes, "num_sparse_encoder_layers": 1}, "here")
    assert not any("expert" in site.name for site in shape.sites)
    assert {each.reason for each in shape.left_out if "expert" in each.name} == {"it is one expert of several"}


def test_what_the_memory_held_before_decides_about_no_map(monkeypatch: pytest.MonkeyPatch) -> None:
    """An Apertus has an activation with numbers of its own, which transformers does not start."""
    expected, empty = introspect(tiny("apertus"), "here"), torch.empty_like

    def filled(tensor: torch.Tensor, **how: Any) -> torch.Tensor:
        made = empty(tensor, **how)
        return made.fill_(float("nan")) if made.is_floating_point() else made

    monkeypatch.setattr(torch, "empty_like", filled)
    assert introspect(tiny("apertus"), "here") == expected
    assert not expected.left_out
