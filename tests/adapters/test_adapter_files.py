"""Tests that an adapter's folder loads onto its own model only, with the head, and that nothing is unpickled."""

import json
import os
import re
import stat
import sys
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import krona_tune
from krona_tune.adapters import adapter_files
from krona_tune.adapters.adapter_card import CARD
from krona_tune.adapters.adapter_files import TENSORS, save_adapter
from krona_tune.adapters.frozen_model import fingerprint
from krona_tune.adapters.inject import Adapters
from krona_tune.refusal import Refusal
from krona_tune.study.request.trial import AdapterConfig
from tests.adapters.cards import card_of, saved
from tests.backbones.families import build as build_family
from tests.models import ENCODER, build, build_from, of_each_kind
from tests.trained_adapters import outputs, shaped


@pytest.mark.parametrize("name", of_each_kind())
def test_a_saved_adapter_gives_its_outputs_on_a_fresh_model(name: str, tmp_path: Path) -> None:
    adapted = saved(tmp_path, name)
    shape, model, _ = build(name)
    bare = outputs(model, shape)
    adapters = krona_tune.load(model, tmp_path)
    assert torch.equal(outputs(model, shape), adapted)
    adapters.detach()
    assert torch.equal(outputs(model, shape), bare)


def test_others_may_read_an_adapter_as_far_as_the_umask_lets_them(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        saved(tmp_path, "bert")
    finally:
        os.umask(before)
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == dict.fromkeys(
        ["README.md", "adapter.json", TENSORS], 0o644
    )


@pytest.mark.parametrize("method", ["lora", "lokr", "compacter", "bitfit", "full", "head_only"])
@pytest.mark.parametrize("name", ["t5", "electra"])
def test_every_method_comes_back(name: str, method: str, tmp_path: Path) -> None:
    shape, model, _ = build(name)
    adapted = saved(tmp_path, name, shaped(shape, method))
    krona_tune.load(model, tmp_path)
    assert torch.equal(outputs(model, shape), adapted)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["t5", "bert", "deberta", "deberta-v3"])
