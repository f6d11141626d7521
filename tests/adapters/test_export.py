"""An adapter's folder comes back onto a model, head and all, and onto no other."""

import json
from pathlib import Path

import pytest
import torch

import krona_tune
from krona_tune.adapters.export import CARD, TENSORS, AdapterCard, save_adapter
from krona_tune.adapters.inject import Adapters
from krona_tune.refusal import Refusal
from krona_tune.study.trial import AdapterConfig
from tests.adapters.test_inject import outputs, shaped, trained
from tests.models import CONFIGS, build

CARD_OF = {
    "task": "mnli",
    "labels": ("a", "b", "c"),
    "backbone": "tiny",
    "backbone_fingerprint": "00",
    "score": 0.5,
    "metrics": {"accuracy": 0.5},
    "synthetic": True,
    "trial_id": "mnli-000",
    "study": "s",
    "params": {"scale": 1.5},
}


def saved(folder: Path, name: str, config: AdapterConfig | None = None) -> torch.Tensor:
    """Saves a trained adapter with a changed head; returns the adapted model's outputs."""
    shape, model, base = build(name)
    config = config or shaped(shape, "krona", layer_norms=True)
    adapters = trained(Adapters(base, shape, config, torch.Generator().manual_seed(0)))
    inside = {id(p) for p in base.parameters()} | {id(p) for p in adapters.parameters()}
    head = {key: p for key, p in model.named_parameters() if id(p) not in inside}
    with torch.no_grad():
        for parameter in head.values():
            parameter.add_(0.1)
    tensors = adapters.state() | {f"head.{key}": p.clone() for key, p in head.items()}
    save_adapter(folder, tensors, AdapterCard(**CARD_OF, adapter=config, model_type=shape.model_type))
    return outputs(model, shape)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_saved_adapter_gives_its_outputs_on_a_fresh_model(name: str, tmp_path: Path) -> None:
    adapted = saved(tmp_path, name)
    shape, model, _ = build(name)
    bare = outputs(model, shape)
    adapters = krona_tune.load(model, tmp_path)
    assert torch.equal(outputs(model, shape), adapted)
    adapters.detach()
    if shape.text_to_text:
        assert torch.equal(outputs(model, shape), bare)


@pytest.mark.parametrize("name", ["t5", "bert", "deberta", "deberta-v3"])
def test_a_bfloat16_model_takes_trained_norms(name: str, tmp_path: Path) -> None:
    adapted = saved(tmp_path, name)
    shape, model, _ = build(name)
    model.bfloat16()
    krona_tune.load(model, tmp_path)
    low = outputs(model, shape)
    assert low.dtype == torch.bfloat16
    assert (low.float() - adapted).norm() < 0.1 * adapted.norm()


def test_a_base_model_takes_the_adapter_without_the_head(tmp_path: Path) -> None:
    saved(tmp_path, "bert")
    _, _, base = build("bert")
    ids = torch.tensor([[5, 6, 7]])
    bare = base(ids).last_hidden_state
    krona_tune.load(base, str(tmp_path))
    assert not torch.allclose(base(ids).last_hidden_state, bare, atol=1e-3)


def test_another_backbone_or_another_number_of_labels_is_refused_and_left_alone(tmp_path: Path) -> None:
    saved(tmp_path, "bert")
    with pytest.raises(Refusal, match=r"belongs to a bert \(tiny\), the model is a roberta"):
        krona_tune.load(build("roberta")[1], tmp_path)
    shape, model, _ = build("bert", outputs=2)
    before = outputs(model, shape)
    with pytest.raises(Refusal, match=r"classifier.bias is \(3,\), the model takes \(2,\); num_labels must be"):
        krona_tune.load(model, tmp_path)
    assert torch.equal(outputs(model, shape), before)


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    model = build("bert")[1]
    with pytest.raises(Refusal, match=r"holds no adapter\.json; give a folder such as studies/NAME/adapters/TASK"):
        krona_tune.load(model, tmp_path)
    saved(tmp_path, "bert")
    (tmp_path / TENSORS).write_bytes(b"pickle?")
    with pytest.raises(Refusal, match=r"adapter\.safetensors: can't be read"):
        krona_tune.load(model, tmp_path)
    card = json.loads((tmp_path / CARD).read_text())
    (tmp_path / CARD).write_text(json.dumps(card | {"surprise": 1}))
    with pytest.raises(Refusal, match=r"adapter\.json: can't be read"):
        krona_tune.load(model, tmp_path)
