"""Tests that an export gives the study's outputs in a process without krona_tune, or is refused."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tokenizers import normalizers, processors

import krona_tune
from krona_tune.adapters.adapter_card import CARD, read_card
from krona_tune.adapters.adapter_files import TENSORS, read_tensors, save_adapter
from krona_tune.adapters.approximation import Rounding
from krona_tune.adapters.export_forms import Form, Publication, WrittenDtype
from krona_tune.data.corpus import load as load_data
from krona_tune.data.encode import encode
from krona_tune.data.metrics import measure
from krona_tune.data.tasks import TASKS
from krona_tune.processor import torch_threads
from krona_tune.refusal import Refusal
from krona_tune.study.request.schedule import make_schedule
from krona_tune.train import export_check, export_onnx
from krona_tune.train.backbone import load_backbone, open_tokenizer
from krona_tune.train.backbone_source import find_backbone
from krona_tune.train.export import export_adapter
from krona_tune.train.export_check import building, logits, sample_inputs
from krona_tune.train.loop import TaskWork, TrialRun
from krona_tune.train.predict import load_adapted, predictions
from tests.adapters.cards import card_of
from tests.language_models import CHAT
from tests.train.conftest import FLOAT32, tiny_trial
from tests.train.exported_adapters import SUMS, adapter_folder, backbone_folder, texts, work_on, writing_adapter

STRANGER = """
import json, sys

class Nowhere:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "krona_tune":
            raise ImportError(name)

sys.meta_path.insert(0, Nowhere())
import torch, transformers
from safetensors.torch import load_file, save_file

torch.set_num_threads(1)
for line in sys.stdin:
    folder, kind, inputs, out = json.loads(line)
    model = getattr(transformers, kind).from_pretrained(folder).eval()
    save_file({"logits": model(**load_file(inputs)).logits.detach().float()}, out)
    print(out, flush=True)
