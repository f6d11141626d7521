"""Tests that PEFT trains, saves, loads, merges, switches and stacks KronA like its own methods, after one import."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
import transformers
from peft.utils.hotswap import hotswap_adapter
from torch import nn

from krona_tune import peft_method
from krona_tune.adapters.inject import Adapters
from krona_tune.peft_method import KronAConfig, KronALayer
from krona_tune.refusal import Refusal
from krona_tune.study.request.trial import AdapterConfig
from tests.models import build, tokens
from tests.trained_adapters import outputs, trained

SIZES = {"a_out": 4, "a_in": 6, "scale": 1.5}
BERT = {"target_modules": ["query", "intermediate.dense"], **SIZES}
T5 = {"target_modules": r"decoder\..*(SelfAttention\.q|wo)", **SIZES, "a_in": 8}
SUM = {**BERT, "terms": 3, "scaling": "stable", "init": "cdka"}
CASES = [("bert", BERT), ("t5", T5), ("bert", SUM)]


def dressed(name: str, config: dict[str, object]) -> tuple[object, nn.Module, torch.Tensor]:
    """Returns the geometry, the model under PEFT with trained adapters, and its outputs before."""
    shape, model, _ = build(name)
    before = outputs(model, shape)
    wrapped = peft.get_peft_model(model, KronAConfig(**config)).eval()
    fill(wrapped)
    return shape, wrapped, before


def fill(model: nn.Module, adapter: str = "default", seed: int = 7) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in layers(model):
            for store in (layer.krona_a, layer.krona_b):
                if adapter in store:
                    store[adapter].add_(0.5 * torch.randn(store[adapter].shape, generator=generator))


def layers(model: nn.Module) -> list[KronALayer]:
    return [module for module in model.modules() if isinstance(module, KronALayer)]


def apart(first: torch.Tensor, second: torch.Tensor) -> float:
    return ((first - second).norm() / second.norm()).item()


def test_a_fresh_adapter_changes_nothing_and_only_its_factors_learn() -> None:
    shape, model, _ = build("bert")
    before = outputs(model, shape)
    wrapped = peft.get_peft_model(model, KronAConfig(task_type="SEQ_CLS", **BERT))
    assert torch.equal(outputs(wrapped.eval(), shape), before)
    learning = {name for name, p in wrapped.named_parameters() if p.requires_grad}
    per_site = {"query": 4 * 6 + 6 * 4, "dense": 4 * 6 + 10 * 4}
    head = 24 * 3 + 3
    assert wrapped.get_nb_trainable_parameters()[0] == 3 * sum(per_site.values()) + head
    assert all("krona_" in name or "classifier" in name for name in learning)
    optimiser = torch.optim.AdamW([p for p in wrapped.parameters() if p.requires_grad], lr=0.05)
    labels = torch.tensor([0, 1, 2, 0, 1])
    losses = []
    for _ in range(8):
        loss = wrapped(**tokens(shape), labels=labels).loss
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert losses[-1] < losses[0]
    assert all(layer.krona_b["default"].any() for layer in layers(wrapped))


@pytest.mark.parametrize("more", [{}, {"terms": 3, "scaling": "stable", "init": "cdka"}])
def test_the_same_weights_give_the_outputs_of_our_own_adapters(more: dict[str, object]) -> None:
    shape, model, base = build("bert")
    config = AdapterConfig(method="krona", roles="query+feed_forward_in", **SIZES, **more)
    with trained(Adapters(base, shape, config, torch.Generator().manual_seed(0))) as adapters:
        ours, state = outputs(model, shape), adapters.state()
    wrapped = peft.get_peft_model(model, KronAConfig(**BERT, **more)).eval()
    with torch.no_grad():
        for site in adapters.sites:
            layer = wrapped.base_model.model.bert.get_submodule(site.name)
            layer.krona_a["default"].copy_(state[f"adapter.{site.name}.a"])
            layer.krona_b["default"].copy_(state[f"adapter.{site.name}.b"])
    assert len(layers(wrapped)) == len(adapters.sites)
    torch.testing.assert_close(outputs(wrapped, shape), ours)


@pytest.mark.parametrize(("name", "config"), CASES)
def test_what_is_saved_is_small_and_comes_back(name: str, config: dict[str, object], tmp_path: Path) -> None:
    shape, wrapped, before = dressed(name, config)
    wanted = outputs(wrapped, shape)
    wrapped.save_pretrained(tmp_path)
    loaded_config = peft.PeftConfig.from_pretrained(tmp_path)
    assert isinstance(loaded_config, KronAConfig)
    assert (loaded_config.a_out, loaded_config.a_in, loaded_config.scale) == (4, config["a_in"], 1.5)
    assert (loaded_config.terms, loaded_config.init) == (config.get("terms", 1), config.get("init", "krona"))
    keys = peft.get_peft_model_state_dict(wrapped).keys()
    assert all(key.endswith((".krona_a", ".krona_b")) for key in keys)
    assert len(keys) == 2 * len(layers(wrapped))
    for low_cpu_mem_usage in (False, True):
        _, fresh, _ = build(name)
        again = peft.PeftModel.from_pretrained(fresh, tmp_path, low_cpu_mem_usage=low_cpu_mem_usage).eval()
        assert torch.equal(outputs(again, shape), wanted)
    assert apart(wanted, before) > 1e-3


LOADING = """
import sys
from peft import PeftConfig
try:
    PeftConfig.from_pretrained(sys.argv[1])
