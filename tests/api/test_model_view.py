"""Tests what `inspect` says of a model: its maps, what is left out and why, memory, and the methods that fit."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from krona_tune.adapters.placement import STORES_STATES
from krona_tune.api.model_view import frozen_text, model_lines
from krona_tune.cli import app
from krona_tune.search.planning.plan import make_plan
from krona_tune.study.request.loader import build_spec
from krona_tune.train.backbone_source import find_backbone
from tests.backbone_folders import folder_of
from tests.backbones.families import KINDS, REFUSED, tiny


def lines(model_type: str, folder: Path) -> list[str]:
    found = find_backbone(str(folder_of(tiny(model_type), folder / model_type)))
    return [f"{name} {text}" for name, text in model_lines(found)]


def test_every_map_is_said_with_its_role_and_size_and_what_is_left_out_with_the_reason(tmp_path: Path) -> None:
    said = lines("convbert", tmp_path)
    assert "map encoder attention.self.value: value, 12×24, in 2 layers" in said
    assert "omitted attention.self.query, its name says query, its gradients token by token" in said
    assert "frozen no layers are computed once: that is not done for a convbert" in said


def test_the_command_says_what_fits_a_model_and_its_named_maps(tmp_path: Path) -> None:
    model = str(folder_of(tiny("bert"), tmp_path / "bert"))
    done = CliRunner().invoke(app, ["inspect", model])
    assert done.exit_code == 0, done.output
    for text in ("encoder  2 layers", "query, 24×24, in 2 layers", "up to 2 encoder layers", "in bf16"):
        assert text in done.output
    methods = done.output.split("methods", 1)[1]
    assert "krona" in methods
    assert "peft:lora" in methods
    named = CliRunner().invoke(app, ["inspect", model, "--target-modules", "self.query"]).output
    assert "self.query: named, 24×24, in 2 layers" in named
    assert "parallel_adapter" not in named.split("methods", 1)[1]


@pytest.mark.slow
def test_the_memory_of_frozen_weights_and_what_training_adds_are_said(tmp_path: Path) -> None:
    sizes = {"hidden_size": 1000, "num_hidden_layers": 3, "intermediate_size": 40, "num_attention_heads": 4}
    found = find_backbone(str(folder_of({**tiny("bert"), **sizes}, tmp_path / "bert")))
    said, number = dict(model_lines(found)), found.geometry.parameters
    assert said["memory"].startswith(f"{4 * number / 1e6:.1f} MB in fp32, {2 * number / 1e6:.1f} MB in bf16, ")
    assert said["memory"].endswith("in nf4, of the frozen weights alone")
    tokens = "roughly 204.0 kB in fp32 or 102.0 kB in bf16 for each token of a batch"
    assert said["training"] == f"beside them 16 bytes for each trained parameter, and {tokens}"


def test_a_decoder_with_only_a_causal_class_answers_with_text(tmp_path: Path) -> None:
    assert "answers with text; labels are words" in lines("granite", tmp_path)


CONVOLUTION = {"conv_kernel_size": 3, "conv_act": "gelu"}
SEVERAL_WAYS = {
    "layer_types": ["full_attention", "sliding_attention"],
    "use_sliding_window": True,
    "sliding_window": 4,
}


@pytest.mark.parametrize(
    ("model_type", "config", "reason"),
    [
        ("deberta-v2", CONVOLUTION, "a convolution joins them"),
        ("qwen3", SEVERAL_WAYS, "they attend in several ways"),
        *((name, {}, "") for name in sorted({*KINDS} - REFUSED.keys())),
    ],
)
def test_a_plan_says_of_a_model_what_inspect_says_of_layers_computed_once(
    model_type: str, config: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    model = str(folder_of({**tiny(model_type), **config}, tmp_path / "model"))
    found = find_backbone(model)
    adapter = {"roles": "feed_forward_in" if model_type == "fnet" else "output", "layers": "last 1"}
    asked = {"model": model, "data": "mini", "tasks": ["rte"], "examples": {"max_length": 32}, "adapter": adapter}
    plan = make_plan(build_spec({**asked, "training": {"dropout": 0.0}}, "x.yaml"), "x.yaml")
    said, stack = frozen_text(found), found.geometry.first_stack
    if model_type in STORES_STATES and not reason:
        assert said == f"up to 2 {stack} layers below the first adapted one can be computed once"
        assert plan.computed_once().startswith(f"1 of 2 {stack} layers by placement")
    else:
        reason = reason or f"that is not done for a {model_type}"
        assert said == f"no layers are computed once: {reason}"
        assert plan.computed_once() == f"no layers, since {reason}"


@pytest.mark.parametrize("words", [["no/such/model"], ["."]])
def test_what_is_no_model_is_refused(words: list[str]) -> None:
    assert CliRunner().invoke(app, ["inspect", *words]).exit_code != 0
