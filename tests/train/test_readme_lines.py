"""Tests that the lines in the README of every export run as they stand, in a new process without a network."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from krona_tune.adapters.export_forms import Form, WrittenDtype
from krona_tune.train.export import export_adapter
from krona_tune.train.predict import load_adapted, predictions
from tests.language_models import saved_language_model
from tests.train.exported_adapters import SUMS, adapter_folder, backbone_folder, writing_adapter

for package in ("peft", "onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(package, reason=f"the package {package} is not installed")
ROOT = Path(__file__).resolve().parents[2]
LINES = """
import json, socket, sys
from pathlib import Path
def refused(*given):
    raise OSError("no network")
socket.socket.connect = refused
answers = {}
for form in sys.argv[1:]:
    names = {}
    exec(Path(form, "README.md").read_text(encoding="utf-8").partition("```python\\n")[2].partition("```")[0], names)
    if "logits" not in names:
        from transformers import AutoTokenizer
        given = AutoTokenizer.from_pretrained("merged")(["a sentence"], return_tensors="pt")
        names["logits"] = names["model"].eval()(**given).logits
    answers[form] = names["logits"].tolist()
print(json.dumps(answers))
"""


@pytest.mark.slow
def test_the_lines_of_each_readme_give_the_adapters_logits_offline(tmp_path: Path) -> None:
    backbone = backbone_folder("bert", tmp_path / "backbone")
    (backbone / "README.md").write_text("---\nlicense: mit\n---\n", encoding="utf-8")
    adapter = adapter_folder(backbone, tmp_path / "study", "cola", "krona", a_out=4, a_in=4, roles="query+value")
    for form in (Form.MERGED, Form.ADAPTER, Form.PEFT, Form.KRONA, Form.LORA):
        export_adapter(adapter, tmp_path / form, form, rank=24 if form is Form.LORA else None)
        assert "| its licence | mit |" in (tmp_path / form / "README.md").read_text(encoding="utf-8")
    export_adapter(adapter, tmp_path / "int8", Form.ONNX, dtype=WrittenDtype.INT8)
    forms = ["merged", "adapter", "peft", "krona", "lora", "int8"]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", LINES, *forms],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    whole = load_adapted(adapter)
    with torch.no_grad():
        expected = whole.answer.model(**whole.tokenizer(["a sentence"], return_tensors="pt")).logits
    for form, logits in json.loads(done.stdout.splitlines()[-1]).items():
        near = 0.1 * expected.abs().max().item() if form == "int8" else 1e-4
        torch.testing.assert_close(torch.tensor(logits), expected, atol=near, rtol=1e-4, msg=form)


def test_the_lines_of_a_text_to_text_models_readme_give_its_answer(tmp_path: Path) -> None:
    adapter = adapter_folder(backbone_folder("t5", tmp_path / "backbone"), tmp_path / "adapter", "mrpc")
    names: dict[str, Any] = {}
    exec(export_adapter(adapter, tmp_path / "out", Form.MERGED).loading, names)
    [expected] = predictions(load_adapted(adapter), [("a sentence1", "a sentence2")])
    assert names["answer"] == expected.text
    assert torch.tensor(names["scores"]).softmax(0).tolist() == pytest.approx(list(expected.probabilities), abs=1e-4)
    assert "scores.append(" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_the_tokenizer_beside_a_whole_model_cuts_where_training_did(tmp_path: Path) -> None:
    adapter = adapter_folder(backbone_folder("bert", tmp_path / "backbone"), tmp_path / "adapter")
    export_adapter(adapter, tmp_path / "out", Form.MERGED)
    told = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert told["model_max_length"] == load_adapted(adapter).card.max_length


@pytest.mark.parametrize("form", [Form.MERGED, Form.ADAPTER, Form.PEFT, Form.KRONA])
@pytest.mark.parametrize(("name", "sizes"), [("llama", {}), ("bart", {}), ("mt5", {"num_decoder_layers": 3})])
def test_the_lines_of_a_model_that_writes_generate_as_the_study_scored(
    form: Form, name: str, sizes: dict[str, int], tmp_path: Path
) -> None:
    """A backbone's own rules would sample, go on behind an end, and keep states that a deep decoder does not have."""
    own = {"do_sample": True, "temperature": 3.0, "repetition_penalty": 9.0, "forced_eos_token_id": 1, "min_length": 9}
    backbone = saved_language_model(tmp_path / "backbone", name, chat=True, **sizes)
    written = json.loads((backbone / "generation_config.json").read_text(encoding="utf-8"))
    (backbone / "generation_config.json").write_text(json.dumps(written | own), encoding="utf-8")
    adapter = writing_adapter(name, tmp_path, "lora" if form is Form.PEFT else "krona", backbone=backbone)
    rows = [(str(a), str(a + 3)) for a in range(8)]
    whole = load_adapted(adapter)
    rules = whole.answer.decoding
    assert rules is not None
    assert rules.before_answer == ("" if name == "llama" else " ")
    expected = [each.text for each in predictions(whole, rows)]
    names: dict[str, Any] = {}
    exec(export_adapter(adapter, tmp_path / "out", form).loading, names)
    said = '`"</s>" or "<turn>"`'
    assert f"at most 4 tokens, up to {said}." in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    found = []
    for row in rows:
        asked = whole.tokenizer.apply_chat_template(
            [{"role": "user", "content": SUMS.prompt(row)}], tokenize=False, add_generation_prompt=True
        )
        given = whole.tokenizer(asked + rules.before_answer, add_special_tokens=False, return_tensors="pt")
        new = (
            names["model"].eval().generate(**given)[0, given["input_ids"].shape[1] if name == "llama" else 1 :].tolist()
        )
        ended = next((place for place, token in enumerate(new) if token in (1, 2)), len(new))
        assert ended >= len(new) - 1  # nothing is written behind an end
        found.append(whole.tokenizer.decode(new[:ended], skip_special_tokens=True).strip())
    assert found == expected