"""
Stranger = Callable[[Path, dict[str, torch.Tensor], Path], torch.Tensor]


@pytest.fixture(scope="module")
def by_a_stranger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stranger]:
    """Gives the logits that plain transformers gives in a process that can't import krona_tune."""
    with subprocess.Popen(
        [sys.executable, "-c", STRANGER],
        cwd=tmp_path_factory.mktemp("stranger"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin
        assert process.stdout
        asked, answers = process.stdin, process.stdout

        def ask(folder: Path, inputs: dict[str, torch.Tensor], room: Path) -> torch.Tensor:
            kind = "AutoModelForSeq2SeqLM" if "decoder_input_ids" in inputs else "AutoModelForSequenceClassification"
            save_file({name: tensor.contiguous() for name, tensor in inputs.items()}, room / "inputs")
            words = [str(folder), kind, str(room / "inputs"), str(room / "logits")]
            print(json.dumps(words), file=asked, flush=True)
            assert answers.readline().strip() == words[-1], "the process has ended"
            return load_file(room / "logits")["logits"]

        yield ask


NORMS: dict[str, Any] = {"layer_norms": True}
OF_PEFT: dict[str, Any] = {"peft": {"r": 2}, "roles": "query+value"}
SUM: dict[str, Any] = {"terms": 2, "scaling": "stable", "init": "cdka"}


@pytest.mark.parametrize(
    ("name", "task", "method", "knobs"),
    [
        ("bert", "cola", "krona", NORMS),
        ("bert", "cola", "krona", SUM),
        ("bert", "stsb", "lora", {}),
        ("distilbert", "cola", "bitfit", NORMS),
        ("deberta", "cola", "krona", {}),
        ("deberta-v2", "cola", "full", {}),
        ("t5", "stsb", "krona", NORMS),
        ("t5", "cola", "full", {}),
        ("bert", "cola", "peft:LoRA", OF_PEFT | {"peft": {"r": 4, "lora_alpha": 32}}),
    ],
)
def test_a_merged_model_gives_the_adapted_logits_to_a_stranger(
    name: str, task: str, method: str, knobs: dict[str, Any], tmp_path: Path, by_a_stranger: Stranger
) -> None:
    backbone = backbone_folder(name, tmp_path / "backbone")
    adapter = adapter_folder(backbone, tmp_path / "adapter", task, method, **knobs)
    whole = load_adapted(adapter)
    inputs = sample_inputs(whole)
    expected = logits(whole.answer.model, inputs)
    whole.adapters.detach()
    assert not torch.allclose(logits(whole.answer.model, inputs), expected, atol=1e-2)
    left = export_adapter(adapter, tmp_path / "out", Form.MERGED)
    assert left.difference < 1e-4 * expected.abs().max()
    names: dict[str, Any] = {}
    exec(left.loading, names)
    torch.testing.assert_close(logits(names["model"].eval(), inputs), expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(by_a_stranger(tmp_path / "out", inputs, tmp_path), expected, atol=1e-4, rtol=1e-4)
    config = transformers.AutoConfig.from_pretrained(tmp_path / "out")
    if not whole.card.text_to_text:
        assert config.id2label == dict(enumerate(TASKS[task].labels or ["score"]))
        assert config.problem_type == ("regression" if task == "stsb" else "single_label_classification")
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert again("the cat", "a dog").input_ids == whole.tokenizer("the cat", "a dog").input_ids
    readme = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "library_name: transformers" in readme
    assert "from_pretrained('out')" in readme
    assert {path.name for path in tmp_path.iterdir()} == {"backbone", "adapter", "out", "inputs", "logits"}


@pytest.mark.parametrize("method", ["krona", "full"])
def test_a_merged_decoder_that_writes_keeps_its_tying_and_its_cache(method: str, tmp_path: Path) -> None:
    adapter = writing_adapter("gpt2", tmp_path, method)
    whole = load_adapted(adapter)
    inputs = sample_inputs(whole)
    expected = logits(whole.answer.model, inputs)
    export_adapter(adapter, tmp_path / "out", Form.MERGED)
    saved = load_file(tmp_path / "out" / "model.safetensors")
    assert sum(name.endswith(("wte.weight", "lm_head.weight")) for name in saved) == 1
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    assert again.config.use_cache
    again.config.use_cache = False
    torch.testing.assert_close(logits(again, inputs), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_tokenizer_pads_as_the_study_did_whatever_the_backbones_does(side: str, tmp_path: Path) -> None:
    """A head's texts are padded on the right; a decoder writes after the last position."""
    if side == "left":
        adapter = writing_adapter("gpt2", tmp_path)
    else:
        adapter = adapter_folder(backbone_folder("bert", tmp_path / "backbone"), tmp_path / "adapter")
    opened = transformers.AutoTokenizer.from_pretrained
    other = {"right": "left", "left": "right"}[side]
    opened(tmp_path / "backbone", padding_side=other).save_pretrained(tmp_path / "backbone")
    assert opened(tmp_path / "backbone").padding_side == other
    export_adapter(adapter, tmp_path / "out", Form.MERGED)
    assert opened(tmp_path / "out").padding_side == side


def test_a_merged_model_writes_as_the_study_scored_it(tmp_path: Path) -> None:
    adapter = writing_adapter("llama", tmp_path)
    rows = [("3", "4"), ("12", "30")]
    expected = krona_tune.predict(adapter, rows)
    own = {"do_sample": True, "temperature": 3.0, "repetition_penalty": 50.0, "min_new_tokens": 9}
    (tmp_path / "backbone" / "generation_config.json").write_text(json.dumps(own), encoding="utf-8")
    export_adapter(adapter, tmp_path / "out", Form.MERGED)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    for row, text in zip(rows, expected, strict=True):
        given = tokenizer(SUMS.prompt(row), return_tensors="pt")
        new = model.generate(**given)[0, given["input_ids"].shape[1] :]
        assert tokenizer.decode(new, skip_special_tokens=True).strip() == text
    assert 'It writes greedily, at most 4 tokens, up to `"</s>"`.' in (tmp_path / "out" / "README.md").read_text(
        encoding="utf-8"
    )


@pytest.mark.parametrize(
    ("single", "pair"),
    [
        ("$A </s>", "$A </s> $B </s>"),
        ("$A </s>", "$A </s> $B"),
        ("</s> $A </s>", "</s> $A </s> $B </s>"),
        ("<turn> $A </s>", "<turn> $A <turn> $B </s>"),
        ("$A <turn>", "$A $B <turn>"),
    ],
)
def test_the_tokenizer_of_a_model_that_writes_ends_no_prompt(single: str, pair: str, tmp_path: Path) -> None:
    """Training reads prompts without the end that the backbone's tokenizer writes; all else around them stays."""
    adapter = writing_adapter("llama", tmp_path)
    own = transformers.AutoTokenizer.from_pretrained(tmp_path / "backbone")
    special = [(name, own.convert_tokens_to_ids(name)) for name in ("<turn>", "</s>")]
    own.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=single, pair=pair, special_tokens=special
    )
    own.model_input_names = own.init_kwargs["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
    own.save_pretrained(tmp_path / "backbone")
    rows = [("3", "4"), ("12", "30")]
    expected = krona_tune.predict(adapter, rows)
    export_adapter(adapter, tmp_path / "out", Form.MERGED)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    for given in (["ab"], ["ab", "c"]):
        ids = own(*given).input_ids
        assert again(*given).input_ids == (ids[:-1] if ids[-1] == own.eos_token_id else ids)
    for row, text in zip(rows, expected, strict=True):
        given = again(SUMS.prompt(row), return_tensors="pt")
        new = model.generate(**given)[0, given["input_ids"].shape[1] :]
        assert again.decode(new, skip_special_tokens=True).strip() == text


def test_a_tokenizer_that_makes_nothing_of_a_sample_is_written_as_it_is(tmp_path: Path) -> None:
    adapter = writing_adapter("llama", tmp_path)
    own = transformers.AutoTokenizer.from_pretrained(tmp_path / "backbone")
    own.backend_tokenizer.normalizer = normalizers.Replace("a", "")
    own.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", own.eos_token_id)]
    )
    own.save_pretrained(tmp_path / "backbone")
    export_adapter(adapter, tmp_path / "out", Form.MERGED)
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert again("abc").input_ids == own("abc").input_ids


@pytest.mark.parametrize(
    ("before", "said"), [(" ?\n\n ", ' (after its generation prompt `" ?\\n\\n"`):\n'), (" ", ":\n")]
)
def test_a_card_says_what_the_chat_template_writes_before_an_answer(before: str, said: str, tmp_path: Path) -> None:
    adapter = writing_adapter("llama", tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "backbone")
    own = f"{{{{ {before!r} if m['role'] == 'assistant' }}}}{{{{ m['content'] }}}}"
    tokenizer.chat_template = CHAT.replace(" {{ m['content'] }}", own)
    tokenizer.save_pretrained(tmp_path / "backbone")
    export_adapter(adapter, tmp_path / "out", Form.ADAPTER)
    readme = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert f"with all that the template writes before an answer{said}" in readme


def test_the_sample_has_padding_and_no_special_tokens(tmp_path: Path) -> None:
    adapter = adapter_folder(backbone_folder("t5", tmp_path / "backbone"), tmp_path / "adapter")
    whole = load_adapted(adapter)
    inputs = sample_inputs(whole)
    mask = inputs["attention_mask"].bool()
    assert len(set(mask.sum(1).tolist())) == 8
    assert not mask.all()
    assert not set(inputs["input_ids"][mask].tolist()) & set(whole.tokenizer.all_special_ids)
    assert (inputs["input_ids"][~mask] == whole.tokenizer.pad_token_id).all()
    assert int(inputs["input_ids"].max()) < len(whole.tokenizer)


@pytest.mark.parametrize(("most", "threads"), [(10**12, 1), (0, 3)])
def test_a_small_pass_is_computed_on_one_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, threads: int
) -> None:
    monkeypatch.setattr(export_check, "FEW_PRODUCTS", most)
    whole = load_adapted(adapter_folder(backbone_folder("bert", tmp_path / "backbone"), tmp_path / "adapter"))
    used = set[int]()
    whole.answer.model.register_forward_hook(lambda *_: used.add(torch.get_num_threads()))
    with torch_threads(3):
        logits(whole.answer.model, sample_inputs(whole))
    assert used == {threads}


def test_a_merged_model_can_be_written_in_bfloat16(tmp_path: Path) -> None:
    adapter = adapter_folder(backbone_folder("bert", tmp_path / "backbone"), tmp_path / "adapter")
    left = export_adapter(adapter, tmp_path / "out", Form.MERGED, dtype=WrittenDtype.BFLOAT16)
    assert {tensor.dtype for tensor in load_file(tmp_path / "out" / "model.safetensors").values()} == {torch.bfloat16}
    assert 0 < left.difference < 0.1
    assert left.approximation is not None
    said = f"Its weights are bfloat16, which moves a logit by at most {left.difference:.2g} on inputs drawn by chance"
    assert said in left.approximation.text
    assert said in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    whole = load_adapted(adapter)
    inputs = sample_inputs(whole)
    read = transformers.AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "out", dtype=torch.bfloat16
    ).eval()
    moved = (logits(read, inputs) - logits(whole.answer.model, inputs)).abs().max().item()
    assert moved <= 1.001 * left.difference


def test_in_bfloat16_it_says_what_that_costs_on_validation(tmp_path: Path) -> None:
    """The validation half is what the adapter itself answers, far from 0, where bfloat16 has few numbers."""
    adapter = adapter_folder(backbone_folder("bert", tmp_path / "backbone"), tmp_path / "adapter", "stsb")
    tensors = read_tensors(adapter)
    [bias] = (name for name, each in tensors.items() if name.endswith("bias") and each.shape == (1,))
    save_adapter(adapter, {**tensors, bias: tensors[bias] + 1000}, read_card(adapter))
    whole, rows = load_adapted(adapter), texts("stsb", rows=24)
    work = work_on(whole, rows, [float(each.text) for each in predictions(whole, rows)])
    found = export_adapter(adapter, tmp_path / "out", Form.MERGED, dtype=WrittenDtype.BFLOAT16, judged_on=work)
    assert isinstance(found.approximation, Rounding)
    assert found.approximation.before == pytest.approx(1.0, abs=1e-3)
    assert found.approximation.after is not None
    assert found.approximation.after < 0.99
    assert found.approximation.text in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_the_same_form_is_the_same_adapter(tmp_path: Path) -> None:
    adapter = adapter_folder(backbone_folder("bert", tmp_path / "backbone"), tmp_path / "adapter", method="krona_b")
    (tmp_path / "out").mkdir()
    assert export_adapter(adapter, tmp_path / "out", Form.ADAPTER).difference == 0
    ours, theirs = read_tensors(adapter), read_tensors(tmp_path / "out")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
    assert "krona_tune.load(model, 'out')" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"adapter": {"method": "lora", "rank": 3}}, "does not fit the model: .* tensors are on one side only"),
        ({"task": "stsb", "labels": []}, "does not fit the model: classifier.* num_labels must be the task's"),
        ({"backbone_fingerprint": "00" * 32}, "whose weights are 000000000000; the model's are"),
        (
            {"text_to_text": True},
            "answers with words, on a bert, which a bert does not; give the backbone",
        ),
        ({"backbone_layers": 4}, "belongs to a bert of width 24 in 4 layers"),
    ],
)
def test_a_card_of_another_adapter_is_not_left_in_the_same_form(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    adapter = adapter_folder(backbone_folder("bert", tmp_path / "backbone"), tmp_path / "adapter")
    card = json.loads((adapter / CARD).read_text(encoding="utf-8"))
    (adapter / CARD).write_text(json.dumps(card | change), encoding="utf-8")
    with pytest.raises(Refusal, match=message):
        export_adapter(adapter, tmp_path / "out", Form.ADAPTER)
    assert {path.name for path in tmp_path.iterdir()} == {"backbone", "adapter"}


@pytest.mark.parametrize("method", ["krona_b", "krona_b_res", "adapter", "compacter", "parallel_adapter"])
def test_what_is_no_sum_with_weights_is_not_merged(method: str, tmp_path: Path) -> None:
    adapter = adapter_folder(backbone_folder("bert", tmp_path / "backbone"), tmp_path / "adapter", method=method)
    with pytest.raises(Refusal, match=rf"--format: merged: {method} can't be added .*; use --format adapter"):
        export_adapter(adapter, tmp_path / "out", Form.MERGED)
    assert not (tmp_path / "out").exists()


def test_biases_are_not_merged_into_maps_without(tmp_path: Path) -> None:
    adapter = adapter_folder(backbone_folder("t5", tmp_path / "backbone"), tmp_path / "adapter", method="bitfit")
    with pytest.raises(Refusal, match=r"merged: .*SelfAttention\.q has no bias to merge it into; use --format adapter"):
        export_adapter(adapter, tmp_path / "out", Form.MERGED)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    adapter = adapter_folder(backbone_folder("bert", tmp_path / "backbone"), tmp_path / "adapter")
    with pytest.raises(Refusal, match=r"--to: .*backbone is not empty; name a folder that is not there yet"):
        export_adapter(adapter, tmp_path / "backbone", Form.MERGED)
    with pytest.raises(Refusal, match=r"--to: .*config\.json is no folder"):
        export_adapter(adapter, tmp_path / "backbone" / "config.json", Form.ADAPTER)
    with pytest.raises(Refusal, match=r"--to: .*out can't be written: .*config\.json takes no files; name a writable"):
        export_adapter(adapter, tmp_path / "backbone" / "config.json" / "out", Form.ADAPTER)


def test_what_a_killed_export_has_left_in_the_folder_hinders_no_other(tmp_path: Path) -> None:
    adapter, out = (
        adapter_folder(backbone_folder("bert", tmp_path / "backbone"), tmp_path / "adapter"),
        tmp_path / "out",
    )
    left = out / ".unfinished-abc" / "out" / "model.safetensors"
    left.parent.mkdir(parents=True)
    left.touch()
    export_adapter(adapter, out, Form.ADAPTER)
    assert {path.name for path in out.iterdir()} == {CARD, TENSORS, "README.md"}


def test_what_a_killed_export_has_left_beside_its_folder_goes_once_it_is_old(tmp_path: Path) -> None:
    adapter = adapter_folder(backbone_folder("bert", tmp_path / "backbone"), tmp_path / "adapter")
    folders = {}
    for name, hours in {"out": 7, "other": 7, "young": 0}.items():
        folders[name] = tmp_path / f".unfinished-{name}" / ("out" if name == "young" else name)
        folders[name].mkdir(parents=True)
        then = time.time() - 3600 * hours
        os.utime(folders[name], (then, then))
    export_adapter(adapter, tmp_path / "out", Form.ADAPTER)
    assert {name for name, folder in folders.items() if folder.exists()} == {"other", "young"}


def test_other_weights_than_the_adapters_are_refused(tmp_path: Path) -> None:
    backbone = backbone_folder("bert", tmp_path / "backbone")
    adapter = adapter_folder(backbone, tmp_path / "adapter")
    other = transformers.AutoModelForSequenceClassification.from_pretrained(backbone)
    other.base_model.encoder.layer[1].attention.self.value.weight.data.mul_(1.01)
    other.save_pretrained(backbone)
    said = r"whose weights are \w{12}; the model's are \w{12}; put its weights back, or name the backbone that it was"
    with pytest.raises(Refusal, match=said):
        export_adapter(adapter, tmp_path / "out", Form.MERGED)


def test_outputs_that_differ_are_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = adapter_folder(backbone_folder("bert", tmp_path / "backbone"), tmp_path / "adapter")
    monkeypatch.setattr(export_check, "merge", lambda adapters: adapters.leave_hooks())
    with pytest.raises(Refusal, match=r"export: a logit merged differs by .*; nothing was written"):
        export_adapter(adapter, tmp_path / "out", Form.MERGED)
    assert {path.name for path in tmp_path.iterdir()} == {"backbone", "adapter"}


def test_files_that_read_back_otherwise_are_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = adapter_folder(backbone_folder("bert", tmp_path / "backbone"), tmp_path / "adapter")
    save = transformers.BertForSequenceClassification.save_pretrained

    def damaged(model: torch.nn.Module, folder: Path) -> None:
        save(model, folder)
        tensors = load_file(folder / "model.safetensors")
        tensors["classifier.weight"][1] += 0.1
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})

    monkeypatch.setattr(transformers.BertForSequenceClassification, "save_pretrained", damaged)
    with pytest.raises(Refusal, match="a logit read back differs by"):
        export_adapter(adapter, tmp_path / "out", Form.MERGED)
    assert {path.name for path in tmp_path.iterdir()} == {"backbone", "adapter"}


