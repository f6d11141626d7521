"""Tests that a backbone is frozen and has the user's dropout."""

from pathlib import Path

import pytest
import torch
import transformers

from krona_tune.refusal import Refusal
from krona_tune.train.backbone import load_backbone
from krona_tune.train.device import ATTENTION
from krona_tune.train.task_heads import with_head
from tests.models import ENCODER, build, tokens
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
