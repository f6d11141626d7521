"""An adapter as files: safetensors and a small JSON that says what it is; and back onto a model."""

import json
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from krona_tune.adapters.inject import Adapters
from krona_tune.refusal import Refusal
from krona_tune.study.families import geometry
from krona_tune.study.trial import AdapterConfig, Frozen

TENSORS, CARD = "adapter.safetensors", "adapter.json"
SELECTED = "highest validation score of the study's trials; the test half was not looked at"


class AdapterCard(Frozen):
    """What an adapter is: its configuration, the backbone that it belongs to, and how it was chosen."""

    format: int = 1
    task: str
    labels: tuple[str, ...]
    adapter: AdapterConfig
    backbone: str
    model_type: str
    backbone_fingerprint: str
    score: float
    metrics: dict[str, float]
    selected_by: str = SELECTED
    synthetic: bool
    trial_id: str
    study: str
    params: dict[str, Any]


def save_adapter(folder: Path, tensors: dict[str, Tensor], card: AdapterCard) -> None:
    """Writes an adapter's folder; what was there before under the same names is replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / TENSORS)
    (folder / CARD).write_text(card.model_dump_json(indent=2) + "\n", encoding="utf-8")


def read_card(folder: Path) -> AdapterCard:
    """Raises a Refusal where there is no readable card."""
    path = folder / CARD
    try:
        return AdapterCard.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise Refusal(str(folder), f"holds no {CARD}", "give a folder such as studies/NAME/adapters/TASK") from None
    except (ValueError, ValidationError) as error:
        raise Refusal(str(path), f"can't be read: {error}", "export the adapter again") from None


def load(model: nn.Module, folder: str | Path) -> Adapters:
    """Puts a saved adapter on a model and returns it; from here on the model's outputs are the adapted ones.

    A model for sequence classification also gets the head that was trained with the adapter.

        model = AutoModelForSequenceClassification.from_pretrained(name, num_labels=2)
        adapters = krona_tune.load(model, "studies/NAME/adapters/cola")

    Args:
        model: a transformers model of the adapter's backbone; text to text, with its language-model head.
        folder: what a study leaves in `adapters/<task>`.

    Raises:
        Refusal: the files can't be read, or the adapter belongs to another kind or size of backbone.
    """
    folder = Path(folder)
    card = read_card(folder)
    config: Any = model.config
    if config.model_type != card.model_type:
        raise Refusal(
            str(folder), f"belongs to a {card.model_type} ({card.backbone}), the model is a {config.model_type}"
        )
    try:
        tensors = load_file(folder / TENSORS)
    except (OSError, SafetensorError) as error:
        raise Refusal(str(folder / TENSORS), f"can't be read: {error}", "export the adapter again") from None
    shape = geometry(config.to_dict())
    base: nn.Module = model if shape.text_to_text else getattr(model, "base_model", model)
    adapters = Adapters(base, shape, card.adapter, torch.Generator())
    try:
        adapters.load_state({name: tensor for name, tensor in tensors.items() if not name.startswith("head.")})
        adapters.round_norms()
        _load_head(model, {n.removeprefix("head."): t for n, t in tensors.items() if n.startswith("head.")})
    except ValueError as error:
        adapters.detach()
        raise Refusal(str(folder), f"does not fit the model: {error}", f"it was trained on {card.backbone}") from None
    return adapters


def _load_head(model: nn.Module, head: dict[str, Tensor]) -> None:
    own = dict(model.named_parameters())
    if not any(name in own for name in head):
        return
    for name, tensor in head.items():
        if own[name].shape != tensor.shape:
            sizes = f"{name} is {tuple(tensor.shape)}, the model takes {tuple(own[name].shape)}"
            raise ValueError(f"{sizes}; num_labels must be the task's")
    with torch.no_grad():
        for name, tensor in head.items():
            own[name].copy_(tensor)
