"""Tests that what one step trains on a family of transformers is exported as a model that others load alike."""

from pathlib import Path
from typing import Any

import pytest
import torch

from krona_tune.adapters.adapter_files import save_adapter
from krona_tune.adapters.export_forms import Form
from krona_tune.backbones.geometry import Geometry, Role, Stack
from krona_tune.data.tasks import TASKS
from krona_tune.refusal import Refusal
from krona_tune.search.planning.plan import make_plan
from krona_tune.study.request.loader import build_spec
from krona_tune.train.backbone import Backbone, load_backbone
from krona_tune.train.backbone_source import weight_files
from krona_tune.train.export import export_adapter
from krona_tune.train.export_check import logits, sample_inputs
from krona_tune.train.loop import TrialRun
from krona_tune.train.predict import load_adapted
from tests.adapters.cards import card_of
from tests.backbones.families import KINDS, LACKING, WHOLE, saved_family
from tests.train.conftest import FLOAT32, WORDS, tiny_trial, tiny_work
from tests.trained_adapters import EVERY_MAP

TASK = "cola"
METHODS: tuple[dict[str, Any], ...] = (
    {"method": "krona", "a_out": 2, "a_in": 2},
    {"method": "lora", "rank": 3},
    {"method": "peft:dora", "peft_r": 3},
)
"""They take turns."""
TAKEN_FOR_EXPERTS = {"afmoe", "deepseek_v3", "ernie4_5_moe", "glm4_moe", "hunyuan_v1_moe"}


def every() -> list[Any]:
    methods = {name: METHODS[sum(map(ord, name)) % len(METHODS)] for name in sorted({*WHOLE, *LACKING})}
    return [
        pytest.param(name, knobs, marks=() if name in KINDS else pytest.mark.long, id=name)
        for name, knobs in methods.items()
    ]


def step(backbone: Backbone, knobs: dict[str, Any], folder: Path) -> None:
    """Trains one step and leaves the adapter in a folder."""
    shape, facts = backbone.geometry, TASKS[TASK]
    work = tiny_work(TASK, rows=8, epochs=1, candidates=WORDS if shape.text_to_text else ())
    trial = tiny_trial(TASK, **knobs, roles=EVERY_MAP, learning_rate=0.1, warmup=0.0)
    before = {name: p.clone() for name, p in backbone.base.named_parameters()}
    run = TrialRun("t", trial, work, backbone)
    first = run.state()
    assert run.advance().step == 1
    moved = run.state()
    assert any(not torch.equal(moved[name], tensor) for name, tensor in first.items() if name.startswith("adapter."))
    run.close()
    assert all(torch.equal(p, before[name]) for name, p in backbone.base.named_parameters())
    words = {
        "task": TASK,
        "labels": facts.candidates if shape.text_to_text else facts.labels,
        "backbone": str(folder.parent / "model"),
        "pad_token_id": 0 if shape.first_stack is Stack.DECODER else None,
    }
    save_adapter(folder, moved, card_of(shape, trial.adapter, backbone.fingerprint, **words))


def why_no_peft_form(name: str, shape: Geometry, knobs: dict[str, Any]) -> str:
    """Returns why peft has no such adapter: it adapts whole maps, transposed ones only by a LoRA, and in some families
    it takes every feed-forward map for one of the experts."""
    maps = [site for site in shape.sites if site.role is not Role.FEED_FORWARD]
    if any(site.rows for site in maps):
        return "peft adapts whole "
    if any(site.transposed for site in maps) and knobs["method"] != "lora":
        return "transposed"
    return f"peft takes maps of these names in a {name} for its experts" if name in TAKEN_FOR_EXPERTS else ""


@pytest.mark.parametrize(("name", "knobs"), every())
def test_what_a_step_trains_is_exported_and_loaded_alike(name: str, knobs: dict[str, Any], tmp_path: Path) -> None:
    model = saved_family(name, tmp_path / "model")
    backbone = load_backbone(str(model), FLOAT32)
    step(backbone, knobs, tmp_path / "adapter")
    whole = load_adapted(tmp_path / "adapter")
    inputs = sample_inputs(whole)
    expected = logits(whole.answer.model, inputs)
    whole.adapters.detach()
    start = logits(whole.answer.model, inputs)
    assert (expected - start).norm() > 1e-4 * start.norm()
    for form in (Form.MERGED, Form.PEFT):
        if form is Form.PEFT and (reason := why_no_peft_form(name, backbone.geometry, knobs)):
            with pytest.raises(Refusal, match=reason):
                export_adapter(tmp_path / "adapter", tmp_path / form, form)
            continue
        names: dict[str, Any] = {}
        exec(export_adapter(tmp_path / "adapter", tmp_path / form, form).loading, names)
        names["model"].config.use_cache = False  # with it an FSMT sees all tokens of one call, also those behind
        found = logits(names["model"].eval(), inputs)
        assert (found - expected).norm() < 1e-4 * expected.norm(), form


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", ["bert", "granite", "gpt_oss", "t5"])
def test_weights_in_two_files_with_one_embedding_or_two_are_found_counted_and_trained_beside(
    name: str, tied: bool, tmp_path: Path
) -> None:
    model = saved_family(name, tmp_path / "model", halved=True, tie_word_embeddings=tied)
    assert len(weight_files(model)) == 2
    asked = {"model": str(model), "data": "mini", "tasks": [TASK], "examples": {"max_length": 32}}
    shape = make_plan(build_spec(asked, "x.yaml"), "x.yaml").geometry
    backbone = load_backbone(str(model), FLOAT32, shape)
    counted = backbone.whole if shape.text_to_text else backbone.base
    assert shape.parameters == sum(p.numel() for p in counted.parameters())
    assert (
        backbone.fingerprint
        == load_backbone(
            str(saved_family(name, tmp_path / "whole", tie_word_embeddings=tied)), FLOAT32, shape
        ).fingerprint
    )
    step(backbone, METHODS[0], tmp_path / "adapter")