def test_a_model_in_low_precision_takes_adapter_and_norms(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    adapted = saved(tmp_path, name)
    shape, model, _ = build(name)
    model.to(dtype)
    krona_tune.load(model, tmp_path)
    low = outputs(model, shape)
    assert low.dtype == dtype
    assert (low.float() - adapted).norm() < 0.1 * adapted.norm()


def test_a_base_model_takes_the_adapter_without_the_head(tmp_path: Path) -> None:
    saved(tmp_path, "bert")
    _, _, base = build("bert")
    ids = torch.tensor([[5, 6, 7]])
    bare = base(ids).last_hidden_state
    krona_tune.load(base, str(tmp_path))
    assert not torch.allclose(base(ids).last_hidden_state, bare, atol=1e-3)


def refused(model: torch.nn.Module, folder: Path) -> str:
    """Returns the refusal of `load`, after checking that the model is bit for bit unchanged and has no hook."""
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    parameters = {name: id(parameter) for name, parameter in model.named_parameters()}
    with pytest.raises(Refusal) as refusal:
        krona_tune.load(model, folder)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert {name: id(parameter) for name, parameter in model.named_parameters()} == parameters
    # private: torch lists a module's hooks nowhere else
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    return str(refusal.value)


def test_other_weights_are_refused_with_both_fingerprints_unless_asked_for(tmp_path: Path) -> None:
    adapted = saved(tmp_path, "bert")
    shape, model, base = build("bert")
    with torch.no_grad():
        base.get_submodule(shape.sites[1].name).weight.mul_(1.02)
    said = refused(model, tmp_path)
    assert "was trained on org/tiny, whose weights are " in said
    ours, theirs = said.split("weights are ")[1].split("; load")[0].split("; the model's are ")
    assert len(ours) == len(theirs) == 12
    assert ours != theirs
    assert "check_backbone=False" in said
    krona_tune.load(model, tmp_path, check_backbone=False)
    assert 0 < (outputs(model, shape) - adapted).norm() < 0.1 * adapted.norm()


def test_other_embeddings_are_refused_but_with_an_adapter_of_an_earlier_version(tmp_path: Path) -> None:
    adapted = saved(tmp_path / "new", "bert")
    saved(tmp_path / "old", "bert", backbone_parts={})
    shape, model, _ = build("bert")
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(1.02)
    said = refused(model, tmp_path / "new")
    assert re.search(r"was trained on org/tiny, whose weights in embeddings are \w{12}; the model's are \w{12}; ", said)
    krona_tune.load(model, tmp_path / "old")
    assert 0 < (outputs(model, shape) - adapted).norm() < 0.1 * adapted.norm()


def test_a_merged_model_does_not_take_its_adapter_twice(tmp_path: Path) -> None:
    from krona_tune.adapters.merge import merge

    saved(tmp_path, "distilbert")
    _, model, _ = build("distilbert")
    merge(krona_tune.load(model, tmp_path))
    assert "both would add up" in refused(model, tmp_path)


def test_an_adapter_whose_backbone_is_not_known_goes_by_kind_and_sizes(tmp_path: Path) -> None:
    adapted = saved(tmp_path, "bert", backbone_fingerprint=None)
    shape, model, _ = build("bert")
    krona_tune.load(model, tmp_path)
    assert torch.equal(outputs(model, shape), adapted)


@pytest.mark.parametrize(
    ("model_type", "sizes", "theirs"),
    [
        ("roberta", ENCODER, "a roberta of width 24 in 3 layers"),
        ("bert", {**ENCODER, "hidden_size": 32}, "a bert of width 32 in 3 layers"),
        ("bert", {**ENCODER, "num_hidden_layers": 2}, "a bert of width 24 in 2 layers"),
    ],
)
def test_another_kind_or_size_is_refused_with_both(
    model_type: str, sizes: dict[str, object], theirs: str, tmp_path: Path
) -> None:
    saved(tmp_path, "bert")
    _, model, _ = build_from(model_type, sizes)
    said = refused(model, tmp_path)
    assert f"belongs to a bert of width 24 in 3 layers (org/tiny), the model is {theirs}" in said
    model.half()
    assert refused(model, tmp_path) == said


def test_another_number_of_labels_is_refused(tmp_path: Path) -> None:
    saved(tmp_path, "bert", backbone_parts={})  # what is drawn after the head is another
    _, model, _ = build("bert", outputs=2)
    assert "classifier.bias is (3,), the model takes (2,); num_labels must be the task's" in refused(model, tmp_path)


def test_what_is_no_model_of_transformers_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path, "bert")
    monkeypatch.setenv("HOME", str(tmp_path))
    for folder in (tmp_path, Path("~")):
        assert "a Linear has no config" in refused(torch.nn.Linear(3, 2), folder)


def test_a_model_for_another_purpose_takes_the_adapter_by_its_base_alone(tmp_path: Path) -> None:
    saved(tmp_path, "bert")
    model = transformers.BertForMaskedLM(build("bert")[1].config)
    model.bert = build("bert")[2]
    said = refused(model, tmp_path)
    assert "a BertForMaskedLM has no classifier.bias; give one for sequence classification, or its base_model" in said
    krona_tune.load(model.base_model, tmp_path)


def test_a_head_in_few_bits_is_refused_with_what_keeps_it_whole(tmp_path: Path) -> None:
    """Numbers that are copied into codes become other numbers: in 8 bits the head's would all be 0."""
    saved(tmp_path, "bert")
    for shape, dtype in (((3, 24), torch.int8), ((36, 1), torch.uint8), ((3, 24), torch.float8_e4m3fn)):
        _, model, _ = build("bert")
        model.classifier.weight = torch.nn.Parameter(torch.zeros(shape, dtype=dtype), requires_grad=False)
        with pytest.raises(Refusal) as refusal:
            krona_tune.load(model, tmp_path)
        assert str(refusal.value) == (
            f"model: its head is quantised: classifier.weight is kept in {dtype}; "
            "load it with BitsAndBytesConfig(llm_int8_skip_modules=['classifier'])"
        )