except KeyError as error:
    print(error)
import krona_tune.peft_method
print(type(PeftConfig.from_pretrained(sys.argv[1])).__name__)
"""


@pytest.mark.slow
def test_another_process_loads_it_after_the_import_and_not_without(tmp_path: Path) -> None:
    _, wrapped, _ = dressed("bert", BERT)
    wrapped.save_pretrained(tmp_path)
    words = [sys.executable, "-c", LOADING, str(tmp_path)]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert said.split() == ["'KRONA'", "KronAConfig"]


@pytest.mark.parametrize(("name", "config"), CASES)
def test_merged_equals_adapted_and_the_plain_model_comes_back(name: str, config: dict[str, object]) -> None:
    shape, wrapped, before = dressed(name, config)
    adapted = outputs(wrapped, shape)
    wrapped.merge_adapter(safe_merge=True)
    assert apart(outputs(wrapped, shape), adapted) < 2e-5
    wrapped.unmerge_adapter()
    assert apart(outputs(wrapped, shape), adapted) < 2e-5
    with wrapped.disable_adapter():
        assert apart(outputs(wrapped, shape), before) < 2e-5
    merged = wrapped.merge_and_unload()
    assert not layers(merged)
    assert apart(outputs(merged, shape), adapted) < 2e-5


def test_a_head_without_a_weight_of_its_own_stays_when_the_adapter_is_merged() -> None:
    config = transformers.RobertaConfig(
        vocab_size=97, hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=40, pad_token_id=0
    )
    model = transformers.RobertaForSequenceClassification(config).eval()
    wrapped = peft.get_peft_model(model, KronAConfig(task_type="SEQ_CLS", **BERT)).eval()
    fill(wrapped)
    ids = torch.randint(3, 97, (4, 9), generator=torch.Generator().manual_seed(0))
    adapted = wrapped(ids).logits
    merged = wrapped.merge_and_unload()
    assert apart(merged(ids).logits, adapted) < 2e-5
    assert type(merged.classifier).__name__ == "RobertaClassificationHead"


def test_peft_says_itself_what_it_does_not_offer(tmp_path: Path) -> None:
    _, wrapped, _ = dressed("bert", BERT)
    wrapped.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="'KRONA' is not compatible with the `PeftMixedModel`"):
        peft.get_peft_model(build("bert")[1], KronAConfig(**BERT), mixed=True)
    with pytest.raises(ValueError, match="KRONA was passed"):
        hotswap_adapter(wrapped, tmp_path, "default")


def test_a_batch_whose_rows_name_an_adapter_each_is_refused() -> None:
    """Every row would get the active one without a word."""
    model = peft.get_peft_model(build("bert", outputs=2)[1], KronAConfig(target_modules=["query"], a_out=4, a_in=4))
    ids = torch.ones(2, 5, dtype=torch.long)
    assert model(input_ids=ids).logits.shape == (2, 2)
    with pytest.raises(Refusal, match="adapter_names: KronA computes a batch with one adapter"):
        model(input_ids=ids, adapter_names=["default", "__base__"])


def test_a_weight_in_few_bits_is_not_merged_into() -> None:
    _, model, _ = build("bert")
    wrapped = peft.get_peft_model(model, KronAConfig(**SUM))
    base = layers(wrapped)[0].base_layer
    base.weight = torch.nn.Parameter(base.weight.to(torch.float8_e4m3fn), requires_grad=False)
    with pytest.raises(ValueError, match=r"merged into a weight of torch\.float8_e4m3fn; use it unmerged"):
        wrapped.merge_adapter()


def test_of_several_adapters_all_are_merged_or_none() -> None:
    shape, wrapped, _ = dressed("bert", BERT)
    wrapped.add_adapter("second", KronAConfig(target_modules=["query", "value"], a_out=3, a_in=8, scale=0.7))
    fill(wrapped, "second", seed=8)
    wrapped.base_model.set_adapter(["default", "second"])
    both = outputs(wrapped, shape)
    wrapped.merge_adapter(safe_merge=True)
    assert apart(outputs(wrapped, shape), both) < 2e-5
    wrapped.unmerge_adapter()
    assert apart(outputs(wrapped, shape), both) < 2e-5
    layer = next(layer for layer in layers(wrapped) if len(layer.krona_a) == 2)
    before = layer.base_layer.weight.clone()
    with torch.no_grad():
        layer.krona_a["second"].fill_(torch.inf)
    with pytest.raises(ValueError, match="adapter 'second' makes a weight that is not finite"):
        layer.merge(safe_merge=True)
    assert not layer.merged
    assert torch.equal(layer.base_layer.weight, before)


def test_merging_and_unmerging_under_autocast_gives_the_weights_back() -> None:
    _, model, _ = build("bert")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    wrapped = peft.get_peft_model(model, KronAConfig(**SUM)).eval()
    fill(wrapped)
    with torch.autocast("cpu", torch.bfloat16):
        wrapped.merge_adapter()
        wrapped.unmerge_adapter()
    for name, tensor in wrapped.unload().state_dict().items():
        torch.testing.assert_close(tensor, before[name], atol=1e-6, rtol=1e-5)


def test_two_adapters_of_different_shapes_are_switched_stacked_and_deleted() -> None:
    shape, wrapped, before = dressed("bert", BERT)
    first = outputs(wrapped, shape)
    wrapped.add_adapter("second", KronAConfig(target_modules=["query", "value"], a_out=3, a_in=8, scale=0.7))
    fill(wrapped, "second", seed=8)
    assert torch.equal(outputs(wrapped, shape), first)
    wrapped.set_adapter("second")
    second = outputs(wrapped, shape)
    assert min(apart(second, first), apart(second, before)) > 1e-3
    wrapped.base_model.set_adapter(["default", "second"])
    both = outputs(wrapped, shape)
    assert min(apart(both, first), apart(both, second)) > 1e-3
    wrapped.set_adapter("default")
    wrapped.delete_adapter("second")
    assert torch.equal(outputs(wrapped, shape), first)
    assert all(set(layer.krona_scale) <= {"default"} for layer in layers(wrapped))


def test_a_bfloat16_backbone_keeps_float32_factors_and_its_own_outputs() -> None:
    shape, model, _ = build("bert")
    model.bfloat16()
    wrapped = peft.get_peft_model(model, KronAConfig(**BERT))
    assert {p.dtype for layer in layers(wrapped) for p in layer.krona_a.values()} == {torch.float32}
    assert outputs(wrapped, shape).dtype == torch.bfloat16


def test_without_named_targets_the_queries_and_values_are_taken() -> None:
    _, model, _ = build("bert")
    wrapped = peft.get_peft_model(model, KronAConfig(a_out=4, a_in=6))
    found = {name.rpartition(".")[2] for name, module in wrapped.named_modules() if isinstance(module, KronALayer)}
    assert found == {"query", "value"}


def test_peft_turns_it_into_a_lora_of_its_rank() -> None:
    shape, model, _ = build("bert")
    wrapped = peft.get_peft_model(model, KronAConfig(target_modules=["query"], a_out=2, a_in=8, scale=1.5)).eval()
    fill(wrapped)
    wanted = outputs(wrapped, shape)
    config, state = peft.convert_to_lora(wrapped, 6, progressbar=False)
    _, fresh, _ = build("bert")
    lora = peft.get_peft_model(fresh, config).eval()
    peft.set_peft_model_state_dict(lora, state)
    assert apart(outputs(lora, shape), wanted) < 1e-4


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        (
            {"a_out": 5},
            "KronAConfig: a_out 5 does not divide d_out 24; divisors: 1, 2, 3, 4, 6, 8, 12, 24; needed at "
            "bert.encoder.layer.0.attention.self.query",
        ),
        ({"a_in": 0}, "KronAConfig: a_in: is 0; write a whole number from 1"),
        ({"terms": 1.5}, "KronAConfig: terms: is 1.5; write a whole number from 1"),
        ({"a_out": True}, "KronAConfig: a_out: is True; write a whole number from 1"),
        ({"scaling": "rs"}, "KronAConfig: scaling: is 'rs'; write plain or stable"),
        ({"init": "lora"}, "KronAConfig: init: is 'lora'; write krona or cdka"),
        (
            {"terms": 25},
            "KronAConfig: terms 25: 24 of 4x6⊗6x4 reach every matrix; write at most that; needed at "
            "bert.encoder.layer.0.attention.self.query",
        ),
        ({"scale": "4"}, "KronAConfig: scale: is '4'; give a positive number"),
        ({"scale": -1.0}, "KronAConfig: scale: is -1.0; give a positive number"),
        (
            {"target_modules": ".*query", "layers_to_transform": 0},
            "KronAConfig: layers_to_transform: is 0, which peft does not read beside a text as target_modules; list "
            "names there, or name the layers in the text",
        ),
        (
            {"target_modules": ".*query", "layers_pattern": "layer"},
            "KronAConfig: layers_pattern: is 'layer', which peft does not read beside a text as target_modules; list "
            "names there, or name the layers in the text",
        ),
        (
            {"layers_pattern": ["layer"]},
            "KronAConfig: layers_pattern: is ['layer'], and no layers are chosen; add layers_to_transform, or leave it "
            "out",
        ),
        (
            {"target_modules": ["LayerNorm"]},
            "KronAConfig: KronA adapts linear maps, not a LayerNorm; needed at bert.embeddings.LayerNorm",
        ),
    ],
)
def test_what_does_not_fit_is_refused(knobs: dict[str, object], message: str) -> None:
    _, model, _ = build("bert")
    with pytest.raises(Refusal) as refused:
        peft.get_peft_model(model, KronAConfig(**{**BERT, **knobs}))
    assert str(refused.value) == message


def test_layers_are_chosen_beside_names() -> None:
    config = KronAConfig(target_modules=["query"], layers_to_transform=[0, 2], layers_pattern="layer", **SIZES)
    wrapped = peft.get_peft_model(build("bert")[1], config)
    found = [name for name, module in wrapped.named_modules() if isinstance(module, KronALayer)]
    assert [name.removeprefix("base_model.model.bert.encoder.layer.")[0] for name in found] == ["0", "2"]


def test_sizes_of_numpy_are_taken_and_saved(tmp_path: Path) -> None:
    KronAConfig(a_out=np.int64(4), a_in=np.int32(6), terms=np.int8(2), scale=np.float32(0.5)).save_pretrained(tmp_path)
    loaded = peft.PeftConfig.from_pretrained(tmp_path)
    assert (loaded.a_out, loaded.a_in, loaded.terms, loaded.scale) == (4, 6, 2, 0.5)
    assert KronAConfig(scale=np.int64(4)).scale == 4.0
    with pytest.raises(Refusal, match="scale: is True; give a positive number"):
        KronAConfig(scale=True)


def test_no_entry_of_pefts_own_is_touched() -> None:
    assert peft_method.PEFT_TYPE not in list(peft.PeftType)
    own = set(peft.PEFT_TYPE_TO_CONFIG_MAPPING) - {peft_method.PEFT_TYPE}
    assert own <= set(peft.PeftType)


def test_a_map_whose_weight_alone_torchs_attention_reads_is_refused() -> None:
    """Its adapter would be counted and saved, and never be trained."""
    model = torch.nn.Sequential(torch.nn.TransformerEncoderLayer(16, 2, batch_first=True))
    with pytest.raises(Refusal, match="torch's attention reads this map's weight and never calls it"):
        peft.get_peft_model(model, KronAConfig(target_modules=["self_attn.out_proj"], a_out=4, a_in=4))
    assert peft.get_peft_model(model, KronAConfig(target_modules=["linear1"], a_out=4, a_in=4))
