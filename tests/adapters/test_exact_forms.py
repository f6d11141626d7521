"""Tests what forms of an export and targets of a deployment hold exactly, also against trained adapters."""

import re
from functools import cache
from typing import Any

import pytest
import torch

from krona_tune.adapters.exact_forms import DEPLOYED_AS, PlacedAdapter, misfit, refuse_unheld
from krona_tune.adapters.export_forms import Form
from krona_tune.adapters.inject import Adapters
from krona_tune.adapters.merge import merge
from krona_tune.backbones.geometry import Geometry
from krona_tune.refusal import Refusal
from krona_tune.study.request.deploy_target import TargetName, read_target
from krona_tune.study.request.trial import HEAD_ONLY, AdapterConfig
from tests.models import build
from tests.trained_adapters import shaped, trained


@cache
def shape_of(name: str) -> Geometry:
    return build(name)[0]


def adapted(name: str, method: str, *, writes: bool = False, quantize: Any = None, **knobs: Any) -> PlacedAdapter:
    shape = shape_of(name)
    shape = shape.writing() if writes else shape
    return PlacedAdapter(geometry=shape, adapter=shaped(shape, method, **knobs), quantize=quantize)


def test_every_target_has_a_form() -> None:
    assert {str(name): str(row.form) for name, row in DEPLOYED_AS.items()} == {
        **{str(name): str(name) for name in TargetName},
        "vllm": "lora",
    }


@pytest.mark.parametrize(
    ("name", "method", "knobs", "rank"),
    [
        ("bert", "krona", {"a_out": 2, "a_in": 8, "roles": "query+feed_forward_in"}, 2 * 3),
        ("bert", "cdka", {"a_out": 4, "a_in": 24, "terms": 2, "roles": "query+value"}, 2 * 4),
        ("bert", "lora", {"rank": 3}, 3),
        ("bert", "lokr", {"rank": 2, "decompose_factor": 4, "roles": "value"}, 4 * 2),
        ("deberta", "lora", {"rank": 3, "roles": "query+value"}, 2 * 3),
        ("deberta", "lora", {"rank": 20, "roles": "query+key+value"}, 24),
    ],
)
def test_the_rank_is_that_of_the_change_of_a_whole_weight(
    name: str, method: str, knobs: dict[str, Any], rank: int
) -> None:
    shape, _, base = build(name)
    it = PlacedAdapter(geometry=shape, adapter=shaped(shape, method, **knobs))
    assert it.rank == rank
    before = {site.name: base.get_submodule(site.name).weight.detach().clone() for site in it.sites}
    adapters = trained(Adapters(base, shape, it.adapter, torch.Generator().manual_seed(0)))
    merge(adapters)
    changes = [base.get_submodule(place).weight.double() - weight.double() for place, weight in before.items()]
    assert max(int(torch.linalg.matrix_rank(each, rtol=1e-5)) for each in changes) == rank


SQUARE = {"a_out": 4, "a_in": 4, "roles": "query+value"}
ODD = {"a_out": 4, "a_in": 6, "roles": "query+value"}