def test_a_second_adapter_on_a_model_is_refused_until_the_first_is_detached(tmp_path: Path) -> None:
    adapted = saved(tmp_path, "bert")
    shape, model, _ = build("bert")
    first = krona_tune.load(model, tmp_path)
    with pytest.raises(Refusal, match="another adapter is on it, and both would add up; detach the other set first"):
        krona_tune.load(model, tmp_path)
    assert torch.equal(outputs(model, shape), adapted)
    first.detach()
    first.detach()
    krona_tune.load(model, tmp_path)
    assert torch.equal(outputs(model, shape), adapted)


def test_a_big_bird_attends_to_all_once_it_has_its_adapter_and_not_if_it_was_refused(tmp_path: Path) -> None:
    shape, model = build_family("big_bird")
    config = shaped(shape, "lora", rank=2)
    adapters = Adapters(model.bert, shape, config, torch.Generator().manual_seed(0), model)
    card = card_of(shape, config, fingerprint(model.bert, shape), labels=("a", "b"))
    head = {f"head.classifier.{name}": value.clone() for name, value in model.classifier.state_dict().items()}
    save_adapter(tmp_path, adapters.state() | head, card)
    adapters.detach()
    other = build_family("big_bird")[1]
    other.bert.encoder.layer[0].attention.self.query.weight.data.mul_(2)
    with pytest.raises(Refusal, match="whose weights are"):
        krona_tune.load(other, tmp_path)
    assert other.config.attention_type == other.bert.attention_type == "block_sparse"
    loaded = build_family("big_bird")[1]
    krona_tune.load(loaded, tmp_path)
    assert loaded.bert.attention_type == "original_full"


def test_a_compiled_model_takes_adapter_and_head(tmp_path: Path) -> None:
    adapted = saved(tmp_path, "bert")
    shape, model, _ = build("bert")
    krona_tune.load(torch.compile(model, backend="eager"), tmp_path)
    assert torch.equal(outputs(model, shape), adapted)


def test_a_head_can_not_reach_into_the_backbone(tmp_path: Path) -> None:
    saved(tmp_path, "bert")
    tensors = load_file(tmp_path / TENSORS)
    tensors["head.bert.embeddings.word_embeddings.weight"] = torch.zeros(97, 24)
    save_file(tensors, tmp_path / TENSORS)
    assert "the model has no bert.embeddings.word_embeddings.weight" in refused(build("bert")[1], tmp_path)


def test_a_tensor_too_many_or_of_another_shape_is_refused(tmp_path: Path) -> None:
    saved(tmp_path, "bert")
    tensors = load_file(tmp_path / TENSORS)
    name = next(name for name in tensors if name.startswith("adapter."))
    save_file({**tensors, "adapter.surprise": torch.zeros(2)}, tmp_path / TENSORS)
    assert "1 tensors are on one side only, the first 'adapter.surprise'" in refused(build("bert")[1], tmp_path)
    save_file({**tensors, name: torch.zeros(2, 7)}, tmp_path / TENSORS)
    assert f"{name} is (2, 7), the model takes (4, 2)" in refused(build("bert")[1], tmp_path)


def test_the_tensors_of_one_trial_beside_the_card_of_another_are_refused(tmp_path: Path) -> None:
    for trial in ("mnli-001", "mnli-002"):
        saved(tmp_path / trial, "bert", trial_id=trial)
    (tmp_path / "mnli-001" / TENSORS).replace(tmp_path / "mnli-002" / TENSORS)
    said = refused(build("bert")[1], tmp_path / "mnli-002")
    assert "adapter.safetensors is of mnli-001, adapter.json of mnli-002; copy the whole folder again" in said


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_tensors_that_hold_no_numbers_are_refused(value: float, tmp_path: Path) -> None:
    saved(tmp_path, "bert")
    tensors = load_file(tmp_path / TENSORS)
    tensors["head.classifier.bias"][1] = value
    save_file(tensors, tmp_path / TENSORS)
    assert "head.classifier.bias holds a value that is not a finite number" in refused(build("bert")[1], tmp_path)


