"""Tests that an adapter exported to PEFT gives the same outputs without krona_tune, or is refused with the reason."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import nn

from krona_tune.adapters.inject import Adapters
from krona_tune.adapters.method_table import lokr_factor, lokr_sides
from krona_tune.adapters.peft_form import as_peft
from krona_tune.backbones.geometry import Geometry
from krona_tune.kron.factors import factor_shape
from krona_tune.refusal import Refusal
from krona_tune.study.request.trial import AdapterConfig
from tests.models import CONFIGS, build, build_from, tokens
from tests.trained_adapters import head_of, outputs, trained

KINDS: dict[str, dict[str, object]] = {
    "krona, square": {"method": "krona", "a_out": 4, "a_in": 4, "roles": "query+value+feed_forward_in"},
    "krona, of low rank": {"method": "krona", "a_out": 2, "a_in": 8, "roles": "query+feed_forward_out"},
    "krona, a sum": {
        "method": "krona",
        "a_out": 4,
        "a_in": 24,
        "terms": 2,
        "scaling": "stable",
        "init": "cdka",
        "roles": "query+value",
    },
    "cdka": {"method": "cdka", "a_out": 4, "a_in": 24, "terms": 2, "roles": "query+value"},
    "lora": {"method": "lora", "rank": 3, "roles": "query+value"},
    "lokr": {"method": "lokr", "rank": 2, "decompose_factor": 4, "roles": "query+feed_forward_in"},
}


PLACES: list[dict[str, object]] = [{"layer_norms": True}, {"layer_norms": False, "layers": "last 1"}]


FORMS = ("krona, square", "krona, of low rank", "lokr")
"""Kinds of both forms that peft has for them."""
FAMILIES = {"bert": KINDS, "t5": KINDS, "roberta": FORMS, "distilbert": FORMS, "deberta-v2": FORMS}


ELSEWHERE = """
import sys
sys.modules["krona_tune"] = None
import pathlib, torch, transformers
torch.set_num_threads(1)
from peft import AutoPeftModelForSeq2SeqLM, AutoPeftModelForSequenceClassification, PeftConfig, PeftModel
from safetensors.torch import load_file, save_file
for folder in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    inputs = load_file(folder / "inputs.safetensors")
    is_t5 = "decoder_input_ids" in inputs
    kind = "Seq2SeqLM" if is_t5 else "SequenceClassification"
    outputs = {} if is_t5 else {"num_labels": 3}
    backbone = PeftConfig.from_pretrained(folder / "adapter").base_model_name_or_path
    fresh = getattr(transformers, f"AutoModelFor{kind}").from_pretrained(backbone, **outputs)
    loaded = PeftModel.from_pretrained(fresh, folder / "adapter").eval()
    at_once = globals()[f"AutoPeftModelFor{kind}"].from_pretrained(folder / "adapter", **outputs).eval()
    with torch.no_grad():
        found = {"loaded": loaded(**inputs).logits, "at once": at_once(**inputs).logits}
        if (loaded.peft_type, fresh.config.model_type) != ("LOKR", "roberta"):  # where peft's own code raises
            found["merged"] = loaded.merge_and_unload()(**inputs).logits
    save_file(found, folder / "outputs.safetensors")
