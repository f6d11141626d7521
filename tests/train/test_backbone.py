"""Tests that a backbone is frozen and has the user's dropout, which acts where it is asked, and keeps its own."""

import json
from itertools import product
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import transformers
from huggingface_hub.utils import are_progress_bars_disabled
from safetensors.torch import save_file

from krona_tune.adapters.placement import adapted_layers
from krona_tune.backbones.geometry import Role
from krona_tune.refusal import Refusal
from krona_tune.study.request.trial import TrialConfig
from krona_tune.train.backbone import (
    Backbone,
    assign_dropouts,
    dropouts,
    freeze,
    load_backbone,
    open_tokenizer,
    set_dropout,
)
from krona_tune.train.backbone_source import find_backbone
from krona_tune.train.device import ATTENTION, Device
from krona_tune.train.loop import TrialRun
from krona_tune.train.task_heads import with_head
from tests.backbones.families import build as build_family
from tests.cases import case
from tests.language_models import character_tokenizer
from tests.models import CONFIGS, ENCODER, FEW_KEYS, GPT, build, build_from, of_each_kind, tokens
from tests.search.models import saved_bert
from tests.train.conftest import FLOAT32, WORDS, tiny_backbone, tiny_trial, tiny_work


def test_nothing_in_a_backbone_is_trained() -> None:
    assert not any(p.requires_grad for p in tiny_backbone("t5").whole.parameters())


@pytest.mark.parametrize("shown", [True, False])
def test_what_a_program_shows_of_progress_stays_as_it_was(bert: Path, shown: bool) -> None:
    show = {True: transformers.logging.enable_progress_bar, False: transformers.logging.disable_progress_bar}
    show[shown]()
    load_backbone(str(bert), FLOAT32)
    assert transformers.logging.is_progress_bar_enabled() is shown
    assert are_progress_bars_disabled() is not shown
    show[True]()


def test_weights_that_lack_a_part_of_the_base_are_refused(tmp_path: Path) -> None:
    """A missing part would be random, and different in each process."""
    model = transformers.BertForMaskedLM(transformers.BertConfig(**ENCODER))
    model.save_pretrained(tmp_path)
    state = {name: tensor for name, tensor in model.state_dict().items() if "layer.1.output.dense" not in name}
    model.save_pretrained(tmp_path, state_dict=state)
    lacking = r"its weights lack 4 tensors .*, the first bert\.encoder\.layer\.1\.output\.dense\.bias; save all of"
    with pytest.raises(Refusal, match=lacking):
        load_backbone(str(tmp_path), FLOAT32)


def test_a_falcon_with_alibi_is_the_model_that_transformers_loads(tmp_path: Path) -> None:
    """Its plain attention adds ALiBi twice."""
    config = transformers.FalconConfig(
        vocab_size=97, hidden_size=24, num_hidden_layers=2, num_attention_heads=4, alibi=True, initializer_range=0.3
    )
    transformers.FalconForCausalLM(config).save_pretrained(tmp_path)
    ids = torch.randint(3, 97, (2, 9), generator=torch.Generator().manual_seed(0))
    peers = transformers.AutoModel.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(load_backbone(str(tmp_path), FLOAT32).base.eval()(ids)[0], peers(ids)[0])


def test_a_model_saved_without_its_pooler_is_refused_with_what_draws_one(tmp_path: Path) -> None:
    transformers.BertForMaskedLM(transformers.BertConfig(**ENCODER)).save_pretrained(tmp_path)
    character_tokenizer(encoder=True).save_pretrained(tmp_path)
    with pytest.raises(Refusal, match="was saved without its pooler, from whose output a head classifies") as refusal:
        load_backbone(str(tmp_path), FLOAT32)
    given: dict[str, Any] = {name: getattr(transformers, name) for name in ("AutoModel", "AutoTokenizer")}
    given["FOLDER"] = tmp_path / "whole"
    exec(refusal.value.fix.partition("untrained: ")[2], given)
    assert open_tokenizer(str(tmp_path / "whole"), ENCODER["vocab_size"])
    one, other = (load_backbone(str(tmp_path / "whole"), FLOAT32).base.get_submodule("pooler.dense") for _ in "12")
    assert torch.equal(one.weight, other.weight)


@pytest.mark.parametrize("name", ["bert", "deberta", "deberta-v3", "t5"])
def test_every_family_loads_with_the_attention_that_gpus_prefer(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ATTENTION, "cpu", "sdpa")
    shape, model, _ = build(name)
    model.save_pretrained(tmp_path)
    loaded = load_backbone(str(tmp_path), FLOAT32)
    torch.testing.assert_close(loaded.whole(**tokens(shape)).logits, model(**tokens(shape)).logits)
    if not shape.text_to_text:
        assert with_head(loaded, 2, 0)(**tokens(shape)).logits.shape == (5, 2)


