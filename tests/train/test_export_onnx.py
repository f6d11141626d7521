"""Tests that a model exported to ONNX gives the adapted logits for any number and length of texts, or is refused."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from krona_tune.adapters.approximation import Quantisation
from krona_tune.adapters.export_forms import Form, WrittenDtype
from krona_tune.data.metrics import measure
from krona_tune.refusal import Refusal
from krona_tune.train import export_onnx
from krona_tune.train.export import export_adapter
from krona_tune.train.onnx_form import write_onnx
from krona_tune.train.predict import load_adapted, predictions
from tests.backbones.families import saved_family
from tests.train.exported_adapters import adapter_folder, backbone_folder, texts, work_on


def left(name: str, room: Path, task: str, method: str = "krona", **knobs: Any) -> Path:
    return adapter_folder(backbone_folder(name, room / "backbone"), room / "adapter", task, method, **knobs)


@pytest.mark.parametrize(
    ("name", "task", "knobs"),
    [("bert", "stsb", {"layer_norms": True}), ("llama", "cola", {"terms": 2})],
)
def test_the_lines_of_its_readme_give_the_logits_of_the_adapter_on_its_own_texts(
    name: str, task: str, knobs: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An encoder reads pairs with token types, a decoder's head the last token before the padding."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="the extra `onnx` is not installed")
    adapter = left(name, tmp_path, task, **knobs)
    if task == "stsb":
        told = tmp_path / "backbone" / "tokenizer_config.json"
        given = {"model_input_names": ["input_ids", "token_type_ids", "attention_mask"]}
        told.write_text(json.dumps(json.loads(told.read_text(encoding="utf-8")) | given), encoding="utf-8")
    done = export_adapter(adapter, tmp_path / "out", Form.ONNX)
    assert done.difference < 1e-4
    readme = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert readme.startswith("---\nlibrary_name: onnx\n")
    names: dict[str, Any] = {}
    monkeypatch.chdir(tmp_path)
    exec(readme.partition("```python\n")[2].partition("```")[0], names)
    assert names["logits"].shape == (1, 1 if task == "stsb" else 2)
    whole, rows = load_adapted(adapter), texts(task, rows=7)
    inputs = names["tokenizer"](*map(list, zip(*rows, strict=True)), padding=True, return_tensors="np")
    taken = {each.name: inputs[each.name] for each in names["session"].get_inputs()}
    assert ("token_type_ids" in taken) == (task == "stsb")
    [found] = names["session"].run(["logits"], taken)
    for row, logits, answer in zip(rows, torch.from_numpy(found), predictions(whole, rows), strict=True):
        with torch.no_grad():
            alone = whole.answer.model(**whole.tokenizer(*row, return_tensors="pt")).logits[0]
        torch.testing.assert_close(logits, alone, atol=1e-4, rtol=1e-4)
        if task == "cola":
            assert logits.softmax(-1).tolist() == pytest.approx(list(answer.probabilities), abs=1e-4)
    assert {path.name for path in tmp_path.iterdir()} == {"backbone", "adapter", "out"}


@pytest.mark.slow
@pytest.mark.parametrize("family", ["gpt_oss", pytest.param("qwen2_moe", marks=pytest.mark.long)])
def test_a_mixture_of_experts_is_traced(family: str, tmp_path: Path) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="the extra `onnx` is not installed")
    adapter = adapter_folder(saved_family(family, tmp_path / "backbone"), tmp_path / "adapter")
    assert export_adapter(adapter, tmp_path / "out", Form.ONNX).difference < 1e-4


class Zeros(torch.nn.Module):
    """A graph whose logits are all zero."""

    def forward(self, **inputs: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=torch.zeros(len(inputs["input_ids"]), 2))


def test_a_graph_with_other_logits_is_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = left("bert", tmp_path, "cola")
    monkeypatch.setattr(export_onnx, "write_onnx", lambda *_: None)
    monkeypatch.setattr(export_onnx, "refuse_without_onnx", lambda: None)
    monkeypatch.setattr(export_onnx, "OnnxModel", lambda _: Zeros())
    with pytest.raises(Refusal, match=r"export: a logit computed by onnxruntime differs by .*; nothing was written"):
        export_adapter(adapter, tmp_path / "out", Form.ONNX)
    assert {path.name for path in tmp_path.iterdir()} == {"backbone", "adapter"}


@pytest.mark.parametrize(
    ("name", "method", "message"),
    [
        ("t5", "krona", "--format: onnx: it holds a task's head, and this t5 answers with text; use --format merged"),
        ("bert", "krona_b", "--format: merged: krona_b can't be added to the weights of the model"),
    ],
)
def test_what_onnx_does_not_hold_is_refused(name: str, method: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=message):
        export_adapter(left(name, tmp_path, "cola", method), tmp_path / "out", Form.ONNX)
    assert not (tmp_path / "out").exists()


def test_without_a_package_it_is_refused_with_the_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = left("bert", tmp_path, "cola")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(Refusal, match=r"the package onnxscript is not installed; pip install 'krona_tune\[onnx\]'"):
        export_adapter(adapter, tmp_path / "out", Form.ONNX)


class Untraceable(nn.Module):
    """Computes otherwise where the tokens say so."""

    def forward(self, input_ids: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=input_ids.float() if input_ids.sum() > 9 else -input_ids.float())


def test_why_torch_can_not_trace_a_model_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxscript", reason="the extra `onnx` is not installed")
    inputs = {"input_ids": torch.ones(2, 12, dtype=torch.long)}
    with pytest.raises(Refusal) as refused:
        write_onnx(Untraceable(), inputs, tmp_path)
    said = str(refused.value)
    assert said.startswith("--format: onnx: torch can't export a Untraceable (")
    assert said.endswith("; use --format merged")
    assert not {"\n", "\x1b"} & set(said)
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_in_int8_it_says_what_that_costs_and_saves(tmp_path: Path) -> None:
    """The validation half is what the adapter itself answers, so that its score is 1 and only int8 can lose some."""
    pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
    adapter = left("bert", tmp_path, "stsb", layer_norms=True)
    whole, rows = load_adapted(adapter), texts("stsb", rows=24)
    work = work_on(whole, rows, [float(each.text) for each in predictions(whole, rows)])
    done = export_adapter(adapter, tmp_path / "out", Form.ONNX, dtype=WrittenDtype.INT8, judged_on=work)
    found = done.approximation
    assert isinstance(found, Quantisation)
    assert {file.name for file in (tmp_path / "out").glob("*onnx*")} == {"model.onnx"}
    assert found.before == pytest.approx(1.0, abs=1e-3)
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx")
    inputs = dict(whole.tokenizer(*map(list, zip(*rows, strict=True)), padding=True, return_tensors="np"))
    given = {each.name: inputs.get(each.name, np.zeros_like(inputs["input_ids"])) for each in session.get_inputs()}
    [logits] = session.run(["logits"], given)
    assert found.after == pytest.approx(measure(whole.task, logits[:, 0], work.validation["label"].to_numpy())["score"])
    assert 1e-4 < found.difference == done.difference
    with torch.no_grad():
        exact = whole.answer.model(**{name: torch.from_numpy(array) for name, array in inputs.items()}).logits
    assert 1e-4 < np.abs(exact.numpy() - logits).max() < 0.1 * exact.abs().max()
    assert found.file_bytes[1] < found.file_bytes[0]
    assert found.file_bytes[1] == (tmp_path / "out" / "model.onnx").stat().st_size
    assert set(found.milliseconds) == {1, 32}
    assert all(taken > 0 for pair in found.milliseconds.values() for taken in pair)
    assert found.text in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert f"its validation score is {found.after:.4f}, in float32 {found.before:.4f}" in found.text


@pytest.mark.parametrize(
    ("form", "dtype", "message"),
    [
        (Form.MERGED, WrittenDtype.INT8, "--dtype: merged has no weights in int8; merged is written in float32 or bfl"),
        (
            Form.ONNX,
            WrittenDtype.BFLOAT16,
            "--dtype: onnx has no weights in bfloat16; onnx is written in float32 or in",
        ),
        (Form.ADAPTER, WrittenDtype.INT8, "--dtype: adapter has no weights in int8; adapter is written in float32"),
    ],
)
def test_a_dtype_that_a_form_has_not_is_refused(form: Form, dtype: WrittenDtype, message: str, tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=message):
        export_adapter(left("bert", tmp_path, "cola"), tmp_path / "out", form, dtype=dtype)
    assert not (tmp_path / "out").exists()