@pytest.mark.parametrize(
    ("target", "it", "problem"),
    [
        ("merged", adapted("bert", "krona", **ODD), ""),
        ("merged", adapted("bert", "krona_b"), "merged: krona_b can't be added to the weights of the model"),
        ("merged", adapted("bert", "krona", quantize="nf4", **ODD), "its backbone is quantised (nf4)"),
        ("merged", adapted("t5", "bitfit"), "encoder.block.0.layer.0.SelfAttention.q has no bias to merge it into"),
        ("merged", adapted("deberta", "bitfit"), "layer.0.attention.self.in_proj has no bias to merge it into"),
        ("merged", adapted("bert", "bitfit"), ""),
        ("merged", adapted("gpt2", "bitfit"), ""),
        ("merged", adapted("bert", "peft:BEFT"), ""),
        ("merged", adapted("t5", "peft:BEFT"), "encoder.block.0.layer.0.SelfAttention.q has no bias to merge it into"),
        ("merged", adapted("bert", "peft:LoRA", peft={"r": 2, "lora_bias": True}), ""),
        ("merged", adapted("t5", "peft:LoRA", peft={"r": 2, "lora_bias": True}), "has no bias to merge it into"),
        ("merged", adapted("bert", "peft:Lily", peft={"r": 2}), "peft can't merge peft:Lily"),
        ("merged", adapted("bert", HEAD_ONLY), ""),
        ("onnx", adapted("bert", "krona", terms=2, **ODD), ""),
        ("onnx", adapted("llama", "krona", **ODD), ""),
        ("onnx", adapted("bert", "krona_b"), "merged: krona_b can't be added"),
        ("onnx", adapted("llama", "krona", writes=True, **ODD), "onnx: it holds a task's head, and this llama answers"),
        ("peft", adapted("bert", "krona", quantize="nf4", **SQUARE), ""),
        ("peft", adapted("bert", "krona", **ODD), "has no 4x6⊗6x4, and LoRA of its rank 16 is no smaller"),
        ("peft", adapted("bert", "krona", terms=2, **SQUARE), "has no 2·(4x4⊗6x6)"),
        ("peft", adapted("gpt2", "krona", **SQUARE), "peft adapts whole maps"),
        ("peft", adapted("gpt2", "lokr", roles="output"), "peft's lokr adapts no transposed maps"),
        ("peft", adapted("gpt2", "peft:LoRA", peft={"r": 2}, roles="query"), "fused or transposed"),
        ("peft", adapted("bert", HEAD_ONLY), "the adapter is the head alone, which changes no map"),
        ("krona", adapted("bert", "krona", terms=3, **ODD), ""),
        ("krona", adapted("bert", "cdka", **ODD), ""),
        ("krona", adapted("bert", "lora"), "krona_tune.peft_method has no lora"),
        ("krona", adapted("bert", "krona_b", a_out=4, a_in=4), "krona_tune.peft_method has no krona_b"),
        ("krona", adapted("gpt2", "krona", a_out=4, a_in=4, roles="output"), "adapts no transposed maps"),
        ("krona", adapted("bert", HEAD_ONLY), "the adapter is the head alone"),
        ("gguf", adapted("llama", "lora", writes=True, rank=2), ""),
        ("gguf", adapted("qwen2", "krona", a_out=2, a_in=24, writes=True, roles="query"), ""),
        ("gguf", adapted("llama", "krona", writes=True, **ODD), "LoRA of the adapter's rank 16 is no smaller than lay"),
        ("gguf", adapted("llama", "lora"), "llama.cpp's LoRA has no head of a task, and this llama answers with one"),
        ("gguf", adapted("bert", "lora"), "llama.cpp's LoRA has no head of a task, and this bert answers with one"),
        ("gguf", adapted("t5", "lora"), "llama.cpp is not known to take LoRA on a t5"),
        ("gguf", adapted("llama", "lora", writes=True, layer_norms=True), "has no trained layer norms"),
        ("gguf", adapted("llama", HEAD_ONLY, writes=True), "head_only changes no weight of a linear map"),
        ("vllm:16", adapted("llama", "krona", writes=True, **ODD), ""),
        ("vllm:15", adapted("llama", "krona", writes=True, **ODD), "the adapter reaches rank 16, more than 15"),
        ("vllm:15", adapted("llama", "krona", **ODD), "not on a model with a task's head"),
        ("vllm:16", adapted("t5", "lora"), "not on an encoder-decoder"),
        ("vllm:16", adapted("gpt2", "lora", writes=True), "not known to serve LoRA on a gpt2"),
        ("vllm:16", adapted("llama", "lora", writes=True, layer_norms=True), "no trained layer norms"),
        ("vllm:16", adapted("llama", "peft:VeRA", writes=True, peft={"r": 2}), "the rank of peft:VeRA is not known"),
        ("vllm:16", adapted("llama", HEAD_ONLY, writes=True), "head_only changes no weight of a linear map"),
    ],
    ids=lambda value: value.adapter.method if isinstance(value, PlacedAdapter) else str(value)[:24],
)
def test_a_target_holds_an_adapter_or_says_why_not(target: str, it: PlacedAdapter, problem: str) -> None:
    refused = misfit(read_target(target), it)
    assert (refused is None) == (not problem)
    assert refused is None or problem in refused.problem


@pytest.mark.parametrize(
    ("form", "it", "ways"),
    [
        (Form.KRONA, adapted("bert", "lora"), ["merged", "peft", "lora", "adapter"]),
        (Form.KRONA, adapted("bert", "krona_b"), ["adapter"]),
        (Form.PEFT, adapted("bert", "krona", quantize="nf4", **ODD), ["krona", "lora", "adapter"]),
        (Form.PEFT, adapted("bert", HEAD_ONLY), ["merged", "adapter"]),
        (Form.LORA, adapted("bert", "bitfit"), ["merged"]),
        (Form.LORA, adapted("t5", "bitfit"), ["adapter"]),
        (Form.LORA, adapted("bert", "peft:IA3"), ["merged"]),
        (Form.LORA, adapted("bert", "peft:LoRA", peft={"r": 2, "lora_bias": True}), ["merged"]),
    ],
)
def test_a_form_of_peft_that_does_not_hold_an_adapter_names_those_that_do(
    form: Form, it: PlacedAdapter, ways: list[str]
) -> None:
    with pytest.raises(Refusal) as refused:
        refuse_unheld(form, it, rank=2 if form is Form.LORA else None)
    assert re.findall(r"--format (\w+)", refused.value.fix) == ways
    refuse_unheld(Form.PEFT, adapted("bert", "lora"))
    refuse_unheld(Form.LORA, adapted("bert", "krona", **ODD), rank=2)
    refuse_unheld(Form.LORA, adapted("t5", "peft:IA3"), rank=2)


def test_sizes_that_divide_nothing_are_an_error_and_no_misfit() -> None:
    it = PlacedAdapter(geometry=shape_of("bert"), adapter=AdapterConfig(a_out=7, a_in=4))
    with pytest.raises(ValueError, match="a_out 7 does not divide"):
        misfit(read_target("peft"), it)
