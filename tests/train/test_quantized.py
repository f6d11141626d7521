"""Tests that an adapter is trained, saved and used beside maps that are kept in 4 or 8 bits."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from krona_tune.adapters.adapter_files import save_adapter
from krona_tune.adapters.export_forms import Form
from krona_tune.adapters.inject import Adapters
from krona_tune.adapters.merge import merge
from krona_tune.api.printing import print_exported
from krona_tune.refusal import Refusal
from krona_tune.search.planning import request_checks
from krona_tune.search.planning.plan import make_plan
from krona_tune.study.request.loader import build_spec
from krona_tune.train.backbone import Backbone, load_backbone
from krona_tune.train.device import Device
from krona_tune.train.export import export_adapter
from krona_tune.train.loop import TrialRun
from krona_tune.train.predict import load_adapted
from tests.adapters.cards import card_of
from tests.models import CONFIGS, build
from tests.search.models import saved_bert, saved_model, saved_t5
from tests.train.conftest import WORDS, tiny_trial, tiny_work
from tests.trained_adapters import shaped, trained

pytest.importorskip("bitsandbytes")
WAYS = ["nf4", "int8"]
NAMES = ["bert", "llama", "t5"]
WIDTHS = {"hidden_size", "d_model", "intermediate_size", "d_ff"}


def quantized(folder: Path, way: str) -> Backbone:
    return load_backbone(str(folder), Device(kind="cpu", dtype=torch.float32, quantize=way))


def wide_model(name: str, folder: Path) -> Path:
    """Writes a tiny model whose widths are multiples of 64, as the products in 4 bits on a CPU need."""
    (saved_t5 if name == "t5" else saved_bert)(folder)
    model_type, sizes = CONFIGS[name]
    wide = {key: 64 if key in {"hidden_size", "d_model"} else 128 for key in sizes if key in WIDTHS}
    heads = {"head_dim": 32, "num_key_value_heads": 2} if name == "llama" else {"d_kv": 16} if name == "t5" else {}
    return saved_model(folder, model_type, {**sizes, **wide, **heads}, AutoTokenizer.from_pretrained(folder))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", NAMES)
def test_an_adapter_learns_beside_quantised_maps_and_leaves_them_alone(name: str, way: str, tmp_path: Path) -> None:
    backbone = quantized(wide_model(name, tmp_path / "model"), way)
    names = {site.name for site in backbone.geometry.sites if site.role != "feed_forward"}
    maps = [backbone.base.get_submodule(each) for each in names if not each.endswith(".wo")]  # a T5's stay in float32
    assert not any(module.weight.is_floating_point() for module in maps)
    before = [module.weight.detach().clone() for module in maps]
    work = tiny_work(rows=48, epochs=8, candidates=WORDS if backbone.geometry.text_to_text else ())
    run = TrialRun("t", tiny_trial(a_in=2, roles="query+value+output"), work, backbone)
    losses = []
    while not run.finished:
        losses.append(run.advance().train_loss)
    assert losses[-1] < 0.9 * losses[0]
    with pytest.raises(Refusal, match=r"is quantised; use it as an adapter, on the quantised weights"):
        merge(run.adapters)
    run.close()
    assert all(torch.equal(module.weight, weight) for module, weight in zip(maps, before, strict=True))


@pytest.mark.parametrize("way", WAYS)
def test_what_a_study_leaves_is_used_on_quantised_weights_and_exported_to_peft(
    way: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = wide_model("bert", tmp_path / "model")
    backbone = quantized(folder, way)
    config = shaped(backbone.geometry, "krona", roles="query", a_out=4, a_in=4)
    adapters = trained(Adapters(backbone.base, backbone.geometry, config, torch.Generator().manual_seed(0)))
    words = {"task": "cola", "labels": ("unacceptable", "acceptable"), "quantize": way}
    head = {f"head.{key}": p.detach() for key, p in load_heads(backbone).items()}
    save_adapter(
        tmp_path / "left",
        adapters.state() | head,
        card_of(backbone.geometry, config, backbone.fingerprint, backbone=str(folder), **words),
    )
    adapters.detach()
    loaded = load_adapted(tmp_path / "left")
    assert loaded.backbone.device.quantize == way
    assert not loaded.backbone.base.get_submodule(config_site(backbone)).weight.is_floating_point()
    written = export_adapter(tmp_path / "left", tmp_path / "peft", Form.PEFT)
    assert written.difference < 1e-4
    print_exported(written, Form.PEFT)
    assert "Largest difference of a logit, on weights that are not quantised: " in capsys.readouterr().out
    assert not export_adapter(tmp_path / "left", tmp_path / "same", Form.ADAPTER).dequantised
    with pytest.raises(Refusal, match=r"--format: merged: its backbone is quantised .*; use --format adapter"):
        export_adapter(tmp_path / "left", tmp_path / "merged", Form.MERGED)


def load_heads(backbone: Backbone) -> dict[str, torch.Tensor]:
    from krona_tune.data.tasks import TASKS
    from krona_tune.train.task_heads import make_answer

    return dict(make_answer(backbone, TASKS["cola"], 3).head())


def config_site(backbone: Backbone) -> str:
    return backbone.geometry.sites[0].name


@pytest.mark.parametrize("way", WAYS)
def test_a_method_of_peft_computes_with_the_weights_and_not_with_their_codes(way: str, tmp_path: Path) -> None:
    """Also before the model's own first pass, which makes the scales of 8 bits."""
    folder = wide_model("bert", tmp_path / "model")
    outputs = []
    for passes in (0, 1):
        backbone = quantized(folder, way)
        site = next(site for site in backbone.geometry.sites if site.role == "query")
        linear = backbone.base.get_submodule(site.name)
        x = torch.randn(3, 64, generator=torch.Generator().manual_seed(1))
        for _ in range(passes):
            linear(x)
        config = shaped(backbone.geometry, "peft:IA3", roles="query")
        adapters = Adapters(backbone.base, backbone.geometry, config, torch.Generator().manual_seed(0))
        with adapters, torch.no_grad():
            for parameter in adapters.parameters():
                parameter.fill_(2.0)
            outputs.append(linear(x))
        with torch.no_grad():
            torch.testing.assert_close(outputs[-1], 2 * linear(x), atol=0.05, rtol=0.05)
    torch.testing.assert_close(*outputs, atol=1e-5, rtol=1e-5)


