"""Tests that a backbone is frozen and has the user's dropout."""

from pathlib import Path
from typing import Any, cast

import pytest
import torch
import transformers

from krona_tune.refusal import Refusal
from krona_tune.train.backbone import load_backbone
from krona_tune.train.backbone_source import find_backbone
from krona_tune.train.device import ATTENTION, Device
from krona_tune.train.task_heads import with_head
from krona_tune.train.tokenizer import open_tokenizer
from tests.models import ENCODER, build, build_from, tokens
from tests.search.models import saved_bert
from tests.train.conftest import FLOAT32, tiny_backbone


def test_nothing_in_a_backbone_is_trained() -> None:
    assert not any(p.requires_grad for p in tiny_backbone("t5").whole.parameters())


def test_weights_that_lack_a_part_of_the_base_are_refused(tmp_path: Path) -> None:
    """A missing part would be random, and different in each process."""
    config = transformers.BertConfig(**ENCODER)
    transformers.BertForMaskedLM(config).save_pretrained(tmp_path)
    with pytest.raises(Refusal, match=r"its weights lack 2 tensors, the first bert\.pooler\.dense\.bias"):
        load_backbone(str(tmp_path), FLOAT32)


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


def test_a_bart_without_its_language_head_is_a_backbone(tmp_path: Path) -> None:
    cast(Any, build("bart")[1]).model.save_pretrained(tmp_path)
    assert find_backbone(str(tmp_path)).geometry.text_to_text
    assert load_backbone(str(tmp_path), FLOAT32).base.get_submodule("model.encoder.layers.0.fc1")


def test_weights_that_the_library_renames_as_it_loads_them_are_a_backbone(tmp_path: Path) -> None:
    sizes = {**ENCODER, "pad_token_id": 0}
    build_from("nomic_bert", sizes, outputs=2)[1].save_pretrained(tmp_path)
    assert len(find_backbone(str(tmp_path)).geometry.sites) == 3 * 8
    assert load_backbone(str(tmp_path), FLOAT32).fingerprint


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