def test_rotary_positions_stay_in_float32_where_weights_do_not(tmp_path: Path) -> None:
    build("llama", outputs=2)[1].save_pretrained(tmp_path)
    backbone = load_backbone(str(tmp_path), Device(kind="cpu", dtype=torch.bfloat16))
    assert {parameter.dtype for parameter in backbone.whole.parameters()} == {torch.bfloat16}
    assert dict(backbone.base.named_buffers())["rotary_emb.inv_freq"].dtype == torch.float32


def test_weights_in_8_bits_are_loaded_as_what_they_stand_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a GPU could compute with the codes, too: these alone, without their scales, would be other weights."""
    pytest.importorskip("accelerate")
    shape, model, base = build("llama", outputs=2)
    tensors = {name: tensor for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
    for site in shape.sites:
        if site.role is not Role.FEED_FORWARD:
            name = f"model.{site.name}.weight"
            scale = tensors[name].abs().amax() / 448
            tensors[name] = (tensors[name] / scale).to(torch.float8_e4m3fn)
            tensors[f"{name}_scale_inv"] = scale.reshape(1, 1)
    config = cast(Any, model).config
    config.quantization_config = {"quant_method": "fp8", "activation_scheme": "dynamic"}
    config.save_pretrained(tmp_path)
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda: (9, 0))
    loaded = load_backbone(find_backbone(str(tmp_path)).location, FLOAT32)
    for site in shape.sites:
        if site.role is not Role.FEED_FORWARD:
            wanted = base.get_submodule(site.name).get_parameter("weight")
            found = loaded.base.get_submodule(site.name).get_parameter("weight")
            torch.testing.assert_close(found, wanted, rtol=0.08, atol=1e-4)
    assert not hasattr(loaded.config, "quantization_config")


def test_a_bart_without_its_language_head_is_a_backbone(tmp_path: Path) -> None:
    cast(Any, build("bart")[1]).model.save_pretrained(tmp_path)
    assert find_backbone(str(tmp_path)).geometry.text_to_text
    assert load_backbone(str(tmp_path), FLOAT32).base.get_submodule("model.encoder.layers.0.fc1")


def test_weights_that_the_library_renames_as_it_loads_them_are_a_backbone(tmp_path: Path) -> None:
    sizes = {**ENCODER, "pad_token_id": 0}
    build_from("nomic_bert", sizes, outputs=2)[1].save_pretrained(tmp_path)
    assert len(find_backbone(str(tmp_path)).geometry.sites) == 3 * 8
    assert load_backbone(str(tmp_path), FLOAT32).fingerprint


@pytest.mark.skipif("laguna" not in transformers.CONFIG_MAPPING, reason="this transformers does not have it")
def test_weights_of_which_the_library_renames_some_are_a_backbone(tmp_path: Path) -> None:
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 12}
    config = transformers.AutoConfig.for_model(
        "laguna", vocab_size=97, hidden_size=48, num_hidden_layers=2, intermediate_size=96, **heads, **experts
    )
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    assert find_backbone(str(tmp_path)).geometry.sites


def test_a_model_whose_configuration_asks_for_tuples_is_trained_as_any(tmp_path: Path) -> None:
    path = Path(saved_bert(tmp_path / "bert")) / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "return_dict": False}))
    run = TrialRun("cola-000", tiny_trial(), tiny_work(), load_backbone(str(path.parent), FLOAT32))
    assert run.advance().score is not None


def test_a_padding_token_that_the_model_does_not_know_gives_way_to_the_end_of_sequence(tmp_path: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(saved_bert(tmp_path / "bert"))
    vocabulary = len(tokenizer)
    tokenizer.add_special_tokens({"pad_token": "<new>"})
    tokenizer.save_pretrained(tmp_path / "words")
    (tmp_path / "words" / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    with pytest.raises(Refusal, match="save the model's own tokenizer there"):
        open_tokenizer(str(tmp_path / "words"), vocabulary)
    tokenizer.eos_token = "[SEP]"
    tokenizer.save_pretrained(tmp_path / "words")
    opened = open_tokenizer(str(tmp_path / "words"), vocabulary)
    assert opened.pad_token_id == opened.eos_token_id == opened.convert_tokens_to_ids("[SEP]")


def set_as(trial: TrialConfig, backbone: Backbone) -> dict[tuple[str, str], float]:
    layers = adapted_layers(backbone.geometry, trial.adapter)
    set_dropout(backbone.whole, backbone.base, trial.training, layers)
    return dropouts(backbone.whole)


DROPPING = {
    **CONFIGS,
    "biogpt": ("biogpt", {**ENCODER, "pad_token_id": 0}),
    "falcon": ("falcon", {**ENCODER, "pad_token_id": 0, "multi_query": False, "parallel_attn": False}),
    "gpt_bigcode": ("gpt_bigcode", {**GPT, "pad_token_id": 0}),
    "starcoder2": ("starcoder2", {**FEW_KEYS, "pad_token_id": 0}),
}
"""Models that hold probabilities of dropout under every name there is."""


@pytest.mark.parametrize("name", DROPPING)
def test_dropout_zero_trains_as_it_evaluates_and_more_does_not(name: str) -> None:
    """Whatever the config says: 0 may stand there as a whole number, and a layer's probability under many names."""
    model_type, values = DROPPING[name]
    known = transformers.AutoConfig.for_model(model_type, **values).to_dict()
    names = [key for key, value in known.items() if "drop" in key and not isinstance(value, bool)]
    for own, asked in ((0.5, 0.0), (0, 0.4)):
        dropped = {key: float(own) if "layerdrop" in key else own for key in names}  # transformers takes no whole one
        shape, model, _ = build_from(model_type, {**values, **dropped}, outputs=2)
        backbone = freeze(model, shape, FLOAT32)
        inputs = tokens(shape)
        evaluated = model(**inputs).logits
        model.train()
        found = set_as(tiny_trial(dropout=asked, a_out=2, a_in=2), backbone)
        assert {value for (_, key), value in found.items() if "layerdrop" not in key} == {asked}
        assert all(not value for (_, key), value in found.items() if "layerdrop" in key)
        assert torch.allclose(model(**inputs).logits, evaluated, atol=1e-5) == (asked == 0)