def test_quantised_weights_are_refused_where_they_can_not_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build("bert", outputs=2)[1].save_pretrained(tmp_path / "bert")
    asked = {"model": str(tmp_path / "bert"), "data": "mini", "tasks": ["cola"], "examples": {"max_length": 30}}
    full = {**asked, "adapter": {"method": ["krona", "full"]}, "backbone": {"quantize": "nf4"}}
    with pytest.raises(Refusal, match=r"x.yaml: backbone.quantize: full trains the weights, which are quantised"):
        make_plan(build_spec(full, "x.yaml"), "x.yaml")
    with pytest.raises(Refusal, match=r"backbone.quantize: 'nf3' is refused; write 'nf4' or 'int8'"):
        build_spec({**asked, "backbone": {"quantize": "nf3"}}, "x.yaml")
    for method, field, variant in (
        ("peft:LoRA", {"init_lora_weights": [True, "pissa_niter_4"]}, "pissa"),
        ("peft:RSLoRA", {"use_dora": True}, "dora"),
    ):
        peft = {**asked, "adapter": {"method": method}, "methods": {method: {"r": 2, **field}}}
        with pytest.raises(Refusal, match=f"{method} with the fields of {variant} is not known to work on quantised"):
            make_plan(build_spec({**peft, "backbone": {"quantize": "nf4"}}, "x.yaml"), "x.yaml")
    config = json.loads((tmp_path / "bert" / "config.json").read_text(encoding="utf-8"))
    twice = json.dumps({**config, "quantization_config": {"quant_method": "fp8"}})
    (tmp_path / "bert" / "config.json").write_text(twice, encoding="utf-8")
    with pytest.raises(Refusal, match=r"quantize: .*bert's weights are kept in fewer bits already; leave it out"):
        make_plan(build_spec({**asked, "backbone": {"quantize": "nf4"}}, "x.yaml"), "x.yaml")
    monkeypatch.setattr(request_checks, "find_spec", lambda name: None)
    with pytest.raises(Refusal, match=r"bitsandbytes is not installed; pip install 'krona_tune\[quantize\]'"):
        make_plan(build_spec({**asked, "backbone": {"quantize": "nf4"}}, "x.yaml"), "x.yaml")