"""


@dataclass(frozen=True)
class Case:
    family: str
    kind: str
    place: int

    def __str__(self) -> str:
        return f"{self.family} {self.kind} {self.place}"

    @property
    def config(self) -> AdapterConfig:
        return AdapterConfig(scale=3.7, **KINDS[self.kind], **PLACES[self.place])


CASES = [
    Case(family, kind, (at + number) % 2)
    for at, (family, kinds) in enumerate(FAMILIES.items())
    for number, kind in enumerate(kinds)
]
"""Every kind with both sorts of heads, both forms with every family; the places take turns."""


def adapted(shape: Geometry, model: nn.Module, base: nn.Module, config: AdapterConfig) -> tuple[Adapters, torch.Tensor]:
    """Returns the trained adapters, detached, and the outputs that they gave with the trained head."""
    with trained(Adapters(base, shape, config, torch.Generator().manual_seed(0))) as adapters:
        before = {name: p.clone() for name, p in model.named_parameters()}
        with torch.no_grad():
            for name, tensor in head_of(model, base).items():
                model.get_parameter(name).copy_(tensor)
            found = outputs(model, shape)
            for name in head_of(model, base):
                model.get_parameter(name).copy_(before[name])
    return adapters, found


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, torch.Tensor]]:
    """Runs every case in a process that can't import krona_tune; returns the folder and the expected outputs."""
    room, backbones = tmp_path_factory.mktemp("peft"), tmp_path_factory.mktemp("backbones")
    for family in FAMILIES:
        build(family)[1].save_pretrained(backbones / family)
    expected = {}
    for case in CASES:
        shape, model, base = build(case.family)
        folder = room / str(case)
        folder.mkdir()
        save_file({name: t.contiguous() for name, t in tokens(shape).items()}, folder / "inputs.safetensors")
        adapters, expected[str(case)] = adapted(shape, model, base, case.config)
        kind = (
            transformers.AutoModelForSeq2SeqLM
            if shape.text_to_text
            else (transformers.AutoModelForSequenceClassification)
        )
        again = kind.from_pretrained(backbones / case.family)
        as_peft(again, adapters, head_of(model, base)).save_pretrained(folder / "adapter")
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
    subprocess.run([sys.executable, "-W", "ignore", "-c", ELSEWHERE, str(room)], check=True, env=offline)
    return room, expected


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_is_loaded_without_krona_tune_gives_the_same_logits(
    elsewhere: tuple[Path, dict[str, torch.Tensor]], case: Case
) -> None:
    room, expected = elsewhere
    wanted = expected[str(case)]
    shape, model, _ = build(case.family)
    assert (outputs(model, shape) - wanted).abs().max() > 1e-2
    for found in load_file(room / str(case) / "outputs.safetensors").values():
        assert (found - wanted).norm() < 2e-5 * wanted.norm()


@pytest.mark.parametrize(
    ("kind", "form", "sizes"),
    [
        ("krona, square", "LOKR", {"decompose_factor": 4, "alpha": 3.7 * 16, "r": 16}),
        ("krona, of low rank", "LORA", {"r": 10, "lora_alpha": 37.0}),
        ("cdka", "LORA", {"r": 8, "lora_alpha": 3.7 * 48**-0.5 * 8}),
        ("krona, a sum", "LORA", {"r": 8, "lora_alpha": 3.7 * 48**-0.5 * 8}),
        ("lora", "LORA", {"r": 3, "lora_alpha": 3.7 * 3}),
        ("lokr", "LOKR", {"r": 2, "alpha": 3.7 * 2, "decompose_factor": 4}),
    ],
)
def test_each_kind_takes_the_form_that_can_hold_it(kind: str, form: str, sizes: dict[str, object]) -> None:
    shape, model, base = build("bert")
    adapters, _ = adapted(shape, model, base, Case("bert", kind, 0).config)
    config = as_peft(model, adapters, head_of(model, base)).peft_config["default"]
    assert (config.peft_type, config.task_type) == (form, "SEQ_CLS")
    assert {name: getattr(config, name) for name in sizes} == sizes


def test_the_scale_of_a_kronecker_product_is_kept_to_the_last_bit() -> None:
    shape, model, base = build("bert")
    config = AdapterConfig(scale=0.1, **KINDS["krona, square"])
    adapters, _ = adapted(shape, model, base, config)
    dressed = as_peft(model, adapters, head_of(model, base))
    scales = {m.scaling["default"] for m in dressed.modules() if isinstance(m, peft.tuners.lokr.LoKrLayer)}
    assert scales == {0.1}