@pytest.mark.parametrize("family", ["big_bird", "bigbird_pegasus"])
def test_a_first_text_changes_no_dropout(family: str) -> None:
    """A BigBird's attention, which depends on the length of a text, would bring its own."""
    shape, model = build_family(family)
    backbone = freeze(model, shape, FLOAT32)
    asked = set_as(tiny_trial(dropout=0.0, a_out=2, a_in=2), backbone)
    model(**tokens(shape))
    assert dropouts(model) == asked


@pytest.mark.parametrize("family", ["big_bird", "bigbird_pegasus"])
def test_a_model_that_may_attend_sparsely_is_saved_as_it_was_trained(family: str, tmp_path: Path) -> None:
    """Of a text that is long for it, a BigBird would attend to some tokens only when it is loaded again."""
    shape, model = build_family(family)
    assert model.config.attention_type == "block_sparse"
    freeze(model, shape, FLOAT32)
    model.save_pretrained(tmp_path)
    inputs = tokens(shape, length=64)
    assert torch.allclose(type(model).from_pretrained(tmp_path)(**inputs).logits, model(**inputs).logits, atol=1e-5)


@pytest.mark.parametrize(("method", "layers"), [("krona", {2}), ("head_only", set()), ("full", {0, 1, 2})])
def test_dropout_of_adapted_layers_acts_in_them_and_in_the_head(method: str, layers: set[int]) -> None:
    trial = tiny_trial(method=method, layers="last 1", dropout=0.4, dropout_layers="adapted")
    acting = {path for (path, _), probability in set_as(trial, tiny_backbone()).items() if probability}
    assert "dropout" in acting
    assert {int(path.split(".")[3]) for path in acting - {"dropout"}} == layers


def test_dropout_that_adapted_layers_read_from_their_config_stays_there() -> None:
    model_type, values = DROPPING["falcon"]
    shape, model, _ = build_from(model_type, values, outputs=2)
    backbone = freeze(model, shape, FLOAT32)
    for method, wanted in (("krona", 0.4), ("head_only", 0.0)):
        trial = tiny_trial(method=method, a_out=2, a_in=2, layers="last 1", dropout=0.4, dropout_layers="adapted")
        set_as(trial, backbone)
        assert backbone.config.hidden_dropout == wanted


@pytest.mark.parametrize("name", of_each_kind())
def test_a_trial_gives_the_model_its_own_dropout_back(name: str) -> None:
    backbone = tiny_backbone(name)
    own = {place: 0.1 + number / 100 for number, place in enumerate(dropouts(backbone.base))}
    assign_dropouts(backbone.base, own)
    work = tiny_work(epochs=1, candidates=WORDS if backbone.geometry.text_to_text else ())
    for dropout, where in product((None, 0.0, 0.4), ("all", "adapted")):
        with case(dropout, where):
            run = TrialRun("t", tiny_trial(dropout=dropout, dropout_layers=where, layers="last 1"), work, backbone)
            assert (dropouts(backbone.base) == own) == (dropout is None and where == "all")
            run.close()
            assert dropouts(backbone.base) == own
