"""Tests that an adapter leaves as the nearest LoRA of a rank, that stock loaders read it, and what it costs is said."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file

from krona_tune.adapters.export_forms import Form
from krona_tune.adapters.merge import merge
from krona_tune.adapters.nearest_lora import nearest_lora
from krona_tune.refusal import Refusal
from krona_tune.train.export import export_adapter
from krona_tune.train.export_check import logits, sample_inputs
from krona_tune.train.predict import load_adapted
from tests.train.exported_adapters import adapter_folder, backbone_folder

pytest.importorskip("peft", reason="the extra `peft` is not installed")
KEY = re.compile(r"base_model\.model\.(.+)\.lora_(A|B)\.weight")


def left(name: str, room: Path, method: str = "krona", **knobs: Any) -> Path:
    return adapter_folder(backbone_folder(name, room / "backbone"), room / "adapter", "cola", method, **knobs)


@pytest.mark.parametrize(
    ("name", "method", "knobs", "rank"),
    [
        ("bert", "krona", {"terms": 2, "roles": "query+value+feed_forward_in"}, 24),
        ("deberta", "krona", {"roles": "query+key"}, 24),
        ("gpt2", "cdka", {"roles": "key+value+feed_forward_out"}, 24),
        ("distilbert", "lokr", {}, 24),
        ("t5", "lora", {"rank": 2}, 2),
        ("llama", "krona", {"layer_norms": True, "a_out": 2, "roles": "query+value"}, 64),
    ],
)
def test_at_its_whole_rank_a_lora_gives_the_adapted_logits(
    name: str, method: str, knobs: dict[str, Any], rank: int, tmp_path: Path
) -> None:
    adapter = left(name, tmp_path, method, **knobs)
    whole = load_adapted(adapter)
    inputs = sample_inputs(whole)
    expected = logits(whole.answer.model, inputs)
    done = export_adapter(adapter, tmp_path / "out", Form.LORA, rank=rank)
    assert done.approximation is not None
    assert done.approximation.kept == pytest.approx(1.0)
    names: dict[str, Any] = {}
    exec(done.loading, names)
    torch.testing.assert_close(logits(names["model"].eval(), inputs), expected, atol=1e-4, rtol=1e-4)


def test_a_lower_rank_is_the_nearest_and_its_share_of_the_norm_is_right(tmp_path: Path) -> None:
    whole = load_adapted(left("bert", tmp_path, roles="query+feed_forward_in"))
    near = nearest_lora(whole.adapters, 2)
    before = {name: whole.backbone.base.get_submodule(name).weight.detach().clone() for name in near.halves}
    merge(whole.adapters)
    kept = total = 0.0
    for name, (to, of) in near.halves.items():
        change = whole.backbone.base.get_submodule(name).weight.detach() - before[name]
        values = torch.linalg.svdvals(change.double())
        missing = (change - to @ of).norm() ** 2
        assert missing.item() == pytest.approx(values[2:].square().sum().item(), rel=1e-3)
        kept, total = kept + values[:2].square().sum().item(), total + values.square().sum().item()
    assert near.kept == pytest.approx(kept / total, rel=1e-4)
    assert 0 < near.kept < 1


def test_the_files_hold_what_a_loader_of_lora_alone_expects(tmp_path: Path) -> None:
    """The rules of vLLM: names of files, keys and fields, one rank and scale for all maps."""
    adapter = left("llama", tmp_path, roles="query+value", layers="last 2")
    export_adapter(adapter, tmp_path / "out", Form.LORA, rank=3)
    tensors = load_file(tmp_path / "out" / "adapter_model.safetensors")
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["bias"]) == (3, 3, "none")
    odd = ("use_dora", "use_rslora", "rank_pattern", "alpha_pattern")
    assert not any(config[name] for name in odd)
    assert {name.rpartition(".")[2] for name in config["target_modules"]} == {"q_proj", "v_proj"}
    saved = {key for key in tensors if not KEY.fullmatch(key)}
    assert saved == {"base_model.model.score.weight"}, "only the head of a classifier is no LoRA"
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "backbone", num_labels=2)
    places = {found[1] for key in tensors if (found := KEY.fullmatch(key))}
    assert len(places) == 4
    for place in places:
        a, b = (tensors[f"base_model.model.{place}.lora_{each}.weight"] for each in "AB")
        assert a.shape[0] == b.shape[1] == 3
        with torch.no_grad():
            model.get_submodule(place).weight += config["lora_alpha"] / config["r"] * b @ a
    with torch.no_grad():
        model.score.weight.copy_(tensors["base_model.model.score.weight"])
    model.config.pad_token_id = load_adapted(adapter).tokenizer.pad_token_id
    from peft import PeftModel

    whole = load_adapted(adapter)
    inputs = sample_inputs(whole)
    whole.adapters.detach()
    expected = logits(PeftModel.from_pretrained(whole.answer.model, tmp_path / "out").eval(), inputs)
    torch.testing.assert_close(logits(model.eval(), inputs), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("method", "knobs", "rank", "said"),
    [
        ("bitfit", {}, 2, "--format: bitfit changes no weight of a linear map, as LoRA does; use --format merged"),
        ("krona_b", {}, 2, "--format: krona_b changes no weight of a linear map, as LoRA does; use --format adapter"),
        (
            "peft:LoRA",
            {"peft": {"r": 2}, "roles": "query"},
            25,
            "--rank: 25, but encoder.layer.0.attention.self.query has 24 × 24 weights; write 24 or less",
        ),
        ("krona", {}, None, "--rank: lora needs a rank; write --format lora --rank 16, or leave both out"),
    ],
)
def test_what_has_no_nearest_lora_is_refused(
    method: str, knobs: dict[str, Any], rank: int | None, said: str, tmp_path: Path
) -> None:
    with pytest.raises(Refusal) as refused:
        export_adapter(left("bert", tmp_path, method, **knobs), tmp_path / "out", Form.LORA, rank=rank)
    assert str(refused.value) == said
    assert not (tmp_path / "out").exists()


def test_another_form_has_no_rank(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="--rank: merged has none"):
        export_adapter(left("bert", tmp_path), tmp_path / "out", Form.MERGED, rank=2)