@pytest.mark.parametrize("layers", ["1", "last 2", "all"])
@pytest.mark.parametrize("name", ["bert", "t5"])
def test_exactly_the_adapters_sites_are_adapted_among_twelve_layers(name: str, layers: str) -> None:
    model_type, values = CONFIGS[name]
    depth = {"bert": "num_hidden_layers", "t5": "num_layers"}[name]
    shape, model, base = build_from(model_type, {**values, depth: 12})
    config = AdapterConfig(scale=3.7, layers=layers, stacks="encoder", **KINDS["krona, square"])
    adapters, expected = adapted(shape, model, base, config)
    head = head_of(model, base)
    dressed = as_peft(model, adapters, head).eval()
    within = "" if model is base else "bert."
    found = {n for n, m in dressed.base_model.model.named_modules() if isinstance(m, peft.tuners.lokr.LoKrLayer)}
    assert found == {f"{within}{site.name}" for site in adapters.sites}
    torch.testing.assert_close(outputs(dressed, shape), expected, rtol=1e-4, atol=1e-4)


def test_one_factor_is_found_where_it_divides_both_sides_and_every_weight() -> None:
    square = [factor_shape(768, 768, 24, 24), factor_shape(3072, 768, 24, 24)]
    assert lokr_factor(square) == 24
    assert lokr_factor([factor_shape(768, 768, 48, 48)]) == 48
    uneven = [factor_shape(20, 21, 4, 3)]
    assert [lokr_sides(d, lokr_factor(uneven))[0] for d in (20, 21)] == [4, 3]
    assert lokr_factor([factor_shape(768, 768, 24, 32)]) is None


KRONA = "--format krona (krona_tune's method of peft)"
LORA = "--format lora with a --rank (the nearest LoRA)"
ADAPTER = "--format adapter (krona_tune loads it)"


@pytest.mark.parametrize(
    ("name", "knobs", "message"),
    [
        (
            "bert",
            {"method": "krona", "a_out": 4, "a_in": 6},
            "--format: peft's LoKr, of one term and with one decompose factor for both sides and all maps, has no "
            "4x6⊗6x4, and LoRA of its rank 16 is no smaller than encoder.layer.0.attention.self.query itself; use "
            f"--format merged, {KRONA}, {LORA} or {ADAPTER}",
        ),
        (
            "deberta",
            {"method": "krona", "a_out": 4, "a_in": 4},
            "--format: peft adapts whole maps, and encoder.layer.0.attention.self.in_proj#query is a part of one; use "
            f"--format merged, {LORA} or {ADAPTER}",
        ),
        ("bert", {"method": "krona_b", "a_out": 4, "a_in": 4}, "--format: peft has no krona_b; use " + ADAPTER),
        ("bert", {"method": "compacter", "phm": 2}, "--format: peft has no compacter; use " + ADAPTER),
        ("bert", {"method": "bitfit"}, "--format: peft has no bitfit; use --format merged or " + ADAPTER),
    ],
)
def test_what_peft_can_not_hold_is_refused_with_the_reason(name: str, knobs: dict[str, object], message: str) -> None:
    shape, model, base = build(name)
    adapters, _ = adapted(shape, model, base, AdapterConfig(**knobs))
    before = list(model.state_dict())
    with pytest.raises(Refusal) as refused:
        as_peft(model, adapters, {})
    assert str(refused.value) == message
    assert list(model.state_dict()) == before


def test_a_head_that_is_not_whole_is_refused() -> None:
    shape, model, base = build("roberta")
    adapters, _ = adapted(shape, model, base, Case("roberta", "lora", 0).config)
    head = head_of(model, base)
    head.pop("classifier.out_proj.bias")
    with pytest.raises(Refusal, match=r"1 tensors more or fewer, the first .*classifier\.out_proj\.bias"):
        as_peft(model, adapters, head)
