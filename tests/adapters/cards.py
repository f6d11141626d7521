"""Holds a card for an adapter on a tiny backbone, and writes folders of trained adapters."""

from pathlib import Path
from typing import Any

import torch

from krona_tune.adapters.adapter_card import AdapterCard
from krona_tune.adapters.adapter_files import save_adapter
from krona_tune.adapters.frozen_model import fingerprint, part_fingerprints
from krona_tune.adapters.inject import Adapters
from krona_tune.backbones.geometry import Geometry
from krona_tune.study.request.trial import AdapterConfig
from tests.models import build
from tests.trained_adapters import outputs, shaped, trained


def card_of(shape: Geometry, config: AdapterConfig, weights: str | None, /, **changes: Any) -> AdapterCard:
    facts: dict[str, Any] = {
        "krona_tune_version": "1.2.3",
        "task": "mnli",
        "labels": ("a", "b", "c"),
        "text_to_text": shape.text_to_text,
        "max_length": 30,
        "precision": "float32",
        "adapter": config,
        "backbone": "org/tiny",
        "model_type": shape.model_type,
        "backbone_width": shape.width,
        "backbone_layers": sum(shape.depths.values()),
        "backbone_fingerprint": weights,
        "score": 0.5,
        "metrics": {"accuracy": 0.5},
        "synthetic": True,
        "trial_id": "mnli-000",
        "study": "first",
        "seed": 5,
        "seeds": (5,),
        "command": "python run_study.py --tasks mnli",
        "params": {"scale": 1.5, "a_out": 4, "layer_norms": False, "dropout": None, "roles": "query"},
    }
    return AdapterCard(**facts | changes)


def saved(folder: Path, name: str, config: AdapterConfig | None = None, **changes: Any) -> torch.Tensor:
    """Saves a trained adapter with a changed head; returns the adapted model's outputs."""
    shape, model, base = build(name)
    config = config or shaped(shape, "krona", layer_norms=True)
    weights, parts = fingerprint(base, shape), part_fingerprints(base, shape, model)
    adapters = trained(Adapters(base, shape, config, torch.Generator().manual_seed(0)))
    inside = {id(p) for p in base.parameters()} | {id(p) for p in adapters.parameters()}
    head = {key: p for key, p in model.named_parameters() if id(p) not in inside}
    with torch.no_grad():
        for parameter in head.values():
            parameter.add_(0.1)
    tensors = adapters.state() | {f"head.{key}": p.clone() for key, p in head.items()}
    save_adapter(folder, tensors, card_of(shape, config, weights, **{"backbone_parts": parts, **changes}))
    return outputs(model, shape)


def made(name: str = "bert", **changes: Any) -> AdapterCard:
    shape = build(name)[0]
    return card_of(shape, shaped(shape, "krona"), "ab" * 32, **changes)
