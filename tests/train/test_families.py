"""Tests that on a backbone of every family an adapter learns examples by heart, resumes, merges and exports."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from krona_tune.adapters.adapter_card import read_card
from krona_tune.adapters.export_forms import Form, loading
from krona_tune.train import checkpoint
from krona_tune.train.export import export_adapter
from krona_tune.train.export_check import logits, sample_inputs
from krona_tune.train.loop import TaskWork, TrialRun
from krona_tune.train.predict import load_adapted
from krona_tune.train.task_heads import with_head
from tests.models import CONFIGS, of_each_kind, tokens
from tests.train.conftest import WORDS, tiny_backbone, tiny_trial, tiny_work
from tests.train.exported_adapters import adapter_folder, backbone_folder

BY_HEART = {"roles": "query+value+output", "a_in": 2, "learning_rate": 1.5e-2, "batch_size": 16}

SLOW = {"albert", "electra projected"}
"""Names the models that need twice as many epochs."""


def by_heart(name: str, epochs: int) -> TaskWork:
    """Returns 64 examples with random labels, which are also what is judged."""
    work = tiny_work(rows=64, epochs=epochs, candidates=WORDS if tiny_backbone(name).geometry.text_to_text else ())
    labels = pa.array(np.random.default_rng(4).permutation(64) % 2)
    examples = work.train.set_column(work.train.column_names.index("label"), "label", labels)
    return replace(work, train=examples, validation=examples)


@pytest.mark.slow
@pytest.mark.parametrize("name", of_each_kind(usual=("bert", "t5")))
def test_an_adapter_learns_64_examples_by_heart(name: str) -> None:
    run = TrialRun("t", tiny_trial(**BY_HEART), by_heart(name, epochs=112 if name in SLOW else 56), tiny_backbone(name))
    while not run.finished:
        last = run.advance()
    run.close()
    assert last.score >= 0.95


@pytest.mark.parametrize("name", of_each_kind())
def test_a_resumed_adapter_learns_as_one_that_went_on(name: str, tmp_path: Path) -> None:
    backbone, work = tiny_backbone(name), by_heart(name, epochs=8)
    run = TrialRun("t", tiny_trial(**BY_HEART), work, backbone)
    losses = [run.advance().train_loss]
    checkpoint.save(run, tmp_path)
    losses.append(run.advance().train_loss)
    next_state = run.state()
    while not run.finished:
        losses.append(run.advance().train_loss)
    run.close()
    assert losses[-1] < losses[0]
    again = TrialRun("t", tiny_trial(**BY_HEART), work, backbone)
    checkpoint.load(again, tmp_path)
    again.advance()
    assert all(torch.equal(tensor, next_state[key]) for key, tensor in again.state().items())
    again.close()


@pytest.mark.parametrize("name", of_each_kind(name for name in CONFIGS if name not in {"bert", "distilbert", "t5"}))
def test_a_merged_model_gives_the_adapted_logits(name: str, tmp_path: Path) -> None:
    backbone = backbone_folder(name, tmp_path / "backbone")
    adapter = adapter_folder(backbone, tmp_path / "adapter")
    whole = load_adapted(adapter)
    inputs = sample_inputs(whole)
    expected = logits(whole.answer.model, inputs)
    assert export_adapter(adapter, tmp_path / "out", Form.MERGED).difference < 1e-4 * expected.abs().max()
    names: dict[str, object] = {}
    exec(export_adapter(adapter, tmp_path / "again", Form.MERGED).loading, names)
    torch.testing.assert_close(logits(names["model"].eval(), inputs), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["llama", "gpt2", "opt", "gpt_neox", "gemma"])
def test_a_decoders_head_reads_the_last_real_token_whatever_the_padding(name: str) -> None:
    backbone = tiny_backbone(name)
    inputs = {key: each[:2] for key, each in tokens(backbone.geometry).items()}
    alone = with_head(backbone, 3, 1, pad_token_id=0).eval()
    ids = inputs["input_ids"][:, :7]
    padded = {
        "input_ids": torch.cat([ids, torch.full((2, 4), 96)], dim=1),
        "attention_mask": torch.cat([torch.ones_like(ids), torch.zeros(2, 4, dtype=ids.dtype)], dim=1),
    }
    expected = alone(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    found = with_head(backbone, 3, 1, pad_token_id=96).eval()(**padded).logits
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("name", "method"), [("llama", "krona"), ("gpt2", "krona"), ("gpt2", "lora"), ("bart", "krona")]
)
def test_pefts_own_loader_gives_the_adapted_logits(name: str, method: str, tmp_path: Path) -> None:
    """GPT-2's transposed maps have no LoKr in peft, so that a Kronecker product becomes LoRA there."""
    backbone = backbone_folder(name, tmp_path / "backbone")
    shapes = {"a_out": 24, "a_in": 1} if name == "gpt2" else {"a_out": 4, "a_in": 4}
    adapter = adapter_folder(backbone, tmp_path / "adapter", method=method, roles="output+feed_forward_out", **shapes)
    whole = load_adapted(adapter)
    inputs = sample_inputs(whole)
    expected = logits(whole.answer.model, inputs)
    names: dict[str, object] = {}
    exec(export_adapter(adapter, tmp_path / "out", Form.PEFT).loading, names)
    torch.testing.assert_close(logits(names["model"].eval(), inputs), expected, atol=1e-4, rtol=1e-4)
    assert (tmp_path / "out" / "adapter_config.json").exists()


def test_a_decoders_card_says_what_pads_a_batch(tmp_path: Path) -> None:
    adapter = adapter_folder(backbone_folder("llama", tmp_path / "backbone"), tmp_path / "adapter")
    card = read_card(adapter).model_copy(update={"pad_token_id": 5})
    assert loading(card, Form.PEFT, "out").count("num_labels=2, ignore_mismatched_sizes=True, pad_token_id=5)") == 1