@pytest.mark.parametrize("form", [form for form in Form if form is not Form.GGUF])
@pytest.mark.parametrize("error", [SafetensorError("No space left on device"), OSError(28, "No space left on device")])
def test_a_disk_without_room_leaves_nothing_and_is_said(
    form: Form, error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = "krona" if form is Form.KRONA else "lora"
    adapter = adapter_folder(backbone_folder("bert", tmp_path / "backbone"), tmp_path / "adapter", method=method)

    def full(*_: object, **__: object) -> None:
        raise error

    for writer in ("transformers.modeling_utils.safe_save_file", "krona_tune.adapters.adapter_files.save_file"):
        monkeypatch.setattr(writer, full)
    monkeypatch.setattr("peft.peft_model.safe_save_file", full)
    monkeypatch.setattr(export_onnx, "write_onnx", full)
    monkeypatch.setattr(export_onnx, "refuse_without_onnx", lambda: None)
    with pytest.raises(Refusal, match=r"--to: .*out can't be written \(.*No space left on device\); name a writable"):
        export_adapter(adapter, tmp_path / "out", form, rank=2 if form is Form.LORA else None)
    assert {path.name for path in tmp_path.iterdir()} == {"backbone", "adapter"}


@pytest.mark.parametrize(
    ("name", "method", "knobs", "form"),
    [
        ("bert", "lora", NORMS, Form.PEFT),
        ("bert", "krona", {**SUM, "a_in": 24, "roles": "query+value"}, Form.PEFT),
        ("distilbert", "lokr", {}, Form.PEFT),
        ("t5", "lora", NORMS, Form.PEFT),
        ("bert", "peft:DoRA", OF_PEFT | NORMS, Form.PEFT),
        ("t5", "peft:VeRA", OF_PEFT, Form.PEFT),
        ("bert", "krona", SUM | NORMS, Form.KRONA),
        ("t5", "cdka", {"terms": 2}, Form.KRONA),
    ],
)
def test_pefts_form_gives_the_adapted_logits_and_names_its_backbone(
    name: str, method: str, knobs: dict[str, Any], form: Form, tmp_path: Path
) -> None:
    peft = pytest.importorskip("peft", reason="the extra `peft` is not installed")
    backbone = backbone_folder(name, tmp_path / "backbone")
    adapter = adapter_folder(backbone, tmp_path / "adapter", "cola", method, **knobs)
    whole = load_adapted(adapter)
    inputs = sample_inputs(whole)
    expected = logits(whole.answer.model, inputs)
    left = export_adapter(adapter, tmp_path / "out", form)
    assert left.difference < 1e-4 * expected.abs().max()
    assert not list((tmp_path / "out").glob("*.bin"))
    assert (tmp_path / "out" / "README.md").read_text(encoding="utf-8").startswith("---\nlibrary_name: peft\n")
    assert peft.PeftConfig.from_pretrained(tmp_path / "out").base_model_name_or_path == str(backbone)
    names: dict[str, Any] = {}
    exec(left.loading, names)
    assert isinstance(names["model"], peft.PeftModel)
    torch.testing.assert_close(logits(names["model"].eval(), inputs), expected, atol=1e-4, rtol=1e-4)
    assert names["tokenizer"].model_max_length == whole.card.max_length
    if not whole.card.text_to_text:
        assert names["answer"] == whole.card.labels[names["logits"][0].argmax()]


@pytest.mark.parametrize("form", [Form.ADAPTER, Form.PEFT])
def test_what_is_written_names_the_backbone_that_was_asked_for(
    form: Form, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = backbone_folder("bert", tmp_path / "before")
    adapter = adapter_folder(before, tmp_path / "adapter", "cola", "lora")
    before.rename(tmp_path / "after")
    monkeypatch.chdir(tmp_path)
    left = export_adapter(adapter, tmp_path / "out", form, model="after")
    written = [left.loading.encode(), *(path.read_bytes() for path in (tmp_path / "out").iterdir())]
    assert not any(str(before).encode() in content for content in written)
    monkeypatch.chdir("/")
    names: dict[str, Any] = {}
    exec(left.loading, names)
    whole = load_adapted(adapter, model=str(tmp_path / "after"))
    inputs = sample_inputs(whole)
    torch.testing.assert_close(logits(names["model"].eval(), inputs), logits(whole.answer.model, inputs))
    if form is Form.ADAPTER:
        assert load_adapted(tmp_path / "out").card.backbone == str(tmp_path / "after")


@pytest.mark.parametrize("form", [Form.MERGED, *(form for form in Form if form.facts.names_backbone)])
def test_what_goes_to_the_hub_shows_no_folder_of_this_machine(form: Form, tmp_path: Path) -> None:
    backbone = backbone_folder("bert", tmp_path / "backbone")
    adapter = adapter_folder(backbone, tmp_path / "adapter", method="krona" if form is Form.KRONA else "lora")
    export = partial(
        export_adapter, adapter, form=form, rank=3 if form is Form.LORA else None, published=Publication(repo="me/cola")
    )
    if form.facts.names_backbone:
        with pytest.raises(Refusal, match=rf"--push: {form} holds no weights, .*{backbone}; .* --model ORG/NAME; else"):
            export(tmp_path / "out")
        assert not (tmp_path / "out").exists()
        card = read_card(adapter).model_copy(update={"backbone": "org/tiny"})
        (adapter / CARD).write_text(card.model_dump_json(), encoding="utf-8")
        assert "from_pretrained('org/tiny', " in export(tmp_path / "out", model=str(backbone)).loading
    else:
        export(tmp_path / "out")
    assert not any(str(backbone).encode() in path.read_bytes() for path in (tmp_path / "out").iterdir())


@pytest.mark.parametrize("form", [Form.ADAPTER, Form.PEFT])
def test_the_lines_of_a_form_replace_another_head_of_the_backbone(form: Form, tmp_path: Path) -> None:
    backbone = backbone_folder("bert", tmp_path / "backbone")
    other = transformers.AutoModelForSequenceClassification.from_pretrained(
        backbone, num_labels=5, ignore_mismatched_sizes=True
    )
    other.save_pretrained(backbone)
    adapter = adapter_folder(backbone, tmp_path / "adapter", "cola", "lora")
    whole = load_adapted(adapter)
    inputs, names = sample_inputs(whole), dict[str, Any]()
    exec(export_adapter(adapter, tmp_path / "out", form).loading, names)
    torch.testing.assert_close(logits(names["model"].eval(), inputs), logits(whole.answer.model, inputs))


@pytest.mark.parametrize("form", [Form.ADAPTER, Form.PEFT])
def test_the_lines_of_a_form_compute_as_the_export_was_checked(form: Form, tmp_path: Path) -> None:
    """A backbone kept in bfloat16 would be loaded in it, and round the head that was trained in float32."""
    backbone = backbone_folder("bert", tmp_path / "backbone")
    transformers.AutoModelForSequenceClassification.from_pretrained(backbone, dtype="bfloat16").save_pretrained(
        backbone
    )
    adapter = adapter_folder(backbone, tmp_path / "adapter", "cola", "lora")
    whole = load_adapted(adapter)
    inputs, names = sample_inputs(whole), dict[str, Any]()
    exec(export_adapter(adapter, tmp_path / "out", form).loading, names)
    torch.testing.assert_close(logits(names["model"].eval(), inputs), logits(whole.answer.model, inputs))


def test_what_peft_can_not_say_is_not_left(tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="the extra `peft` is not installed")
    adapter = adapter_folder(backbone_folder("deberta", tmp_path / "backbone"), tmp_path / "adapter")
    with pytest.raises(Refusal, match=r"; use --format merged, --format lora .* or --format adapter \("):
        export_adapter(adapter, tmp_path / "out", Form.PEFT)
    assert not (tmp_path / "out").exists()


def test_without_peft_its_form_is_refused_with_the_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = adapter_folder(backbone_folder("bert", tmp_path / "backbone"), tmp_path / "adapter", method="lora")
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(Refusal, match=r"the package peft is not installed; pip install 'krona_tune\[peft\]'"):
        export_adapter(adapter, tmp_path / "out", Form.PEFT)


@pytest.mark.slow
def test_a_trained_encoder_keeps_its_validation_score_when_it_leaves(tmp_path: Path) -> None:
    """The loop trains it; transformers alone evaluates the exported folder, text by text."""
    source = find_backbone("sentence-transformers/all-MiniLM-L6-v2")
    task, tokenizer = TASKS["cola"], open_tokenizer(source.location, source.config["vocab_size"])
    data = load_data(task, "mini", train_examples=256, validation_examples=96, test_examples=32)
    encoded = encode(data, tokenizer, prompts=False, max_length=30, cache=tmp_path / "cache")
    work = TaskWork(
        task=task,
        train=encoded.train,
        validation=encoded.validation,
        pad_token_id=encoded.pad_token_id,
        schedule=make_schedule(examples_per_epoch=256, epochs=6, grace_epochs=6, reduction=2),
    )
    backbone = load_backbone(source.location, FLOAT32)
    trial = tiny_trial("cola", a_out=32, a_in=12, roles="query+key+value+output", layer_norms=True, batch_size=16)
    run = TrialRun("t", trial, work, backbone)
    report = run.advance()
    card = card_of(
        backbone.geometry,
        trial.adapter,
        backbone.fingerprint,
        task="cola",
        labels=task.labels,
        backbone=source.name,
        score=report.score,
    )
    save_adapter(tmp_path / "adapter", run.state(), card)
    run.close()
    assert report.score > 0.3

    export_adapter(tmp_path / "adapter", tmp_path / "out", Form.MERGED)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    own = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    texts, labels = data.validation["sentence"].to_pylist(), data.validation["label"].to_numpy()
    with torch.no_grad():
        found = [
            model(**own(text, truncation=True, max_length=30, return_tensors="pt")).logits.argmax() for text in texts
        ]
    assert measure(task, np.array(found), labels)["score"] == pytest.approx(report.score)
    predicted = krona_tune.predict(tmp_path / "adapter", texts)
    assert [task.labels[index] for index in found] == predicted


def test_two_exports_do_not_write_into_one_folder(tmp_path: Path) -> None:
    """The folder is there before both, as a person or a job makes it."""
    to = tmp_path / "out"
    to.mkdir()
    with building(to) as built:
        (built / "model.safetensors").write_bytes(b"first")
        with pytest.raises(Refusal, match=r"another export writes into .*out; wait for its end"), building(to):
            pytest.fail("a second one was let in")
        assert built.is_dir(), "the first one's files are left alone"
    with pytest.raises(Refusal, match="is not empty"), building(to):
        pytest.fail("what is there is overwritten")
    assert [path.name for path in to.iterdir()] == ["model.safetensors"]


def test_of_two_exports_that_make_one_folder_the_later_is_refused(tmp_path: Path) -> None:
    to = tmp_path / "out"

    def write_two() -> None:
        with building(to) as later:
            (later / "config.json").write_text("later")
            with building(to) as first:
                (first / "model.safetensors").write_bytes(b"first")

    with pytest.raises(Refusal, match="out was written meanwhile; name another folder"):
        write_two()
    assert [path.name for path in to.iterdir()] == ["model.safetensors"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