def test_an_adapter_that_finds_no_room_leaves_the_earlier_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapted = saved(tmp_path, "bert")

    def half(tensors: dict[str, torch.Tensor], path: Path, said: dict[str, str]) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(adapter_files, "save_file", half)
    with pytest.raises(OSError, match="No space left"):
        saved(tmp_path, "bert", trial_id="mnli-001")
    shape, model, _ = build("bert")
    krona_tune.load(model, tmp_path)
    assert torch.equal(outputs(model, shape), adapted)
    assert {path.name for path in tmp_path.iterdir()} == {"adapter.json", TENSORS, "README.md"}


def test_an_adapter_that_is_replaced_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path, "bert")
    read = adapter_files.read_tensors

    def replaced(folder: Path) -> dict[str, torch.Tensor]:
        saved(folder, "bert", trial_id="mnli-001")
        return read(folder)

    monkeypatch.setattr(adapter_files, "read_tensors", replaced)
    assert "another adapter came here while it was read; load it again" in refused(build("bert")[1], tmp_path)


@pytest.mark.parametrize("pickled", ["adapter.bin", "adapter.pt", "pytorch_model.bin"])
def test_nothing_is_unpickled(pickled: str, tmp_path: Path) -> None:
    torch.save({"adapter": torch.ones(2)}, tmp_path / pickled)
    said = "holds no adapter.json; give a folder such as studies/NAME/adapters/TASK"
    assert said in refused(build("bert")[1], tmp_path)
    saved(tmp_path, "bert")
    (tmp_path / TENSORS).unlink()
    assert "holds no adapter.safetensors; nothing else is read" in refused(build("bert")[1], tmp_path)
    (tmp_path / pickled).rename(tmp_path / TENSORS)
    assert "adapter.safetensors: can't be read" in refused(build("bert")[1], tmp_path)


@pytest.mark.parametrize("length", [0, 7, 500, -1])
def test_a_truncated_file_is_refused(length: int, tmp_path: Path) -> None:
    saved(tmp_path, "bert")
    whole = (tmp_path / TENSORS).read_bytes()
    (tmp_path / TENSORS).write_bytes(whole[:length])
    assert "adapter.safetensors: can't be read" in refused(build("bert")[1], tmp_path)


@pytest.mark.parametrize(("method", "knob"), [("lora", "rank"), ("adapter", "bottleneck"), ("compacter", "bottleneck")])
def test_a_card_of_an_adapter_that_no_memory_holds_is_refused(method: str, knob: str, tmp_path: Path) -> None:
    shape, model, _ = build("bert")
    saved(tmp_path, "bert", shaped(shape, method))
    card = json.loads((tmp_path / CARD).read_text(encoding="utf-8"))
    card["adapter"][knob] = 10**12
    (tmp_path / CARD).write_text(json.dumps(card), encoding="utf-8")
    message = refused(model, tmp_path)
    assert re.search(
        r"does not fit the model: its card means [\d,]{18,} parameters, adapter.safetensors holds", message
    )


def test_a_file_does_not_make_us_import_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An adapter of one's own class of peft is loaded only if the class was imported before."""
    (tmp_path / "own_method.py").write_text("from peft import LoraConfig as OwnConfig\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    saved(tmp_path / "adapter", "bert", AdapterConfig(method="peft:own_method.OwnConfig", peft={"r": 2}))
    _, model, _ = build("bert")
    krona_tune.load(model, tmp_path / "adapter").detach()
    del sys.modules["own_method"]
    with pytest.raises(Refusal, match="which is not imported; import own_method before"):
        krona_tune.load(model, tmp_path / "adapter")
